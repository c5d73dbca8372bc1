"""Whatever a client or an origin puts on the wire, the edge answers, and never with 500."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from .case import FRESH, Answer
from .edge import edge_before
from .scripted import ScriptedOrigin
from .wire import Lines, exchange

VALUES = (
    "", '"', ",", ";", "=", "*", "\\", "-", "%", "\t", "\xff", "\xc3\xa9", "0", "-1", '"' * 3000, "," * 6000,
    "9" * 5000, "a=b," * 1500, "bytes=0-", "bytes=-0", "bytes=" + "0-0," * 1000, "W/", "gzip", "br;q=9",
    "identity;q=0, *;q=0", "close", "no-cache", "max-age=" + "9" * 400, "only-if-cached",
    "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 99 Nov 0000 99:99:99 GMT", "[::", "http://[", "a:b@c", "../..",
    "100-continue", "websocket", "trailers", "a;b;c;d;e", "::::", "regioncache-pin=a:b:c",
)  # fmt: skip
REQUEST_FIELDS = (
    "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "CDN-Loop", "CF-IPCountry", "Connection",
    "Content-Encoding", "Content-Type", "Cookie", "Expect", "Host", "Idempotency-Key", "If-Match",
    "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Pragma", "Prefer", "Range",
    "Regioncache-Pin", "Regioncache-Replay", "TE", "Upgrade", "Via", "X-A",
)  # fmt: skip
RESPONSE_FIELDS = (
    "Age", "Cache-Control", "Cache-Groups", "Cache-Group-Invalidation", "Cache-Status", "CDN-Cache-Control",
    "Connection", "Content-Encoding", "Content-Language", "Content-Location", "Content-Range", "Content-Type", "Date",
    "ETag", "Expires", "Last-Modified", "Location", "Regioncache-Cache-Control", "Set-Cookie", "Trailer", "Upgrade",
    "Vary", "X-A",
)  # fmt: skip
PATHS = (
    "", "/", "//", "/.", "/..", "/../../x", "/%", "/%zz", "/%ff", "/%00", "/%2e%2e/", "/%2F", "/\xff", "/\xc3\xa9", "?",
    "??", "?%", "?a=\xff", "?a=b#c", "/a;b=c", "/" + "a/" * 2000, "?" + "a=b&" * 1000, "/{x}", "/*", "/|", '/"',
)  # fmt: skip
_AT_ONCE = 16
_WITHIN = 20.0


def requests() -> Iterator[tuple[str, str, Lines, bytes]]:
    """Method, target, lines and body of odd requests, each on a resource of its own and on one of all."""
    for name, value in itertools.product(REQUEST_FIELDS, VALUES):
        if name == "Expect" and not value.isascii():
            continue  # aiohttp answers Expect itself, before any application
        for method in ("GET", "POST") if name in ("Content-Type", "Content-Encoding", "Idempotency-Key") else ("GET",):
            yield method, "/c/one", [(name, value)], b"x" if method == "POST" else b""
    for method, path in itertools.product(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"), PATHS):
        yield method, f"/c/one{path}", [], b""
    for number, method in enumerate(("OPTIONS", "GET", "PUT")):
        yield method, ("*", "/", "//c/one")[number], [], b""


async def _status(port: int, method: str, target: str, lines: Lines, body: bytes) -> int:
    """The status of an answer; 0 when the edge closes the connection, as it may on what is no HTTP."""
    try:
        async with asyncio.timeout(_WITHIN):
            return (await exchange("127.0.0.1", port, method, target, lines, body)).head.status
    except (EOFError, ConnectionError):
        return 0


async def test_no_request_makes_a_500(tmp_path: Path) -> None:
    asked = list(requests())
    gate = asyncio.Semaphore(_AT_ONCE)
    async with ScriptedOrigin() as origin, edge_before(origin.url, tmp_path) as port:
        origin.fallback = (Answer(lines=(FRESH, 'ETag: "v1"')), b"0123456789")

        async def one(each: tuple[str, str, Lines, bytes]) -> int:
            async with gate:
                return await _status(port, *each)

        statuses = await asyncio.gather(*map(one, asked))
        assert await _status(port, "GET", "/c/one", [], b"") == 200
    assert [each for each, status in zip(asked, statuses, strict=True) if status == 500] == []


async def test_no_answer_of_the_origin_makes_a_500(tmp_path: Path) -> None:
    answers = [
        Answer(status=206 if name == "Content-Range" else 200, lines=(FRESH, 'ETag: "v1"', f"{name}: {value}"))
        for name, value in itertools.product(RESPONSE_FIELDS, VALUES)
    ]
    gate = asyncio.Semaphore(_AT_ONCE)
    async with ScriptedOrigin() as origin, edge_before(origin.url, tmp_path) as port:

        async def one(number: int, answer: Answer) -> list[int]:
            origin.scripts[str(number)] = (answer, b"0123456789")
            again: Lines = [("Accept-Encoding", "identity"), ("Range", "bytes=0-1"), ("If-None-Match", '"v1"')]
            async with gate:
                asked: list[tuple[str, Lines]] = [("GET", []), ("GET", again), ("HEAD", []), ("POST", [])]
                return [await _status(port, method, f"/c/{number}", lines, b"") for method, lines in asked]

        statuses = await asyncio.gather(*(one(number, answer) for number, answer in enumerate(answers)))
        origin.scripts["last"] = (Answer(), b"")
        assert await _status(port, "GET", "/c/last", [], b"") == 200
    assert [answer for answer, found in zip(answers, statuses, strict=True) if 500 in found] == []


NO_HTTP = (b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 100, b"GET / HTTP/1.1\r\n" * 9)


@pytest.mark.parametrize("octets", NO_HTTP)
async def test_what_is_no_http_leaves_the_edge_standing(tmp_path: Path, octets: bytes) -> None:
    async with ScriptedOrigin() as origin, edge_before(origin.url, tmp_path) as port:
        origin.fallback = (Answer(), b"")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        writer.close()
        assert await _status(port, "GET", "/c/one", [], b"") == 200
