"""Validation with the origin, and what its answers change (RFC 9111 sections 3.2, 4.3.1, 4.3.3, 4.3.4)."""

from ..case import CACHE, FRESH, STALE, TAG, VALIDATED, Case, Exchange, answer, case, validated

_MODIFIED = "Last-Modified: Wed, 01 Jan 2025 12:00:00 GMT"
_BEFORE = ("Cache-Control: max-age=30", "Age: 60", TAG)


def _updates(name: str, stored: str, sent: str, kept: str) -> Case:
    """A 304 that carries a line: what the client gets then, and from the store afterwards."""
    return case(
        f"304-{name}",
        "9111 3.2",
        Exchange(origin=answer(*_BEFORE, stored)),
        Exchange(origin=validated(FRESH, TAG, sent), source=VALIDATED, has=(kept,)),
        Exchange(source=CACHE, has=(kept,)),
    )


CASES = [
    case(
        "validation-by-tag",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated(FRESH, TAG), source=VALIDATED, saw=('If-None-Match: "v1"',)),
    ),
    case(
        "validation-by-weak-tag",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, 'ETag: W/"v1"')),
        Exchange(origin=validated(FRESH), source=VALIDATED, saw=('If-None-Match: W/"v1"',)),
    ),
    # aiohttp sends no octets that are no UTF-8: the tag would be another one.
    case(
        "no-validation-by-tag-that-cannot-be-sent",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, 'ETag: "v\xe9"')),
        Exchange(origin=answer(FRESH), saw_not=("If-None-Match",)),
        Exchange(source=CACHE),
    ),
    case(
        "validation-by-date",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, _MODIFIED)),
        Exchange(
            origin=validated(FRESH),
            source=VALIDATED,
            saw=("If-Modified-Since: Wed, 01 Jan 2025 12:00:00 GMT",),
            saw_not=("If-None-Match",),
        ),
    ),
    case(
        "validation-by-both",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, TAG, _MODIFIED)),
        Exchange(
            origin=validated(FRESH, TAG),
            source=VALIDATED,
            saw=('If-None-Match: "v1"', "If-Modified-Since: Wed, 01 Jan 2025 12:00:00 GMT"),
        ),
    ),
    case(
        "validation-by-nothing",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE)),
        Exchange(origin=answer(FRESH), saw_not=("If-None-Match", "If-Modified-Since")),
    ),
    case(
        "validation-fails",
        "9111 4.3.3",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=answer(FRESH, 'ETag: "v2"'), has=('ETag: "v2"',)),
        Exchange(source=CACHE, has=('ETag: "v2"',)),
    ),
    case(
        "validation-finds-it-gone",
        "9111 4.3.3",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=answer(status=410)),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "validation-not-the-clients-conditions",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(
            lines=('If-None-Match: "mine"',),
            origin=validated(FRESH, TAG),
            source=VALIDATED,
            status=200,
            saw=('If-None-Match: ~"v1"',),
        ),
    ),
    case(
        "validation-204-has-none",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, status=204)),
        Exchange(origin=answer(FRESH), saw_not=("If-None-Match",)),
    ),
    case(
        "validation-of-an-error",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, TAG, status=404)),
        Exchange(origin=validated(FRESH, TAG), source=VALIDATED),
        Exchange(source=CACHE),
    ),
    case(
        "validation-keeps-on",
        "9111 4.3.4",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated(*STALE, TAG), source=VALIDATED),
        Exchange(origin=validated(*STALE, TAG), source=VALIDATED, saw=('If-None-Match: "v1"',)),
    ),
    case(
        "304-gives-the-age",
        "9111 4.2.3",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated("Cache-Control: max-age=30", "Age: 60", TAG), source=VALIDATED),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "304-gives-the-date",
        "9111 4.3.4",
        Exchange(origin=answer("Cache-Control: max-age=30", "Date: {-60}", TAG)),
        Exchange(origin=validated(FRESH, TAG, "Date: {-5}"), source=VALIDATED, has=("Date",)),
        Exchange(source=CACHE, has=("Age: ~^[5-9]$",)),
    ),
    case(
        "304-without-freshness-keeps-the-old",
        "9111 3.2",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated(TAG), source=VALIDATED, has=("Cache-Control: max-age=30",)),
        Exchange(source=CACHE),
    ),
    case(
        "304-by-date-updates",
        "9111 4.3.4",
        Exchange(origin=answer(*STALE, _MODIFIED)),
        Exchange(origin=validated(FRESH, "X-A: 2"), source=VALIDATED, has=("X-A: 2",)),
        Exchange(source=CACHE, has=("X-A: 2", _MODIFIED)),
    ),
    case(
        "304-leaves-what-it-does-not-name",
        "9111 3.2",
        Exchange(origin=answer(*_BEFORE, "X-A: 1", "X-B: 1")),
        Exchange(origin=validated(FRESH, TAG, "X-B: 2"), source=VALIDATED, has=("X-A: 1", "X-B: 2")),
        Exchange(source=CACHE, has=("X-A: 1", "X-B: 2")),
    ),
    case(
        "304-replaces-every-line",
        "9111 3.2",
        Exchange(origin=answer(*_BEFORE, "X-A: 1", "X-A: 2")),
        Exchange(origin=validated(FRESH, TAG, "X-A: 3"), source=VALIDATED, has=("X-A: 3",)),
        Exchange(source=CACHE, has=("X-A: 3",)),
    ),
    case(
        "304-several-lines",
        "9111 3.2",
        Exchange(origin=answer(*_BEFORE, "X-A: 1")),
        Exchange(origin=validated(FRESH, TAG, "X-A: 2", "x-a: 3"), source=VALIDATED, has=("X-A: 2, 3",)),
    ),
    case(
        "304-takes-over-no-hop-by-hop",
        "9111 3.2",
        Exchange(origin=answer(*_BEFORE, "X-A: 1")),
        Exchange(
            origin=validated(FRESH, TAG, "Connection: x-a", "X-A: 2", "Keep-Alive: timeout=5"),
            source=VALIDATED,
            has=("X-A: 1",),
        ),
        Exchange(source=CACHE, has=("X-A: 1",)),
    ),
    case(
        "304-from-a-weak-one-keeps-the-bytes",
        "9111 4.3.4",
        Exchange(origin=answer(*STALE, 'ETag: W/"v1"')),
        Exchange(origin=validated(FRESH, 'ETag: W/"v1"'), source=VALIDATED),
        Exchange(source=CACHE),
    ),
    _updates("updates-own-field", "X-A: 1", "X-A: 2", "X-A: 2"),
    _updates("updates-in-any-case", "X-A: 1", "x-A: 2", "X-A: 2"),
    _updates("adds-a-field", "X-B: 1", "X-A: 2", "X-A: 2"),
    _updates("updates-expires", "Expires: {-60}", "Expires: {+7200}", "Expires: ~GMT"),
    _updates("updates-content-foo", "Content-Foo: 1", "Content-Foo: 2", "Content-Foo: 2"),
    _updates("updates-csp", "Content-Security-Policy: a", "Content-Security-Policy: b", "Content-Security-Policy: b"),
    _updates(
        "updates-content-location",
        "Content-Location: {path}/a",
        "Content-Location: {path}/b",
        "Content-Location: {path}/b",
    ),
    _updates(
        "updates-clear-site-data",
        'Clear-Site-Data: "cache"',
        'Clear-Site-Data: "cookies"',
        'Clear-Site-Data: "cookies"',
    ),
    _updates("updates-no-content-encoding", "Content-Encoding: foo", "Content-Encoding: bar", "Content-Encoding: foo"),
    _updates("updates-no-content-range", "X-B: 1", "Content-Range: bytes 0-1/2", "X-B: 1"),
    case(
        "304-content-length-is-not-the-bodys",
        "9111 3.2",
        Exchange(origin=answer(*_BEFORE, body=b"0123456789")),
        Exchange(origin=validated(FRESH, TAG, "Content-Length: 36"), source=VALIDATED, has=("Content-Length: 10",)),
        Exchange(source=CACHE, has=("Content-Length: 10",)),
    ),
    case(
        "304-turns-it-private",
        "9111 5.2.2.7",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated("Cache-Control: private, max-age=3600", TAG), source=VALIDATED),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "304-asked-with-a-reload",
        "9111 5.2.1.4",
        Exchange(origin=answer(FRESH, TAG)),
        Exchange(lines=("Cache-Control: no-cache",), origin=validated(FRESH, TAG), source=VALIDATED),
        Exchange(source=CACHE),
    ),
]
