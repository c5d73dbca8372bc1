"""Ranges: cut from whole responses, stored, combined, completed (RFC 9110 section 14, RFC 9111 sections 3.3, 3.4)."""

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
    ranged,
    validated,
)

_TEN = b"0123456789"
_WHOLE = answer(FRESH, TAG, "Last-Modified: {-86400}", "X-A: 1", body=_TEN)
_OTHER = b"abcdefghij"


def _cut(name: str, asked: str, content: bytes, content_range: str, clause: str = "9110 14.2") -> Case:
    return case(
        f"range-{name}",
        clause,
        Exchange(origin=_WHOLE),
        Exchange(
            lines=(f"Range: {asked}",),
            source=CACHE,
            status=206,
            content=content,
            has=(f"Content-Range: bytes {content_range}/10", f"Content-Length: {len(content)}", TAG, FRESH, "X-A: 1"),
        ),
        Exchange(source=CACHE, lacks=("Content-Range",)),
    )


def _ignored(name: str, *lines: str, clause: str = "9110 14.2", method: str = "GET") -> Case:
    """A range that means nothing: the whole is given."""
    return case(
        f"range-{name}",
        clause,
        Exchange(origin=_WHOLE),
        Exchange(method=method, lines=lines, source=CACHE, status=200, lacks=("Content-Range",)),
    )


def _unsatisfiable(name: str, asked: str) -> Case:
    return case(
        f"range-{name}",
        "9110 15.5.17",
        Exchange(origin=_WHOLE),
        Exchange(lines=(f"Range: {asked}",), source=CACHE, status=416, has=("Content-Range: bytes */10",)),
    )


def _if_range(name: str, condition: str, status: int, origin_lines: tuple[str, ...] = (TAG,)) -> Case:
    return case(
        f"if-range-{name}",
        "9110 13.1.5",
        Exchange(origin=answer(FRESH, *origin_lines, body=_TEN)),
        Exchange(
            lines=("Range: bytes=0-3", f"If-Range: {condition}"),
            source=CACHE,
            status=status,
            content=b"0123" if status == 206 else _TEN,
        ),
    )


def _part(name: str, stored: str, asked: str, content: bytes, content_range: str) -> Case:
    """A part that is stored, and a request for what lies in it."""
    return case(
        f"partial-{name}",
        "9111 3.3",
        Exchange(lines=(f"Range: {stored}",), origin=ranged(FRESH, TAG, "X-A: 1"), status=206, source=None),
        Exchange(
            lines=(f"Range: {asked}",),
            source=CACHE,
            status=206,
            content=content,
            has=(f"Content-Range: bytes {content_range}/10", "X-A: 1", TAG),
        ),
    )


def _first(range_: str, *lines: str, body: bytes = _TEN) -> Exchange:
    return Exchange(lines=(f"Range: bytes={range_}",), origin=ranged(*lines, body=body), status=206, source=None)


CASES = [
    _cut("first-last", "bytes=0-3", b"0123", "0-3"),
    _cut("one-octet", "bytes=0-0", b"0", "0-0"),
    _cut("last-octet", "bytes=9-9", b"9", "9-9"),
    _cut("open", "bytes=4-", b"456789", "4-9"),
    _cut("everything", "bytes=0-", _TEN, "0-9"),
    _cut("suffix", "bytes=-3", b"789", "7-9"),
    _cut("suffix-longer-than-all", "bytes=-100", _TEN, "0-9", "9110 14.1.2"),
    _cut("last-beyond-the-end", "bytes=8-100", b"89", "8-9", "9110 14.1.2"),
    _cut("unit-in-any-case", "Bytes=0-3", b"0123", "0-3", "9110 14.1"),
    _ignored("of-no-number", "Range: bytes=a-b", clause="9110 14.1.1"),
    _ignored("backwards", "Range: bytes=5-2", clause="9110 14.1.1"),
    _ignored("without-dash", "Range: bytes=5", clause="9110 14.1.1"),
    _ignored("empty", "Range: bytes=", clause="9110 14.1.1"),
    _ignored("negative", "Range: bytes=--5", clause="9110 14.1.1"),
    _ignored("of-another-unit", "Range: lines=0-3"),
    _ignored("without-unit", "Range: 0-3"),
    _ignored("of-head", "Range: bytes=0-3", method="HEAD"),
    _unsatisfiable("beyond", "bytes=10-"),
    _unsatisfiable("far-beyond", "bytes=999999999999-"),
    _unsatisfiable("suffix-of-nothing", "bytes=-0"),
    _unsatisfiable("all-beyond", "bytes=10-11, 20-"),
    case(
        "range-several",
        "9110 15.3.7.2",
        Exchange(origin=_WHOLE),
        Exchange(
            lines=("Range: bytes=0-1, 4-5",),
            source=CACHE,
            status=206,
            has=("Content-Type: ~^multipart/byteranges",),
            lacks=("Content-Range",),
            parts=(b"bytes 0-1/10", b"01", b"bytes 4-5/10", b"45"),
        ),
    ),
    case(
        "range-several-one-satisfiable",
        "9110 14.2",
        Exchange(origin=_WHOLE),
        Exchange(lines=("Range: bytes=0-3, 20-30",), source=CACHE, status=206, parts=(b"0123",)),
    ),
    case(
        "range-hundreds-are-refused-or-whole",
        "9110 14.2",
        Exchange(origin=_WHOLE),
        Exchange(
            lines=("Range: bytes=" + ",".join(["0-"] * 500),),
            source=CACHE,
            status=(200, 206, 416),
            has=(r"Content-Length: ~^\d{1,3}$",),
        ),
    ),
    case(
        "range-of-an-error-means-nothing",
        "9110 14.2",
        Exchange(origin=answer(FRESH, status=404, body=_TEN)),
        Exchange(lines=("Range: bytes=0-3",), source=CACHE, status=404),
    ),
    case(
        "range-after-if-none-match",
        "9110 13.2.2",
        Exchange(origin=_WHOLE),
        Exchange(lines=("Range: bytes=0-3", 'If-None-Match: "v1"'), source=CACHE, status=304),
        Exchange(lines=("Range: bytes=0-3", 'If-None-Match: "v2"'), source=CACHE, status=206, content=b"0123"),
    ),
    case(
        "range-of-stale-is-validated",
        "9111 4.3.1",
        Exchange(origin=answer(*STALE, TAG, body=_TEN)),
        Exchange(
            lines=("Range: bytes=0-3",), origin=validated(FRESH, TAG), source=VALIDATED, status=206, content=b"0123"
        ),
    ),
    case(
        "range-of-a-variant",
        "9111 4.1",
        Exchange(lines=("X-A: 1",), origin=answer(FRESH, TAG, "Vary: X-A", body=_TEN)),
        Exchange(
            lines=("X-A: 2", "Range: bytes=0-3"),
            origin=ranged(FRESH, 'ETag: "v2"', "Vary: X-A", body=_OTHER),
            source=None,
            status=206,
            content=b"abcd",
        ),
        Exchange(lines=("X-A: 1", "Range: bytes=0-3"), source=CACHE, status=206, content=b"0123"),
    ),
    _if_range("tag", '"v1"', 206),
    _if_range("other-tag", '"v2"', 200),
    _if_range("weak-tag", 'W/"v1"', 200),
    _if_range("weak-stored", 'W/"v1"', 200, ('ETag: W/"v1"',)),
    _if_range("date", "Wed, 01 Jan 2025 12:00:00 GMT", 206, ("Last-Modified: Wed, 01 Jan 2025 12:00:00 GMT",)),
    _if_range("later-date", "Wed, 01 Jan 2025 12:00:01 GMT", 200, ("Last-Modified: Wed, 01 Jan 2025 12:00:00 GMT",)),
    _if_range("earlier-date", "Wed, 01 Jan 2025 11:59:59 GMT", 200, ("Last-Modified: Wed, 01 Jan 2025 12:00:00 GMT",)),
    _if_range("weak-date", "{-100}", 200, ("Last-Modified: {-100}", "Date: {-100}")),
    _if_range("nonsense", "v1", 200),
    # Parts.
    _part("same", "bytes=0-3", "bytes=0-3", b"0123", "0-3"),
    _part("within", "bytes=0-5", "bytes=2-4", b"234", "2-4"),
    _part("suffix-within", "bytes=5-9", "bytes=-3", b"789", "7-9"),
    _part("open-within", "bytes=5-9", "bytes=6-", b"6789", "6-9"),
    case(
        "partial-outside",
        "9111 3.3",
        _first("0-3", FRESH, TAG),
        Exchange(lines=("Range: bytes=6-8",), origin=ranged(FRESH, TAG), status=206, content=b"678", source=None),
    ),
    case(
        "partial-is-not-the-whole",
        "9111 3.3",
        _first("0-3", FRESH, TAG),
        Exchange(origin=ranged(FRESH, TAG), source=None, status=200, content=_TEN, lacks=("Content-Range",)),
        Exchange(source=CACHE, status=200, content=_TEN),
    ),
    case(
        "partial-combined",
        "9111 3.4",
        _first("0-4", FRESH, TAG),
        _first("5-9", FRESH, TAG),
        Exchange(lines=("Range: bytes=3-6",), source=CACHE, status=206, content=b"3456"),
        Exchange(source=CACHE, status=200, content=_TEN),
    ),
    case(
        "partial-combined-overlapping",
        "9111 3.4",
        _first("0-6", FRESH, TAG),
        _first("4-9", FRESH, TAG),
        Exchange(source=CACHE, status=200, content=_TEN),
    ),
    case(
        "partial-without-validator-is-not-combined",
        "9111 3.4",
        _first("0-4", FRESH),
        _first("5-9", FRESH, body=_OTHER),
        Exchange(origin=ranged(FRESH, body=_OTHER), source=None, status=200, content=_OTHER),
    ),
    case(
        "partial-with-weak-validator-is-not-combined",
        "9111 3.4",
        _first("0-4", FRESH, 'ETag: W/"v1"'),
        _first("5-9", FRESH, 'ETag: W/"v1"', body=_OTHER),
        Exchange(origin=ranged(FRESH, 'ETag: W/"v1"', body=_OTHER), source=None, status=200, content=_OTHER),
    ),
    case(
        "partial-with-another-tag-is-not-combined",
        "9111 3.4",
        _first("0-4", FRESH, TAG),
        _first("5-9", FRESH, 'ETag: "v2"', body=_OTHER),
        Exchange(origin=ranged(FRESH, 'ETag: "v2"', body=_OTHER), source=None, status=200, content=_OTHER),
    ),
    case(
        "partial-completed-by-another-version",
        "9111 3.4",
        _first("0-4", FRESH, TAG),
        Exchange(origin=ranged(FRESH, 'ETag: "v2"', body=_OTHER), source=None, status=200, content=_OTHER),
    ),
    case(
        "partial-no-store",
        "9111 5.2.2.5",
        _first("0-3", "Cache-Control: no-store", TAG),
        Exchange(
            lines=("Range: bytes=0-3",),
            origin=ranged(FRESH, TAG, body=_OTHER),
            source=None,
            status=206,
            content=b"abcd",
        ),
    ),
    case(
        "partial-stale",
        "9111 4.2.4",
        _first("0-3", *STALE),
        Exchange(
            lines=("Range: bytes=0-3",), origin=ranged(FRESH, body=_OTHER), source=None, status=206, content=b"abcd"
        ),
    ),
    case(
        "partial-of-several-parts-is-not-stored-as-one",
        "9111 3.3",
        Exchange(
            lines=("Range: bytes=0-1, 4-5",),
            status=206,
            content=b"--x--",
            source=None,
            origin=answer(FRESH, TAG, "Content-Type: multipart/byteranges; boundary=x", status=206, body=b"--x--"),
        ),
        Exchange(origin=answer(FRESH, TAG, body=_TEN), source=ORIGIN),
    ),
    case(
        "whole-given-to-a-range-is-stored",
        "9110 14.2",
        Exchange(lines=("Range: bytes=0-3",), origin=answer(FRESH, TAG, body=_TEN), status=(200, 206), source=None),
        Exchange(source=CACHE, status=200, content=_TEN),
    ),
    case(
        "partial-that-is-not-what-it-says",
        "9111 3.3",
        Exchange(
            lines=("Range: bytes=0-4",),
            origin=answer(FRESH, TAG, "Content-Range: bytes 0-4/10", status=206, body=b"012"),
            source=None,
        ),
        Exchange(origin=ranged(FRESH, TAG), source=None, status=200, content=_TEN),
        Exchange(lines=("Range: bytes=0-4",), origin=ranged(FRESH, TAG), source=None, status=206, content=b"01234"),
    ),
    case(
        "partial-without-content-range",
        "9111 3.3",
        Exchange(lines=("Range: bytes=0-4",), origin=answer(FRESH, TAG, status=206, body=b"01234"), source=None),
        Exchange(origin=ranged(FRESH, TAG), source=None, status=200, content=_TEN),
    ),
    case(
        "partial-of-unknown-length",
        "9111 3.3",
        Exchange(
            lines=("Range: bytes=0-4",),
            origin=answer(FRESH, TAG, "Content-Range: bytes 0-4/*", status=206, body=b"01234"),
            source=None,
        ),
        Exchange(origin=ranged(FRESH, TAG), source=None, status=200, content=_TEN),
    ),
    case(
        "partial-nobody-asked-for",
        "9111 3.3",
        Exchange(origin=answer(FRESH, TAG, "Content-Range: bytes 0-4/10", status=206, body=b"01234"), source=None),
        Exchange(origin=ranged(FRESH, TAG), source=None, status=200, content=_TEN),
    ),
    case(
        "partial-with-a-gap-is-not-combined",
        "9111 3.4",
        _first("0-2", FRESH, TAG),
        _first("7-9", FRESH, TAG),
        Exchange(origin=ranged(FRESH, TAG), source=None, status=200, content=_TEN),
    ),
    case(
        "partial-of-one-user",
        "9111 3.5",
        Exchange(
            lines=("Range: bytes=0-4", "Authorization: Basic Zm9vOmJhcg=="), origin=ranged(FRESH, TAG), source=None
        ),
        Exchange(
            lines=("Range: bytes=0-4",),
            origin=ranged(FRESH, 'ETag: "v2"', body=_OTHER),
            status=206,
            source=None,
            content=b"abcde",
        ),
    ),
    case(
        "partial-of-a-variant",
        "9111 4.1",
        Exchange(lines=("Range: bytes=0-4", "X-A: 1"), origin=ranged(FRESH, TAG, "Vary: X-A"), source=None),
        Exchange(
            lines=("Range: bytes=0-4", "X-A: 2"),
            origin=ranged(FRESH, 'ETag: "v2"', "Vary: X-A", body=_OTHER),
            status=206,
            source=None,
            content=b"abcde",
        ),
        Exchange(
            lines=("Range: bytes=1-2", "X-A: 1"),
            origin=ranged(FRESH, TAG, "Vary: X-A"),
            source=None,
            status=206,
            content=b"12",
        ),
    ),
    case(
        "partial-invalidated-by-a-write",
        "9111 4.4",
        _first("0-4", FRESH, TAG),
        Exchange(method="POST", body=b"x", origin=answer(body=b""), content=b""),
        Exchange(origin=ranged(FRESH, 'ETag: "v2"', body=_OTHER), source=None, status=200, content=_OTHER),
    ),
    case(
        "partial-if-range-of-another-version",
        "9110 13.1.5",
        _first("0-4", FRESH, TAG),
        Exchange(
            lines=("Range: bytes=0-4", 'If-Range: "v0"'),
            origin=ranged(FRESH, TAG),
            source=None,
            status=200,
            content=_TEN,
        ),
    ),
    case(
        "partial-head-tells-of-the-whole",
        "9110 9.3.2",
        _first("0-4", FRESH, TAG),
        Exchange(
            method="HEAD",
            origin=answer(FRESH, TAG, body=_TEN),
            source=None,
            status=200,
            content=b"",
            lacks=("Content-Range",),
        ),
    ),
    case(
        "416-of-the-origin-is-given-on",
        "9110 15.5.17",
        Exchange(
            lines=("Range: bytes=20-",),
            origin=answer("Content-Range: bytes */10", status=416, body=b""),
            source=None,
            status=416,
            has=("Content-Range: bytes */10",),
        ),
        Exchange(origin=answer(FRESH, body=_TEN)),
    ),
]
