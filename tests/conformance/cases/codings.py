"""Content codings stay as they are (RFC 9110 sections 8.4 and 12.5.3), and interim responses (section 15.2)."""

import gzip

from ..case import CACHE, FRESH, ORIGIN, STALE, TAG, VALIDATED, Answer, Case, Exchange, answer, case, validated

_PLAIN = b"plain text, " * 20
_GZIP = gzip.compress(_PLAIN, mtime=0)
_VARY = "Vary: Accept-Encoding"


def _kept(name: str, coding: str, body: bytes, accepted: str) -> Case:
    """A coded body is stored and given as it came, coded once."""
    asked = (f"Accept-Encoding: {accepted}",)
    return case(
        f"coding-{name}",
        "9110 8.4",
        Exchange(
            lines=asked,
            origin=answer(FRESH, _VARY, f"Content-Encoding: {coding}", body=body),
            has=(f"Content-Encoding: {coding}",),
            saw=asked,
        ),
        Exchange(lines=asked, source=CACHE, has=(f"Content-Encoding: {coding}", f"Content-Length: {len(body)}")),
    )


def _not_given(name: str, accepted: str) -> Case:
    """A stored gzip whose origin forgot Vary, and a request that does not accept it."""
    return case(
        f"coding-gzip-not-for-{name}",
        "9110 12.5.3",
        Exchange(lines=("Accept-Encoding: gzip",), origin=answer(FRESH, "Content-Encoding: gzip", body=_GZIP)),
        Exchange(
            lines=(f"Accept-Encoding: {accepted}",),
            origin=answer(FRESH, body=_PLAIN),
            source=None,
            status=200,
            content=_PLAIN,
            lacks=("Content-Encoding: gzip",),
        ),
    )


def _interim(name: str, *statuses: int, lines: tuple[str, ...] = ()) -> Case:
    """Interim responses before a final one that is stored without them."""
    before = tuple((status, lines) for status in statuses)
    return case(
        f"interim-{name}",
        "9110 15.2",
        Exchange(origin=Answer(lines=(FRESH,), interim=before), interim=statuses),
        Exchange(source=CACHE, interim=(), lacks=tuple(line.partition(":")[0] for line in lines)),
    )


CASES = [
    _kept("gzip", "gzip", _GZIP, "gzip"),
    _kept("gzip-among-others", "gzip", _GZIP, "gzip, deflate, br"),
    _kept("x-gzip", "x-gzip", _GZIP, "x-gzip"),
    _kept("br", "br", b"\x8b\x02\x80hello\x03", "br"),
    _kept("zstd", "zstd", b"\x28\xb5\x2f\xfd\x24\x01\x09\x00\x00ahello", "zstd"),
    _kept("deflate", "deflate", b"\x78\x9c\x4b\x04\x00\x00\x62\x00\x62", "deflate"),
    _kept("unknown", "foo", b"anything", "foo"),
    _kept("two", "gzip, br", b"anything", "gzip, br"),
    _kept("identity", "identity", _PLAIN, "gzip"),
    _kept("not-what-it-says", "gzip", b"this is no gzip", "gzip"),
    _kept("empty", "gzip", b"", "gzip"),
    _not_given("identity", "identity"),
    _not_given("quality-0", "gzip;q=0, identity"),
    _not_given("another", "br"),
    _not_given("star-quality-0", "*;q=0, identity"),
    case(
        "coding-both-variants-are-kept",
        "9111 4.1",
        Exchange(lines=("Accept-Encoding: gzip",), origin=answer(FRESH, _VARY, "Content-Encoding: gzip", body=_GZIP)),
        Exchange(lines=("Accept-Encoding: identity",), origin=answer(FRESH, _VARY, body=_PLAIN)),
        Exchange(lines=("Accept-Encoding: gzip",), source=CACHE, content=_GZIP, has=("Content-Encoding: gzip",)),
        Exchange(lines=("Accept-Encoding: identity",), source=CACHE, content=_PLAIN, lacks=("Content-Encoding",)),
    ),
    case(
        "coding-head",
        "9110 9.3.2",
        Exchange(lines=("Accept-Encoding: gzip",), origin=answer(FRESH, "Content-Encoding: gzip", body=_GZIP)),
        Exchange(
            method="HEAD",
            lines=("Accept-Encoding: gzip",),
            source=CACHE,
            status=200,
            content=b"",
            has=("Content-Encoding: gzip", f"Content-Length: {len(_GZIP)}"),
        ),
    ),
    case(
        "coding-validated",
        "9111 3.2",
        Exchange(
            lines=("Accept-Encoding: gzip",), origin=answer(*STALE, TAG, _VARY, "Content-Encoding: gzip", body=_GZIP)
        ),
        Exchange(
            lines=("Accept-Encoding: gzip",),
            origin=validated(FRESH, TAG, _VARY),
            source=VALIDATED,
            has=("Content-Encoding: gzip",),
        ),
        Exchange(lines=("Accept-Encoding: gzip",), source=CACHE, has=("Content-Encoding: gzip",)),
    ),
    case(
        "coding-range-is-of-the-coded",
        "9110 14.1.2",
        Exchange(lines=("Accept-Encoding: gzip",), origin=answer(FRESH, TAG, "Content-Encoding: gzip", body=_GZIP)),
        Exchange(
            lines=("Accept-Encoding: gzip", "Range: bytes=0-9"),
            source=CACHE,
            status=206,
            content=_GZIP[:10],
            has=("Content-Encoding: gzip",),
        ),
    ),
    case(
        "coding-of-an-error",
        "9110 8.4",
        Exchange(
            lines=("Accept-Encoding: gzip",), origin=answer(FRESH, "Content-Encoding: gzip", status=404, body=_GZIP)
        ),
        Exchange(lines=("Accept-Encoding: gzip",), source=CACHE, has=("Content-Encoding: gzip",)),
    ),
    case(
        "coding-of-a-request-body",
        "9110 8.4",
        Exchange(
            method="POST",
            lines=("Content-Type: text/plain",),
            body=b"abc",
            origin=answer(body=b""),
            content=b"",
            saw=("Content-Type: text/plain", "Content-Length: 3"),
            saw_not=("Content-Encoding",),
        ),
    ),
    _interim("103", 103, lines=("Link: </style.css>; rel=preload",)),
    _interim("102", 102),
    _interim("several", 103, 103),
    case(
        "interim-before-an-error",
        "9110 15.2",
        Exchange(
            origin=Answer(status=404, lines=(FRESH,), interim=((103, ("X-A: 1",)),)), interim=(103,), lacks=("X-A",)
        ),
        Exchange(source=CACHE, interim=(), lacks=("X-A",)),
    ),
    case(
        "interim-before-a-304",
        "9110 15.2",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(
            origin=Answer(status=304, lines=(FRESH, TAG), interim=((103, ("X-A: 1",)),)),
            source=VALIDATED,
            lacks=("X-A",),
        ),
        Exchange(source=CACHE, lacks=("X-A",)),
    ),
    case(
        "interim-of-no-store",
        "9110 15.2",
        Exchange(origin=Answer(lines=("Cache-Control: no-store",), interim=((103, ()),)), interim=(103,)),
        Exchange(origin=answer(FRESH), source=ORIGIN, interim=()),
    ),
    case(
        "coding-variants-found-one-after-the-other",
        "9111 4.1",
        Exchange(lines=("Accept-Encoding: gzip, br",), origin=answer(FRESH, _VARY, "Content-Encoding: br", body=b"br")),
        Exchange(lines=("Accept-Encoding: gzip",), origin=answer(FRESH, _VARY, "Content-Encoding: gzip", body=_GZIP)),
        Exchange(lines=("Accept-Encoding:",), origin=answer(FRESH, _VARY, body=_PLAIN), content=_PLAIN),
        Exchange(
            lines=("Accept-Encoding: identity",), origin=answer(FRESH, _VARY, body=_PLAIN), source=None, content=_PLAIN
        ),
        Exchange(
            lines=("Accept-Encoding: gzip, br",),
            origin=answer(FRESH, _VARY, "Content-Encoding: br", body=b"br"),
            source=None,
            content=b"br",
        ),
        Exchange(
            lines=("Accept-Encoding: gzip",),
            source=None,
            content=_GZIP,
            origin=answer(FRESH, _VARY, "Content-Encoding: gzip", body=_GZIP),
        ),
    ),
    case(
        "coding-not-used-at-first",
        "9111 4.1",
        Exchange(lines=("Accept-Encoding: gzip",), origin=answer(FRESH, _VARY, body=_PLAIN)),
        Exchange(
            lines=("Accept-Encoding: br",),
            origin=answer(FRESH, _VARY, "Content-Encoding: br", body=b"br"),
            content=b"br",
        ),
        Exchange(
            lines=("Accept-Encoding: gzip",),
            origin=answer(FRESH, _VARY, body=_PLAIN),
            source=None,
            content=_PLAIN,
            lacks=("Content-Encoding",),
        ),
    ),
    case(
        "coding-given-to-who-says-nothing",
        "9110 12.5.3",
        Exchange(origin=answer(FRESH, "Content-Encoding: foo", body=b"coded")),
        Exchange(lines=("Accept-Encoding: identity",), origin=answer(FRESH, body=_PLAIN), content=_PLAIN),
        Exchange(origin=answer(FRESH, "Content-Encoding: foo", body=b"coded"), source=None, status=200),
    ),
    case(
        "interim-not-to-http-1.0",
        "9110 15.2",
        Exchange(
            version="1.0", lines=("Connection: close",), origin=Answer(lines=(FRESH,), interim=((103, ()),)), interim=()
        ),
    ),
]
