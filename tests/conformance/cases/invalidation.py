"""What unsafe methods invalidate (RFC 9111 section 4.4), and groups (RFC 9875)."""

from ..case import CACHE, FRESH, ORIGIN, Case, Exchange, Source, answer, case

_UNSAFE = ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "MKCOL")


def _after(name: str, clause: str, asked: Exchange, source: Source, *, at: str = "") -> Case:
    """A fresh response at `at`, the request, and where the same response comes from then."""
    return case(
        name,
        clause,
        Exchange(at=at, origin=answer(FRESH, body=b"before")),
        asked,
        Exchange(
            at=at,
            origin=answer(FRESH, body=b"after"),
            source=source,
            content=b"before" if source is CACHE else b"after",
        ),
    )


def _write(method: str, *lines: str, status: int = 200, at: str = "") -> Exchange:
    return Exchange(method=method, at=at, body=b"x", origin=answer(*lines, status=status, body=b""), content=b"")


def _grouped(name: str, groups: str, asked: Exchange, source: Source, clause: str = "9875 3") -> Case:
    return case(
        f"group-{name}",
        clause,
        Exchange(at="/a", origin=answer(FRESH, f"Cache-Groups: {groups}", body=b"before")),
        asked,
        Exchange(
            at="/a",
            origin=answer(FRESH, body=b"after"),
            source=source,
            content=b"before" if source is CACHE else b"after",
        ),
    )


def _named(field: str, name: str, value: str, source: Source, *, status: int = 200, method: str = "POST") -> Case:
    """A write whose answer names another resource of the case, `/other`."""
    asked = _write(method, f"{field}: {value}", status=status, at="/a")
    return _after(f"invalidation-{name}-{field.lower()}", "9111 4.4", asked, source, at="/other")


CASES = [
    *(_after(f"invalidation-{method.lower()}", "9111 4.4", _write(method), ORIGIN) for method in _UNSAFE),
    *(
        _after(f"invalidation-{method.lower()}-{status}", "9111 4.4", _write(method, status=status), CACHE)
        for method in _UNSAFE
        for status in (400, 500)
    ),
    *(
        _after(f"invalidation-put-{status}", "9111 4.4", _write("PUT", status=status), ORIGIN)
        for status in (201, 202, 204, 303)
    ),
    *(
        _after(f"invalidation-delete-{status}", "9111 4.4", _write("DELETE", status=status), CACHE)
        for status in (403, 404, 503)
    ),
    _after(
        "no-invalidation-options",
        "9110 9.2.1",
        Exchange(method="OPTIONS", origin=answer(body=b"o"), content=b"o"),
        CACHE,
    ),
    _after(
        "no-invalidation-get-of-another",
        "9111 4.4",
        Exchange(at="/b", origin=answer("Location: {path}", "Content-Location: {path}", body=b"")),
        CACHE,
    ),
    _after("no-invalidation-of-other-paths", "9111 4.4", _write("POST", at="/b"), CACHE, at="/a"),
    case(
        "invalidation-of-every-variant",
        "9111 4.4",
        Exchange(lines=("X-A: 1",), origin=answer(FRESH, "Vary: X-A")),
        Exchange(lines=("X-A: 2",), origin=answer(FRESH, "Vary: X-A")),
        _write("POST"),
        Exchange(lines=("X-A: 1",), origin=answer(FRESH, "Vary: X-A")),
        Exchange(lines=("X-A: 2",), origin=answer(FRESH, "Vary: X-A")),
    ),
    *(
        each
        for field in ("Location", "Content-Location")
        for each in (
            _named(field, "by", "{path}/other", ORIGIN),
            _named(field, "by-absolute", "http://{authority}{path}/other", ORIGIN),
            _named(field, "by-relative", "other", ORIGIN),
            _named(field, "by-put", "{path}/other", ORIGIN, method="PUT"),
            _named(field, "by-unknown-method", "{path}/other", ORIGIN, method="M-SEARCH"),
            _named(field, "by-created", "{path}/other", ORIGIN, status=201),
            _named(field, "by-dot-segments", "./x/../other", ORIGIN),
            _named(field, "not-of-another-host", "http://other.example{path}/other", CACHE),
            _named(field, "not-of-another-port", "http://127.0.0.1:1{path}/other", CACHE),
            _named(field, "not-of-another-scheme", "https://{authority}{path}/other", CACHE),
            _named(field, "not-after-400", "{path}/other", CACHE, status=400),
            _named(field, "not-after-500", "{path}/other", CACHE, status=500),
            _named(field, "not-by-nonsense", "http://[::{path}/other", CACHE),
        )
    ),
    case(
        "invalidated-is-validated",
        "9111 4.4",
        Exchange(origin=answer(FRESH, 'ETag: "v1"')),
        _write("POST"),
        Exchange(origin=answer(FRESH, 'ETag: "v2"', body=b"new")),
        Exchange(source=CACHE, content=b"new"),
    ),
    case(
        "write-goes-through",
        "9111 4.4",
        Exchange(method="PUT", body=b"payload", origin=answer(status=204), content=b"", saw=("Content-Length: 7",)),
    ),
    case(
        "write-is-not-answered-from-the-cache",
        "9111 4",
        Exchange(origin=answer(FRESH)),
        Exchange(method="POST", body=b"x", origin=answer(body=b"posted"), content=b"posted"),
        Exchange(method="DELETE", origin=answer(body=b"gone"), content=b"gone"),
    ),
    _grouped("invalidated", '"g1"', _write("POST", 'Cache-Group-Invalidation: "g1"', at="/b"), ORIGIN),
    _grouped("one-of-several", '"a0", "a1"', _write("PUT", 'Cache-Group-Invalidation: "a1", "a2"', at="/b"), ORIGIN),
    _grouped("another", '"b1"', _write("POST", 'Cache-Group-Invalidation: "b2"', at="/b"), CACHE),
    _grouped("case-counts", '"c1"', _write("POST", 'Cache-Group-Invalidation: "C1"', at="/b"), CACHE, "9875 2.1"),
    _grouped(
        "not-by-a-safe-method",
        '"d1"',
        Exchange(at="/b", origin=answer(FRESH, 'Cache-Group-Invalidation: "d1"', body=b"")),
        CACHE,
    ),
    _grouped("not-a-structured-field", '"e1"', _write("POST", "Cache-Group-Invalidation: e 1,", at="/b"), CACHE),
    _grouped("token-is-no-string", "f1", _write("POST", 'Cache-Group-Invalidation: "f1"', at="/b"), CACHE, "9875 2"),
]
