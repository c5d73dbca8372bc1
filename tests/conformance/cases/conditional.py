"""Conditions of clients, answered from what is stored (RFC 9110 section 13, RFC 9111 section 4.3.2)."""

from ..case import (
    CACHE,
    FRESH,
    ORIGIN,
    STALE,
    TAG,
    VALIDATED,
    Case,
    Exchange,
    answer,
    case,
    reuse,
    validated,
)

_MODIFIED = "Last-Modified: Wed, 01 Jan 2025 12:00:00 GMT"


def _asked(
    name: str,
    clause: str,
    stored: tuple[str, ...],
    asked: tuple[str, ...],
    status: int,
    has: tuple[str, ...] = (),
    lacks: tuple[str, ...] = (),
) -> Case:
    """A conditional request to a fresh response."""
    return case(
        name,
        clause,
        Exchange(origin=answer(FRESH, *stored)),
        Exchange(lines=asked, source=CACHE, status=status, has=has, lacks=lacks),
    )


def _tag(name: str, stored: str, asked: str, status: int, clause: str = "9110 13.1.2") -> Case:
    return _asked(f"inm-{name}", clause, (f"ETag: {stored}",), (f"If-None-Match: {asked}",), status)


def _since(name: str, asked: str, status: int, stored: str = _MODIFIED) -> Case:
    return _asked(f"ims-{name}", "9110 13.1.3", (stored,), (f"If-Modified-Since: {asked}",), status)


CASES = [
    _tag("strong", '"v1"', '"v1"', 304),
    _tag("other", '"v1"', '"v2"', 200),
    _tag("weak-both", 'W/"v1"', 'W/"v1"', 304, "9110 8.8.3.2"),
    _tag("weak-stored", 'W/"v1"', '"v1"', 304, "9110 8.8.3.2"),
    _tag("weak-asked", '"v1"', 'W/"v1"', 304, "9110 8.8.3.2"),
    _tag("first-of-several", '"v1"', '"v1", "v2", "v3"', 304),
    _tag("last-of-several", '"v1"', '"v3", W/"v2", "v1"', 304),
    _tag("none-of-several", '"v1"', '"v3", "v2"', 200),
    _tag("no-space-in-list", '"v1"', '"v3","v1"', 304),
    _tag("comma-inside", '"a,b"', '"a,b"', 304),
    _tag("comma-inside-others", '"b"', '"a,b"', 200),
    _tag("empty-tag", '""', '""', 304, "9110 8.8.3"),
    _tag("obs-text", '"v\xe9"', '"v\xe9"', 304, "9110 8.8.3"),
    _tag("obs-text-other", '"v\xe9"', '"v\xe8"', 200, "9110 8.8.3"),
    _tag("any", '"v1"', "*", 304),
    _tag("case-counts", '"v1"', '"V1"', 200, "9110 8.8.3.2"),
    _tag("lower-w-is-no-mark", '"v1"', 'w/"v1"', 200, "9110 8.8.3"),
    _tag("prefix-is-another", '"v1"', '"v"', 200),
    _asked("inm-any-without-a-tag", "9110 13.1.2", (), ("If-None-Match: *",), 304),
    _asked("inm-on-two-lines", "9110 5.3", (TAG,), ('If-None-Match: "v2"', 'If-None-Match: "v1"'), 304),
    _asked("inm-where-there-is-no-tag", "9110 13.1.2", (), ('If-None-Match: "v1"',), 200),
    _since("equal", "Wed, 01 Jan 2025 12:00:00 GMT", 304),
    _since("later", "Thu, 02 Jan 2025 12:00:00 GMT", 304),
    _since("earlier", "Wed, 01 Jan 2025 11:59:59 GMT", 200),
    _since("rfc850", "Wednesday, 01-Jan-25 12:00:00 GMT", 304),
    _since("asctime", "Wed Jan  1 12:00:00 2025", 304),
    _since("no-date", "a while ago", 200),
    _since("empty", "", 200),
    _since("two-dates", "Wed, 01 Jan 2025 12:00:00 GMT, Thu, 02 Jan 2025 12:00:00 GMT", 200),
    _asked(
        "ims-two-lines",
        "9110 13.1.3",
        (_MODIFIED,),
        tuple(f"If-Modified-Since: {day}" for day in ("{-1}", "{-1}")),
        200,
    ),
    _asked("ims-against-date-later", "9111 4.3.2", ("Date: {-100}",), ("If-Modified-Since: {-10}",), 304),
    _asked("ims-against-date-earlier", "9111 4.3.2", ("Date: {-100}",), ("If-Modified-Since: {-1000}",), 200),
    _asked(
        "inm-before-ims-other-tag",
        "9110 13.1.3",
        (TAG, _MODIFIED),
        ('If-None-Match: "v2"', "If-Modified-Since: {-10}"),
        200,
    ),
    _asked(
        "inm-before-ims-same-tag",
        "9110 13.1.3",
        (TAG, _MODIFIED),
        ('If-None-Match: "v1"', "If-Modified-Since: Wed, 01 Jan 2020 12:00:00 GMT"),
        304,
    ),
    # What a 304 of our own holds.
    _asked(
        "304-holds-what-a-200-would",
        "9110 15.4.5",
        (TAG, "Vary: X-A", "Content-Location: {path}/x", "Expires: {+7200}"),
        ('If-None-Match: "v1"',),
        304,
        has=(FRESH, TAG, "Vary: X-A", "Content-Location: {path}/x", "Expires", "Date", "Age"),
    ),
    _asked(
        "304-leaves-metadata-out",
        "9110 15.4.5",
        (TAG, "Content-Type: text/plain", "Content-Language: en"),
        ('If-None-Match: "v1"',),
        304,
        lacks=("Content-Type", "Content-Language", "Transfer-Encoding"),
    ),
    _asked(
        "304-without-a-tag-keeps-last-modified",
        "9110 15.4.5",
        (_MODIFIED,),
        ("If-Modified-Since: {-9}",),
        304,
        has=(_MODIFIED,),
    ),
    case(
        "condition-on-an-error-means-nothing",
        "9110 13.2.1",
        Exchange(origin=answer(FRESH, TAG, status=404)),
        Exchange(lines=('If-None-Match: "v1"',), source=CACHE, status=404),
    ),
    case(
        "condition-of-head",
        "9110 13.1.2",
        Exchange(origin=answer(FRESH, TAG)),
        Exchange(method="HEAD", lines=('If-None-Match: "v1"',), source=CACHE, status=304, has=(TAG,)),
    ),
    case(
        "condition-of-one-variant",
        "9111 4.3.2",
        Exchange(lines=("X-A: 1",), origin=answer(FRESH, "Vary: X-A", 'ETag: "a1"')),
        Exchange(lines=("X-A: 2",), origin=answer(FRESH, "Vary: X-A", 'ETag: "a2"')),
        Exchange(lines=("X-A: 2", 'If-None-Match: "a2"'), source=CACHE, status=304, has=('ETag: "a2"',)),
        Exchange(lines=("X-A: 2", 'If-None-Match: "a1"'), source=CACHE, status=200),
    ),
    case(
        "condition-on-a-miss-stores-no-304",
        "9111 3.3",
        Exchange(lines=('If-None-Match: "v1"',), origin=answer(FRESH, TAG, body=b"whole"), source=None),
        Exchange(origin=answer(FRESH, TAG, body=b"whole"), source=None, status=200, content=b"whole"),
    ),
    case(
        "condition-of-the-client-holds-after-validation",
        "9111 4.3.3",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(lines=('If-None-Match: "v1"',), origin=validated(FRESH, TAG), source=VALIDATED, status=304),
        Exchange(source=CACHE),
    ),
    case(
        "condition-of-the-client-fails-after-validation",
        "9111 4.3.3",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(lines=('If-None-Match: "other"',), origin=validated(FRESH, TAG), source=VALIDATED, status=200),
    ),
    case(
        "if-match-is-for-the-origin",
        "9111 4.3.2",
        Exchange(origin=answer(FRESH, TAG)),
        Exchange(lines=('If-Match: "v2"',), origin=answer(status=412), saw=('If-Match: "v2"',)),
        Exchange(origin=answer(FRESH, TAG, body=b"x"), source=None, status=200),
    ),
    case(
        "if-unmodified-since-is-for-the-origin",
        "9111 4.3.2",
        Exchange(origin=answer(FRESH, _MODIFIED)),
        Exchange(
            lines=("If-Unmodified-Since: Wed, 01 Jan 2020 12:00:00 GMT",),
            origin=answer(status=412),
            saw=("If-Unmodified-Since: Wed, 01 Jan 2020 12:00:00 GMT",),
        ),
    ),
    reuse("if-range-without-range-means-nothing", "9110 13.1.5", FRESH, TAG, again=('If-Range: "v2"',)),
    reuse("stale-is-not-confirmed-by-us", "9111 4.3.2", *STALE, TAG, again=('If-None-Match: "v2"',), source=ORIGIN),
]
