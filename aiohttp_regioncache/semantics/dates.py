"""HTTP dates (RFC 9110 5.6.7), independent of locale and time zone."""

import functools
import re
import time
from datetime import date

from .fields import OWS

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(_MONTHS, start=1)}

_DAY = "(?:" + "|".join(_DAYS) + ")"
_LONG_DAY = "(?:" + "|".join(_LONG_DAYS) + ")"
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

# RFC 9111 4.2: a cache matches the names without regard to case.
_FLAGS = re.IGNORECASE | re.ASCII
_IMF_FIXDATE = re.compile(f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT", _FLAGS)
_RFC_850 = re.compile(f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT", _FLAGS)
_ASCTIME = re.compile(f"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})", _FLAGS)

_IMF_LENGTH = len("Sun, 06 Nov 1994 08:49:37 GMT")

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_SECONDS = 86400
_LAST_SECOND = (date.max.toordinal() - _EPOCH_DAY + 1) * _DAY_SECONDS - 1


def parse_date(value: str, *, now: float | None = None) -> float | None:
    """Read an HTTP-date as seconds since the epoch; None when it is none of the three formats.

    The name of the day is not compared with the date. `now` (seconds, default: the clock) places the
    two-digit year of the RFC 850 format: more than 50 years ahead means the past century (RFC 9110 5.6.7).
    """
    text = value.strip(OWS)
    if len(text) == _IMF_LENGTH:
        return _parse_imf(text)
    if match := _ASCTIME.fullmatch(text):
        return _seconds(int(match["year"]), match)
    if match := _RFC_850.fullmatch(text):
        return _seconds(_full_year(int(match["year"]), time.time() if now is None else now), match)
    return None


@functools.lru_cache(maxsize=1024)  # many answers are of the same second
def _parse_imf(text: str) -> float | None:
    match = _IMF_FIXDATE.fullmatch(text)
    return None if match is None else _seconds(int(match["year"]), match)


def _full_year(year: int, now: float) -> int:
    this_year = time.gmtime(now).tm_year
    candidate = this_year - this_year % 100 + year
    if candidate > this_year + 50:
        return candidate - 100
    return candidate + 100 if candidate <= this_year - 50 else candidate


def _seconds(year: int, match: re.Match[str]) -> float | None:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if hour > 23 or minute > 59 or second > 60:  # 60: a leap second is allowed (RFC 5322 3.3)
        return None
    try:
        day = date(year, _MONTH_NUMBERS[match["month"].lower()], int(match["day"]))
    except ValueError:
        return None
    return float((day.toordinal() - _EPOCH_DAY) * _DAY_SECONDS + hour * 3600 + minute * 60 + second)


def format_date(epoch_seconds: float) -> str:
    """Write seconds since the epoch as an IMF-fixdate, rounded down (RFC 9110 5.6.7); 1970 to 9999."""
    return _format(int(min(max(epoch_seconds, 0), _LAST_SECOND)))


@functools.lru_cache(maxsize=1024)
def _format(whole_seconds: int) -> str:
    days, seconds = divmod(whole_seconds, _DAY_SECONDS)
    day = date.fromordinal(days + _EPOCH_DAY)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{_DAYS[day.weekday()]}, {day.day:02} {_MONTHS[day.month - 1]} {day.year:04} {clock} GMT"
