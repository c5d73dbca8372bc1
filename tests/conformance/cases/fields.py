"""Which fields are stored, replayed and sent on (RFC 9111 section 3.1, RFC 9110 sections 7.6 and 7.7), and cookies."""

from ..case import CACHE, FRESH, ORIGIN, STALE, TAG, Answer, Case, Exchange, answer, case, reuse

_STORED = {
    "x-a": "X-A: 1",
    "no-x": 'A-Field-Of-Its-Own: foo; bar="baz, qux"',
    "content-foo": "Content-Foo: 1",
    "content-type": 'Content-Type: text/html; charset="utf-8"; foo=bar',
    "content-language": "Content-Language: de, en",
    "content-location": "Content-Location: {path}/x",
    "content-disposition": "Content-Disposition: attachment; filename*=UTF-8''%e2%82%ac",
    "content-md5": "Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==",
    "content-security-policy": "Content-Security-Policy: default-src 'self'",
    "clear-site-data": 'Clear-Site-Data: "cache"',
    "link": "Link: </a>; rel=preload",
    "etag": 'ETag: W/"with,comma"',
    "etag-unquoted": "ETag: v1",
    "allow": "Allow: GET, HEAD",
    "accept-ranges": "Accept-Ranges: bytes",
    "server": "Server: scripted/1.0",
    "utf-8": "X-A: caf\xc3\xa9",
    "tab": "X-A: a\tb",
    "quotes": 'X-A: "a\\"b", c',
    "public-key-pins": "Public-Key-Pins: foo",
    "x-xss-protection": "X-XSS-Protection: 1",
    "strict-transport-security": "Strict-Transport-Security: max-age=1",
    "access-control": "Access-Control-Allow-Origin: *",
    "via": "Via: 1.1 other",
}
_HOP_BY_HOP = {
    "keep-alive": "Keep-Alive: timeout=5",
    "proxy-authenticate": "Proxy-Authenticate: Basic",
    "proxy-authentication-info": "Proxy-Authentication-Info: foo=bar",
    "proxy-connection": "Proxy-Connection: close",
    "te": "TE: trailers",
    "trailer": "Trailer: X-A",
    "upgrade": "Upgrade: foo/1",
}


def _request(name: str, clause: str, *lines: str, saw: tuple[str, ...] = (), saw_not: tuple[str, ...] = ()) -> Case:
    """What the origin sees of a request's fields."""
    return case(name, clause, Exchange(lines=lines, origin=answer(FRESH), saw=saw, saw_not=saw_not))


CASES = [
    *(
        reuse(f"stores-{name}", "9111 3.1", FRESH, line, has=(line if name != "via" else "Via: ~^1.1 other",))
        for name, line in _STORED.items()
    ),
    *(
        reuse(f"stores-no-{name}", "9111 3.1", FRESH, line, lacks=(line.partition(":")[0],))
        for name, line in _HOP_BY_HOP.items()
    ),
    reuse("stores-repeated-lines", "9110 5.3", FRESH, "X-A: 1", "X-B: 0", "x-a: 2", has=("X-A: 1, 2",)),
    reuse("stores-an-empty-value", "9110 5.5", FRESH, "X-A:", has=("X-A: ~^$",)),
    reuse("stores-a-long-value", "9110 5.4", FRESH, "X-A: " + "a" * 7000, has=("X-A: " + "a" * 7000,)),
    reuse(
        "stores-no-connection",
        "9111 3.1",
        FRESH,
        "Connection: x-a",
        "X-A: 1",
        "X-B: 1",
        has=("X-B: 1",),
        lacks=("X-A",),
    ),
    reuse(
        "stores-none-of-several-named",
        "9110 7.6.1",
        FRESH,
        "Connection: x-a, X-B",
        "X-A: 1",
        "X-B: 1",
        lacks=("X-A", "X-B"),
    ),
    reuse(
        "stores-none-named-on-two-lines",
        "9110 7.6.1",
        FRESH,
        "Connection: x-a",
        "Connection: x-b",
        "X-A: 1",
        "X-B: 1",
        lacks=("X-A", "X-B"),
    ),
    case(
        "gives-no-hop-by-hop-on-a-miss",
        "9110 7.6.1",
        Exchange(
            origin=answer(FRESH, "Connection: x-a", "X-A: 1", "Keep-Alive: timeout=5"), lacks=("X-A", "Keep-Alive")
        ),
    ),
    case("content-type-is-not-invented", "9110 7.7", Exchange(origin=answer(FRESH), lacks=("Content-Type",))),
    case(
        "content-type-is-not-invented-on-a-hit",
        "9110 7.7",
        Exchange(origin=answer(FRESH)),
        Exchange(source=CACHE, lacks=("Content-Type",)),
    ),
    case(
        "reason-and-body-of-nothing",
        "9110 6.4.1",
        Exchange(origin=answer(FRESH, body=b"")),
        Exchange(source=CACHE, content=b"", has=("Content-Length: 0",)),
    ),
    case(
        "date-where-there-is-none",
        "9110 6.6.1",
        Exchange(origin=answer(FRESH, dated=False), has=("Date",)),
        Exchange(source=CACHE, has=("Date",)),
    ),
    case(
        "date-is-the-origins",
        "9110 6.6.1",
        Exchange(origin=answer(FRESH, "Date: {-100}")),
        Exchange(source=CACHE, has=(r"Age: ~^10\d$",)),
    ),
    case(
        "chunks",
        "9112 7.1",
        Exchange(
            origin=answer(FRESH, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"),
            content=b"abcdefg",
        ),
        Exchange(source=CACHE, content=b"abcdefg"),
    ),
    case(
        "chunks-with-trailers",
        "9110 6.5",
        Exchange(
            origin=answer(FRESH, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n"), content=b"abc"
        ),
        Exchange(source=CACHE, content=b"abc", lacks=("X-A",)),
    ),
    case(
        "chunks-cut",
        "9111 3.3",
        Exchange(
            origin=Answer(lines=(FRESH, "Transfer-Encoding: chunked"), body=b"3\r\nabc\r\n9\r\nd", broken=True),
            source=None,
        ),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "octets-of-every-kind",
        "9110 6.4",
        Exchange(origin=answer(FRESH, body=bytes(range(256)))),
        Exchange(source=CACHE),
    ),
    # Cookies.
    reuse("set-cookie-with-freshness", "9111 7.3", FRESH, "Set-Cookie: a=b; Path=/", has=("Set-Cookie: a=b; Path=/",)),
    reuse("set-cookie-two", "9110 5.3", FRESH, "Set-Cookie: a=b", "Set-Cookie: c=d", has=("Set-Cookie: a=b, c=d",)),
    reuse("set-cookie-without-freshness", "9111 7.3", "Last-Modified: {-864000}", "Set-Cookie: a=b", source=ORIGIN),
    reuse(
        "set-cookie-no-cache",
        "9111 5.2.2.4",
        'Cache-Control: max-age=3600, no-cache="set-cookie"',
        "Set-Cookie: a=b",
        lacks=("Set-Cookie",),
    ),
    reuse(
        "set-cookie-private",
        "9111 5.2.2.7",
        'Cache-Control: max-age=3600, private="set-cookie"',
        "Set-Cookie: a=b",
        lacks=("Set-Cookie",),
    ),
    # Requests.
    _request("request-end-to-end", "9110 7.6.1", "X-A: 1", "X-A: 2", "Accept: x/y", saw=("X-A: 1, 2", "Accept: x/y")),
    _request("request-utf-8", "9110 5.5", "X-A: caf\xc3\xa9", saw=("X-A: caf\xc3\xa9",)),
    _request(
        "request-hop-by-hop",
        "9110 7.6.1",
        "Connection: x-a",
        "X-A: 1",
        "TE: trailers",
        "Keep-Alive: 5",
        "Proxy-Connection: close",
        saw_not=("X-A", "TE", "Keep-Alive", "Proxy-Connection"),
    ),
    _request("request-via", "9110 7.6.3", saw=("Via: ~^1.1 [^ ]+$",)),
    _request("request-via-after-others", "9110 7.6.3", "Via: 1.0 first", saw=("Via: ~^1.0 first, 1.1 [^ ]+$",)),
    _request(
        "request-nothing-invented", "9110 7.7", saw_not=("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
    ),
    _request("request-host", "9110 7.2", saw=("Host",)),
    _request("request-cdn-loop", "8586 2", saw=("CDN-Loop: ~.",)),
    _request("request-cdn-loop-after-others", "8586 2", "CDN-Loop: first", saw=("CDN-Loop: ~^first, .",)),
    _request("request-max-forwards", "9110 7.6.2", "Max-Forwards: 5", saw=("Max-Forwards: 5",)),
    # Cache-Status.
    case(
        "cache-status-miss-then-hit",
        "9211 2",
        Exchange(origin=answer(FRESH), has=("Cache-Status: ~; fwd=miss.*; stored",)),
        Exchange(source=CACHE, has=(r"Cache-Status: ~; hit; ttl=3\d{3}",)),
    ),
    case(
        "cache-status-stale",
        "9211 2.2",
        Exchange(origin=answer(*STALE)),
        Exchange(origin=answer(FRESH), has=("Cache-Status: ~; fwd=stale",)),
    ),
    case(
        "cache-status-validated",
        "9211 2.3",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(
            origin=Answer(status=304, lines=(FRESH, TAG)),
            source=None,
            has=("Cache-Status: ~; fwd=stale; fwd-status=304",),
        ),
    ),
    case(
        "cache-status-request",
        "9211 2.2",
        Exchange(origin=answer(FRESH)),
        Exchange(lines=("Cache-Control: no-cache",), origin=answer(FRESH), has=("Cache-Status: ~; fwd=request",)),
    ),
    case(
        "cache-status-negative-ttl",
        "9211 2.4",
        Exchange(origin=answer(*STALE)),
        Exchange(
            lines=("Cache-Control: max-stale",),
            origin=answer(*STALE),
            source=None,
            has=("Cache-Status: ~; hit; ttl=-3",),
        ),
    ),
    case(
        "cache-status-after-the-origins",
        "9211 2",
        Exchange(origin=answer(FRESH, "Cache-Status: origin; hit"), has=("Cache-Status: ~^origin; hit, regioncache",)),
        Exchange(source=CACHE, has=("Cache-Status: ~^origin; hit, regioncache/here; hit",)),
    ),
    case(
        "cache-status-of-a-write",
        "9211 2.2",
        Exchange(method="POST", body=b"x", origin=answer(body=b""), content=b"", has=("Cache-Status: ~; fwd=",)),
    ),
    case(
        "no-store-is-not-called-stored",
        "9211 2.5",
        Exchange(origin=answer("Cache-Control: no-store"), lacks=("Cache-Status: ~stored(?!=)",)),
    ),
    reuse("stale-is-not-a-plain-hit", "9211 2.1", *STALE, source=ORIGIN, lacks=("Cache-Status: ~; hit",)),
]
