"""Which statuses are stored with and without explicit freshness, and heuristics (RFC 9111 sections 3 and 4.2.2)."""

from ..case import CACHE, FRESH, ORIGIN, reuse

_OLD = "Last-Modified: {-864000}"
_HEURISTIC = (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)
_NOT_HEURISTIC = (201, 202, 299, 302, 303, 307, 400, 401, 403, 409, 418, 429, 500, 502, 503, 504, 599)
_ANY = (
    200,
    203,
    204,
    299,
    300,
    301,
    302,
    303,
    307,
    308,
    400,
    403,
    404,
    405,
    410,
    414,
    418,
    451,
    499,
    500,
    501,
    503,
    599,
)

CASES = [
    *(reuse(f"explicit-{status}", "9111 3", FRESH, status=status) for status in _ANY),
    *(
        reuse(f"explicit-{status}-stale", "9111 4", "Cache-Control: max-age=0", status=status, source=ORIGIN)
        for status in (200, 301, 404, 499, 500)
    ),
    *(reuse(f"heuristic-{status}", "9110 15.1", _OLD, status=status) for status in _HEURISTIC),
    *(reuse(f"heuristic-{status}-not", "9110 15.1", _OLD, status=status, source=ORIGIN) for status in _NOT_HEURISTIC),
    *(
        reuse(f"heuristic-public-{status}", "9111 4.2.2", _OLD, "Cache-Control: public", status=status)
        for status in (299, 403, 599)
    ),
    reuse("heuristic-of-the-age", "9111 4.2.2", _OLD, "Age: 3600"),
    reuse("heuristic-tenth-is-over", "9111 4.2.2", "Last-Modified: {-1000}", "Age: 200", source=ORIGIN),
    reuse("heuristic-modified-now", "9111 4.2.2", "Last-Modified: {+0}", "Age: 1", source=ORIGIN),
    reuse("heuristic-modified-ahead", "9111 4.2.2", "Last-Modified: {+864000}", source=ORIGIN),
    reuse("heuristic-modified-invalid", "9111 4.2.2", "Last-Modified: long ago", source=ORIGIN),
    reuse("heuristic-not-with-max-age", "9111 4.2.2", _OLD, "Cache-Control: max-age=1", "Age: 9", source=ORIGIN),
    reuse("heuristic-not-with-expires", "9111 4.2.2", _OLD, "Expires: {-1}", source=ORIGIN),
    reuse("heuristic-with-unknown-directive", "9111 4.2.2", _OLD, "Cache-Control: foo"),
    reuse("heuristic-no-store", "9111 4.2.2", _OLD, "Cache-Control: no-store", source=ORIGIN),
    reuse("heuristic-no-cache", "9111 5.2.2.4", _OLD, "Cache-Control: no-cache", source=ORIGIN),
    reuse("heuristic-pragma-means-nothing", "9111 5.4", _OLD, "Pragma: no-cache"),
    reuse("attachment-is-stored-alike", "9111 3", FRESH, "Content-Disposition: attachment; filename=x", source=CACHE),
    reuse(
        "redirect-keeps-its-location",
        "9111 3.1",
        FRESH,
        "Location: {path}/there",
        status=301,
        has=("Location: {path}/there",),
    ),
    reuse("not-found-keeps-its-fields", "9111 3.1", FRESH, "X-A: 1", status=404, has=("X-A: 1",)),
    reuse(
        "challenge-is-stored-when-fresh",
        "9111 3",
        FRESH,
        "WWW-Authenticate: Basic",
        status=401,
        has=("WWW-Authenticate: Basic",),
    ),
]
