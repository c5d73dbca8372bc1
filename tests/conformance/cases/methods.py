"""HEAD and POST (RFC 9110 sections 9.3.2 and 9.3.3, RFC 9111 section 4.3.5)."""

from ..case import CACHE, FRESH, ORIGIN, STALE, TAG, Case, Exchange, answer, case

_AUTH = ("Authorization: Basic Zm9vOmJhcg==",)
_RELOAD = ("Cache-Control: no-cache",)
_TEN = b"0123456789"


def _head(*lines: str, asked: tuple[str, ...] = (), body: bytes = _TEN) -> Exchange:
    """A HEAD that the origin is to answer."""
    return Exchange(method="HEAD", lines=asked, origin=answer(*lines, body=body), source=None, status=200, content=b"")


def _posted(
    name: str,
    clause: str,
    *lines: str,
    reused: bool = False,
    status: int = 200,
    method: str = "POST",
    asked: tuple[str, ...] = (),
) -> Case:
    """A POST, and a GET that is answered with its answer or not."""
    return case(
        name,
        clause,
        Exchange(
            method=method,
            lines=asked,
            body=b"x",
            origin=answer(*lines, status=status, body=b"posted"),
            content=b"posted",
        ),
        Exchange(
            origin=answer(FRESH, body=b"got"),
            source=CACHE if reused else ORIGIN,
            status=200,
            content=b"posted" if reused else b"got",
        ),
    )


CASES = [
    case(
        "head-from-get",
        "9110 9.3.2",
        Exchange(origin=answer(FRESH, TAG, "X-A: 1", body=_TEN)),
        Exchange(
            method="HEAD", source=CACHE, status=200, content=b"", has=(FRESH, TAG, "X-A: 1", "Content-Length: 10")
        ),
    ),
    case(
        "head-from-an-error",
        "9110 9.3.2",
        Exchange(origin=answer(FRESH, status=404)),
        Exchange(method="HEAD", source=CACHE, status=404, content=b""),
    ),
    case(
        "head-of-stale-is-asked",
        "9111 4",
        Exchange(origin=answer(*STALE)),
        Exchange(method="HEAD", origin=answer(FRESH), source=ORIGIN, content=b""),
    ),
    case("head-is-no-get", "9110 9.3.2", _head(FRESH), Exchange(origin=answer(FRESH, body=_TEN), source=ORIGIN)),
    case(
        "head-miss-keeps-content-length",
        "9110 9.3.2",
        Exchange(method="HEAD", origin=answer(FRESH, body=_TEN), content=b"", has=("Content-Length: 10",)),
    ),
    case(
        "head-updates-freshness",
        "9111 4.3.5",
        Exchange(origin=answer(*STALE, TAG, body=_TEN)),
        _head(FRESH, TAG),
        Exchange(source=CACHE, content=_TEN),
    ),
    case(
        "head-updates-fields",
        "9111 4.3.5",
        Exchange(origin=answer(*STALE, TAG, "X-A: 1", body=_TEN)),
        _head(FRESH, TAG, "X-A: 2"),
        Exchange(source=CACHE, content=_TEN, has=("X-A: 2",)),
    ),
    case(
        "head-keeps-other-fields",
        "9111 4.3.5",
        Exchange(origin=answer(*STALE, TAG, "X-A: 1", body=_TEN)),
        _head(FRESH, TAG),
        Exchange(source=CACHE, content=_TEN, has=("X-A: 1",)),
    ),
    case(
        "head-with-another-tag-invalidates",
        "9111 4.3.5",
        Exchange(origin=answer(FRESH, TAG, body=_TEN)),
        _head(FRESH, 'ETag: "v2"', asked=_RELOAD),
        Exchange(origin=answer(FRESH, body=b"new"), content=b"new"),
    ),
    case(
        "head-with-another-date-invalidates",
        "9111 4.3.5",
        Exchange(origin=answer(FRESH, "Last-Modified: {-9000}", body=_TEN)),
        _head(FRESH, "Last-Modified: {-10}", asked=_RELOAD),
        Exchange(origin=answer(FRESH, body=b"new"), content=b"new"),
    ),
    case(
        "head-with-another-length-invalidates",
        "9111 4.3.5",
        Exchange(origin=answer(FRESH, body=_TEN)),
        _head(FRESH, asked=_RELOAD, body=b"0123456789ab"),
        Exchange(origin=answer(FRESH, body=b"new"), content=b"new"),
    ),
    case(
        "head-only-if-cached",
        "9111 5.2.1.7",
        Exchange(origin=answer(FRESH, body=_TEN)),
        Exchange(method="HEAD", lines=("Cache-Control: only-if-cached",), source=CACHE, status=200, content=b""),
    ),
    case(
        "head-of-a-variant",
        "9111 4.1",
        Exchange(lines=("X-A: 1",), origin=answer(FRESH, "Vary: X-A", body=_TEN)),
        Exchange(method="HEAD", lines=("X-A: 2",), origin=answer(FRESH, "Vary: X-A"), source=ORIGIN, content=b""),
        Exchange(method="HEAD", lines=("X-A: 1",), source=CACHE, status=200, content=b""),
    ),
    _posted("post-reused-by-get", "9110 9.3.3", FRESH, "Content-Location: {path}", reused=True),
    _posted(
        "post-reused-by-get-absolute", "9110 9.3.3", FRESH, "Content-Location: http://{authority}{path}", reused=True
    ),
    _posted("post-without-content-location", "9110 9.3.3", FRESH),
    _posted("post-without-freshness", "9110 9.3.3", "Content-Location: {path}"),
    _posted("post-with-heuristics-only", "9110 9.3.3", "Content-Location: {path}", "Last-Modified: {-864000}"),
    _posted("post-content-location-elsewhere", "9110 9.3.3", FRESH, "Content-Location: {path}/b"),
    _posted("post-content-location-on-another-host", "9110 9.3.3", FRESH, "Content-Location: http://o.example{path}"),
    _posted("post-no-store", "9111 5.2.2.5", "Cache-Control: no-store, max-age=3600", "Content-Location: {path}"),
    _posted("post-private", "9111 5.2.2.7", "Cache-Control: private, max-age=3600", "Content-Location: {path}"),
    _posted("put-is-not-reused", "9110 9.3.4", FRESH, "Content-Location: {path}", method="PUT"),
    _posted("patch-is-not-reused-without-freshness", "5789 2", "Content-Location: {path}", method="PATCH"),
    _posted("delete-is-not-reused", "9110 9.3.5", FRESH, "Content-Location: {path}", method="DELETE"),
    _posted("method-without-caching-is-not-reused", "9111 3", FRESH, "Content-Location: {path}", method="MKCOL"),
    case(
        "post-after-post-is-sent",
        "9110 9.3.3",
        *(
            Exchange(
                method="POST", body=b"x", origin=answer(FRESH, "Content-Location: {path}", body=body), content=body
            )
            for body in (b"one", b"two")
        ),
    ),
    case(
        "options-is-not-stored",
        "9110 9.3.7",
        *(Exchange(method="OPTIONS", origin=answer(FRESH, body=body), content=body) for body in (b"one", b"two")),
        Exchange(origin=answer(FRESH)),
    ),
    _posted("post-for-one-user-only", "9111 3.5", FRESH, "Content-Location: {path}", asked=_AUTH),
    _posted(
        "post-for-all-with-credentials",
        "9111 3.5",
        "Cache-Control: public, max-age=3600",
        "Content-Location: {path}",
        asked=_AUTH,
        reused=True,
    ),
    _posted("post-error-is-not-reused", "9110 9.3.3", FRESH, "Content-Location: {path}", status=500),
    _posted("post-stale-is-not-reused", "9111 4.2", *STALE, "Content-Location: {path}"),
    _posted("post-two-content-locations", "9110 8.7", FRESH, "Content-Location: {path}", "Content-Location: {path}/b"),
    _posted("post-relative-content-location-elsewhere", "9110 9.3.3", FRESH, "Content-Location: other"),
    case(
        "post-invalidates-what-it-names",
        "9111 4.4",
        Exchange(at="/b", origin=answer(FRESH)),
        Exchange(
            method="POST",
            at="/a",
            body=b"x",
            content=b"p",
            origin=answer(FRESH, "Content-Location: {path}/b", body=b"p"),
        ),
        Exchange(at="/b", origin=answer(FRESH, body=b"new"), source=None, status=200, content=b"new"),
    ),
    case(
        "post-replaces-what-was-stored",
        "9110 9.3.3",
        Exchange(origin=answer(FRESH)),
        Exchange(method="POST", body=b"x", origin=answer(FRESH, "Content-Location: {path}", body=b"p"), content=b"p"),
        Exchange(source=CACHE, content=b"p"),
    ),
    case(
        "post-of-a-variant",
        "9111 4.1",
        Exchange(
            method="POST",
            lines=("X-A: 1",),
            body=b"x",
            content=b"p",
            origin=answer(FRESH, "Content-Location: {path}", "Vary: X-A", body=b"p"),
        ),
        Exchange(lines=("X-A: 2",), origin=answer(FRESH, "Vary: X-A")),
    ),
]
