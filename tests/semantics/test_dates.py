from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.dates import format_date, parse_date

NOVEMBER_1994 = 784111777.0
IN_2026 = 1_767_225_600.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", NOVEMBER_1994, id="imf-fixdate"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", NOVEMBER_1994, id="rfc850"),
        pytest.param("Sun Nov  6 08:49:37 1994", NOVEMBER_1994, id="asctime"),
        pytest.param("Sun Nov 16 08:49:37 1994", NOVEMBER_1994 + 864000, id="asctime-two-digit-day"),
        pytest.param(" Sun, 06 Nov 1994 08:49:37 GMT\t", NOVEMBER_1994, id="white-space-around"),
        pytest.param("SUN, 06 nov 1994 08:49:37 gMT", NOVEMBER_1994, id="9111-4.2-any-case"),
        pytest.param("Mon, 06 Nov 1994 08:49:37 GMT", NOVEMBER_1994, id="weekday-not-compared"),
        pytest.param(
            "Thursday, 18-Aug-50 02:01:18 GMT",
            datetime(2050, 8, 18, 2, 1, 18, tzinfo=UTC).timestamp(),
            id="9110-5.6.7-two-digit-year-ahead",
        ),
        pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", 0.0, id="epoch"),
        pytest.param("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800.0, id="leap-second"),
        pytest.param(
            "Sun, 21 Nov 2286 04:46:39 GMT",
            datetime(2286, 11, 21, 4, 46, 39, tzinfo=UTC).timestamp(),
            id="far-future",
        ),
    ],
)
def test_valid_dates(value: str, seconds: float) -> None:
    assert parse_date(value, now=IN_2026) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "-1",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 2050 02:01:18",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 8 Aug 2050 02:01:18 GMT",
        "Thu, 31 Feb 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 24:00:00 GMT",
        "Thu, 18 Aug 2050 02:60:18 GMT",
        "Thu, 18 Aug 2050 02:01:61 GMT",
        "Thu, 18 Aug 0000 02:01:18 GMT",
        "Xxx, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Abc 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        "Thu Aug 8 02:01:18 2050",
        "Thu, ١٨ Aug 2050 02:01:18 GMT",
    ],
)
def test_anything_else_is_no_date(value: str) -> None:
    assert parse_date(value) is None


@pytest.mark.parametrize(("two_digits", "year"), [("76", 2076), ("77", 1977), ("26", 2026), ("99", 1999)])
def test_two_digit_years_lie_at_most_fifty_years_ahead(two_digits: str, year: int) -> None:
    expected = datetime(year, 1, 1, tzinfo=UTC).timestamp()
    assert parse_date(f"Friday, 01-Jan-{two_digits} 00:00:00 GMT", now=IN_2026) == expected


def test_two_digit_years_cross_the_century() -> None:
    in_2080 = datetime(2080, 6, 1, tzinfo=UTC).timestamp()
    assert parse_date("Friday, 01-Jan-10 00:00:00 GMT", now=in_2080) == datetime(2110, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (NOVEMBER_1994 + 0.9, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (-5.0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (float("inf"), "Fri, 31 Dec 9999 23:59:59 GMT"),
    ],
)
def test_format_date(seconds: float, text: str) -> None:
    assert format_date(seconds) == text


@settings(max_examples=100)
@given(st.integers(min_value=0, max_value=253402300799))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert format_date(seconds) == formatdate(seconds, usegmt=True)
    assert parse_date(format_date(seconds)) == seconds


@pytest.mark.parametrize("day", range(7))
def test_every_weekday_in_every_format(day: int) -> None:
    when = datetime(2026, 1, 1 + day, tzinfo=UTC)
    for layout in ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"):
        assert parse_date(when.strftime(layout), now=IN_2026) == when.timestamp()


@pytest.mark.parametrize("month", range(1, 13))
def test_every_month(month: int) -> None:
    when = datetime(2026, month, 28, 23, 59, 59, tzinfo=UTC).timestamp()
    assert format_date(when) == formatdate(when, usegmt=True)
    assert parse_date(format_date(when)) == when
