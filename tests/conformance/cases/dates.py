"""Dates: the three forms, their names in any case, and nothing else (RFC 9110 section 5.6.7, RFC 9111 section 4.2)."""

from ..case import ORIGIN, reuse

_FAR = "19 Nov 2095 08:49:37"
_ACCEPTED = {
    "imf": f"Sat, {_FAR} GMT",
    "imf-lower": f"sat, {_FAR} gmt".lower(),
    "imf-upper": f"Sat, {_FAR} GMT".upper(),
    "year-2099": "Sat, 19 Nov 2099 08:49:37 GMT",
    "beyond-32-bits": "Mon, 19 Nov 2140 08:49:37 GMT",
    "rfc850": "{+3600|rfc850}",
    "asctime": "{+3600|asctime}",
    "leap-second": "Sat, 31 Dec 2095 23:59:60 GMT",
}
_REFUSED = {
    "zone-est": f"Sat, {_FAR} EST",
    "zone-utc": f"Sat, {_FAR} UTC",
    "zone-offset": f"Sat, {_FAR} +0000",
    "no-zone": f"Sat, {_FAR}",
    "no-comma": f"Sat {_FAR} GMT",
    "no-day-name": f"{_FAR} GMT",
    "two-digit-year": "Sat, 19 Nov 95 08:49:37 GMT",
    "one-digit-day": "Thu, 3 Nov 2095 08:49:37 GMT",
    "one-digit-hour": "Sat, 19 Nov 2095 8:49:37 GMT",
    "two-spaces": "Sat, 19 Nov  2095 08:49:37 GMT",
    "dashes": "Sat, 19-Nov-2095 08:49:37 GMT",
    "periods": "Sat, 19 Nov 2095 08.49.37 GMT",
    "hour-24": "Sat, 19 Nov 2095 24:49:37 GMT",
    "minute-60": "Sat, 19 Nov 2095 08:60:37 GMT",
    "day-31-of-november": "Sat, 31 Nov 2095 08:49:37 GMT",
    "month-unknown": "Sat, 19 Foo 2095 08:49:37 GMT",
    "iso-8601": "2095-11-19T08:49:37Z",
    "epoch": "3970025377",
    "suffix": f"Sat, {_FAR} GMT; x",
    "quoted": f'"Sat, {_FAR} GMT"',
}
CASES = [
    *(reuse(f"expires-{name}", "9110 5.6.7", f"Expires: {value}") for name, value in _ACCEPTED.items()),
    *(
        reuse(f"expires-refused-{name}", "9111 5.3", f"Expires: {value}", source=ORIGIN)
        for name, value in _REFUSED.items()
    ),
    reuse("date-in-rfc850", "9110 5.6.7", "Cache-Control: max-age=60", "Date: {-120|rfc850}", source=ORIGIN),
    reuse("date-in-asctime", "9110 5.6.7", "Cache-Control: max-age=60", "Date: {-120|asctime}", source=ORIGIN),
    reuse("date-in-lower-case", "9111 4.2", "Cache-Control: max-age=60", "Date: {-120|lower}", source=ORIGIN),
    reuse("date-invalid", "9110 6.6.1", "Cache-Control: max-age=60", "Date: yesterday"),
]
