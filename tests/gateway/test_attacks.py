"""Attacks on the gateway: requests that two servers read in two ways, poisoned and deceived caches.

After each of them others get their own answers, over the same connections to the origin, and nothing is a 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from aiohttp_regioncache import Cache
from tests.reads.apps import running
from tests.sites.world import Tenants, tenants
from tests.support.world import Edge, Reply, World

SITE = "shop.example"


class Mirror:
    """An origin that says what it was asked, and lets it be stored unless the path says otherwise."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        body = await request.read()
        said = [
            request.method,
            request.rel_url.raw_path_qs,
            *(f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in _OF_THE_WAY),
            body.decode("latin-1"),
        ]
        kept = "no-store" if request.path.startswith("/attack") else "max-age=60"
        return web.Response(text="\n".join(said), headers={"Cache-Control": kept})

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return app


_OF_THE_WAY = frozenset({"cdn-loop", "via", "forwarded", "x-forwarded-for", "content-length", "transfer-encoding"})


class Place:
    """An edge before a mirror."""

    def __init__(self, edge: Edge, mirror: Mirror) -> None:
        self.edge = edge
        self.mirror = mirror
        self._victims = 0

    async def send(self, octets: bytes) -> list[bytes]:
        """Send octets on one connection, and give the answers that come until it is closed or silent."""
        parts = urlsplit(self.edge.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(octets)
        got = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while True:
                async with asyncio.timeout(0.3):
                    if not (piece := await reader.read(65_536)):
                        break
                    got += piece
        writer.close()
        return _divided(got)

    async def nobody_is_harmed(self) -> None:
        """Ask as others do, several at once: each gets their own answer."""
        paths = [f"/victim/{self._victims + number}" for number in range(6)]
        self._victims += len(paths)
        answers = await asyncio.gather(*(self.edge.get(path, headers={"Host": SITE}) for path in paths))
        for path, answer in zip(paths, answers, strict=True):
            assert answer.status == 200
            assert answer.body.decode().split("\n")[:2] == ["GET", path]


def _divided(octets: bytes) -> list[bytes]:
    """Answers one after the other, by their lengths."""
    answers = []
    while (end := octets.find(b"\r\n\r\n")) >= 0:
        found = re.search(rb"\r\nContent-Length: (\d+)", octets[:end])
        size = end + 4 + (int(found[1]) if found else 0)
        answers.append(octets[:size])
        octets = octets[size:]
    assert not octets, octets
    return answers


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    mirror = Mirror()
    async with World(tmp_path) as world, running(mirror.app()) as url:
        yield Place(await world.edge(origin=url, rules=[]), mirror)


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: shop.example\r\nX-Evil: 1\r\n\r\n"
CHUNKED = b"0\r\n\r\n"


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /attack HTTP/1.1", b"Host: shop.example", *lines, b"", b""]) + body


SMUGGLING = {
    "cl.te": _post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=CHUNKED + HIDDEN),
    "te.cl": _post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\n" + HIDDEN + b"\r\n" + CHUNKED),
    "two-lengths": _post(b"Content-Length: 0", b"Content-Length: 70", body=HIDDEN),
    "two-equal-lengths": _post(b"Content-Length: 1", b"Content-Length: 1", body=b"x" + HIDDEN),
    "list-of-lengths": _post(b"Content-Length: 0, 70", body=HIDDEN),
    "signed-length": _post(b"Content-Length: +1", body=b"x" + HIDDEN),
    "hex-length": _post(b"Content-Length: 0x1", body=b"x" + HIDDEN),
    "spaced-length": _post(b"Content-Length : 1", body=b"x" + HIDDEN),
    "unicode-length": _post("Content-Length: \u0661".encode(), body=b"x" + HIDDEN),
    "underscore-length": _post(b"Content-Length: 1_0", body=b"x" * 10 + HIDDEN),
    "te-odd-case": _post(b"Content-Length: 6", b"Transfer-Encoding: cHuNkEd", body=CHUNKED + HIDDEN),
    "te-unknown": _post(b"Content-Length: 6", b"Transfer-Encoding: xchunked", body=CHUNKED + HIDDEN),
    "te-identity": _post(b"Content-Length: 6", b"Transfer-Encoding: identity", body=CHUNKED + HIDDEN),
    "te-twice": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=CHUNKED + HIDDEN),
    "te-list": _post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED + HIDDEN),
    "te-folded": _post(b"Content-Length: 6", b"Transfer-Encoding:", b" chunked", body=CHUNKED + HIDDEN),
    "te-tab": _post(b"Content-Length: 6", b"Transfer-Encoding:\tchunked", body=CHUNKED + HIDDEN),
    "te-vertical-tab": _post(b"Content-Length: 6", b"Transfer-Encoding: \x0bchunked", body=CHUNKED + HIDDEN),
    "te-quoted": _post(b"Content-Length: 6", b'Transfer-Encoding: "chunked"', body=CHUNKED + HIDDEN),
    "te-before-colon": _post(b"Content-Length: 6", b"Transfer-Encoding : chunked", body=CHUNKED + HIDDEN),
    "te-bare-lf": _post(b"Content-Length: 6\nTransfer-Encoding: chunked", body=CHUNKED + HIDDEN),
    "te-bare-cr": _post(b"X: 1\rTransfer-Encoding: chunked", b"Content-Length: 6", body=CHUNKED + HIDDEN),
    "te-nul": _post(b"Content-Length: 6", b"Transfer-Encoding: chunked\x00", body=CHUNKED + HIDDEN),
    "te-http-1.0": _post(b"Transfer-Encoding: chunked", body=CHUNKED + HIDDEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "chunk-extension": _post(b"Transfer-Encoding: chunked", body=b"1;a=\n\r\nx\r\n" + CHUNKED + HIDDEN),
    "chunk-bare-lf": _post(b"Transfer-Encoding: chunked", body=b"1\nx\n0\n\n" + HIDDEN),
    "chunk-negative": _post(b"Transfer-Encoding: chunked", body=b"-1\r\nx\r\n" + CHUNKED + HIDDEN),
    "chunk-hex-prefix": _post(b"Transfer-Encoding: chunked", body=b"0x1\r\nx\r\n" + CHUNKED + HIDDEN),
    "chunk-huge": _post(b"Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\nx\r\n" + CHUNKED + HIDDEN),
    "chunk-trailer": _post(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 70\r\nHost: x\r\n\r\n" + HIDDEN),
    "get-with-body": _post(b"Content-Length: 54", body=HIDDEN).replace(b"POST /attack", b"GET /attack", 1),
    "head-with-body": _post(b"Content-Length: 54", body=HIDDEN).replace(b"POST /attack", b"HEAD /attack", 1),
    "expect": _post(b"Expect: 100-continue", b"Content-Length: 54", body=HIDDEN),
    "upgrade-h2c": _post(
        b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", body=HIDDEN
    ),
    "connection-hides-length": _post(b"Connection: Content-Length", b"Content-Length: 54", body=HIDDEN),
    "line-in-name": _post(b"X\r\n Y: 1", b"Content-Length: 0", body=HIDDEN),
    "no-host": b"POST /attack HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "two-hosts": _post(b"Host: evil.example", b"Content-Length: 0", body=HIDDEN),
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_edge_and_origin_read_the_same_requests(place: Place, name: str) -> None:
    answers = await place.send(SMUGGLING[name])
    assert all(_status(answer) != 500 for answer in answers), answers
    answered = sum(_status(answer) == 200 for answer in answers)
    # What the origin was asked, the attacker's own connection was answered: nobody else's will be.
    assert len(place.mirror.asked) == answered
    await place.nobody_is_harmed()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            b"GET /attack HTTP/1.1\r\nHost: shop.example\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", id="long-field"
        ),
        pytest.param(b"GET /attack?" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: shop.example\r\n\r\n", id="long-target"),
        pytest.param(
            b"GET /attack HTTP/1.1\r\nHost: shop.example\r\n"
            + b"".join(b"X-%d: 1\r\n" % n for n in range(50_000))
            + b"\r\n",
            id="many-fields",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2"),
        pytest.param(b"GET http://evil.example/attack HTTP/1.1\r\nHost: shop.example\r\n\r\n", id="absolute"),
        pytest.param(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", id="connect"),
        pytest.param(b"GET //evil.example/attack HTTP/1.1\r\nHost: shop.example\r\n\r\n", id="two-slashes"),
        pytest.param(b"GET /attack HTTP/1.1\r\nHost: shop.example@evil.example\r\n\r\n", id="host-user"),
        pytest.param(b"GET /attack HTTP/1.1\r\nHost: shop.example/x\r\n\r\n", id="host-path"),
        pytest.param(b"GET /attack HTTP/1.1\r\nHost: shop.example evil.example\r\n\r\n", id="host-space"),
        pytest.param(b"GET /attack HTTP/1.1\r\nHost:\r\n\r\n", id="host-empty"),
        pytest.param(b"GET /attack HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", id="host-octets"),
        pytest.param(b"GET /attack HTTP/9.9\r\nHost: shop.example\r\n\r\n", id="version"),
        pytest.param(b"G\x00T /attack HTTP/1.1\r\nHost: shop.example\r\n\r\n", id="method"),
    ],
)
async def test_heads_that_are_none_or_too_large_harm_nobody(place: Place, head: bytes) -> None:
    answers = await place.send(head)
    assert all(_status(answer) < 500 or _status(answer) in (501, 505) for answer in answers), answers
    assert not any(b"evil.example" in request.host.encode() for request in place.mirror.asked)
    await place.nobody_is_harmed()


# --- the cache ---

UNKEYED = (
    "X-Forwarded-Host", "X-Host", "X-Original-Host", "X-Forwarded-Server", "X-Forwarded-Proto", "X-Forwarded-Scheme",
    "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Original-URL", "X-Rewrite-URL", "Forwarded", "X-HTTP-Method-Override",
    "X-HTTP-Method", "X-Method-Override", "X_Forwarded_Host", "X-Original-URI", "X-HTTP-Host-Override", "Proxy", "True-Client-IP", "CF-Connecting-IP", "X-Real-IP",
)  # fmt: skip


@pytest.mark.parametrize("name", UNKEYED)
async def test_a_field_that_is_in_no_key_changes_nothing_for_others(tmp_path: Path, name: str) -> None:
    mirror = Mirror()
    async with World(tmp_path) as world, running(mirror.app()) as url:
        edge = await world.edge(origin=url, rules=[], trusted_proxies=["192.0.2.0/24"])
        host = {"Host": SITE}
        await edge.get("/page", headers={**host, name: "evil.example"})
        answer = await edge.get("/page", headers=host)
        assert "; hit" in answer.cache_status
        assert b"evil.example" not in answer.body


async def test_what_a_trusted_proxy_lets_through_is_no_host(tmp_path: Path) -> None:
    mirror = Mirror()
    async with World(tmp_path) as world, running(mirror.app()) as url:
        edge = await world.edge(origin=url, rules=[], trusted_proxies=["127.0.0.1"])
        host = {"Host": SITE}
        await edge.get("/page", headers={**host, "X-Forwarded-Host": "evil.example", "X-Original-URL": "/evil.example"})
        answer = await edge.get("/page", headers=host)
        assert "; hit" in answer.cache_status
        assert b"evil.example" not in answer.body


async def test_schemes_that_a_trusted_proxy_tells_have_answers_of_their_own(tmp_path: Path) -> None:
    mirror = Mirror()
    async with World(tmp_path) as world, running(mirror.app()) as url:
        edge = await world.edge(origin=url, rules=[])
        secure = {"Host": SITE, "X-Forwarded-Proto": "https"}
        first = await edge.get("/page", headers=secure)
        assert b"X-Forwarded-Proto: https" in first.body
        plain = await edge.get("/page", headers={"Host": SITE})
        assert b"X-Forwarded-Proto: http\n" in plain.body
        assert "; hit" in (await edge.get("/page", headers=secure)).cache_status


@pytest.mark.parametrize(
    "host", ["evil.example", "shop.example.evil.example", "shop.example:80@evil.example", "SHOP.example\t"]
)
async def test_a_host_that_is_no_sites_reaches_no_origin(tmp_path: Path, host: str) -> None:
    mirror = Mirror()
    async with tenants(tmp_path) as place, running(mirror.app()) as url:
        await place.put(SITE, origin=url)
        answer = await place.ask(host, "/page")
        assert answer.status in (400, 421) or host.strip().lower() == SITE
        assert all(request.host.lower() == SITE for request in mirror.asked)


async def test_a_port_in_the_host_is_in_the_key(tmp_path: Path) -> None:
    mirror = Mirror()
    async with tenants(tmp_path) as place, running(mirror.app()) as url:
        await place.put(SITE, origin=url)
        await place.ask(f"{SITE}:1234", "/page")
        answer = await place.ask(SITE, "/page")
        assert b"1234" not in answer.body


class Accounts:
    """An application that shows the account of a session under any path that begins with `/account`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        user = request.cookies.get("session", "")
        headers = {"Cache-Control": "max-age=60"} if "cached" in request.query_string else {}
        return web.Response(text=f"account of {user or 'nobody'}", content_type="text/css", headers=headers)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return app


DECEPTIONS = (
    "/account/x.css", "/account%2fx.css", "/account;x.css", "/account.css", "/account%00.css", "/account%3f.css",
    "/account/..%2fstatic/x.css", "/static/..%2faccount", "/account%23x.css", "/account/%2e%2e/static/x.css",
    "/account?cached&x.css", "/account%0ax.css", "//account/x.css", "/account\\x.css", "/ACCOUNT/x.css",
)  # fmt: skip


@pytest.mark.parametrize("path", DECEPTIONS)
async def test_an_answer_to_a_session_is_served_to_nobody_else(tmp_path: Path, path: str) -> None:
    accounts = Accounts()
    async with tenants(tmp_path, cache=Cache(ttl={"200": 60.0, "any": 1.0})) as place, running(accounts.app()) as url:
        await place.put(SITE, origin=url)
        await _ask(place, path, {"Cookie": "session=ann"})
        for other in ({}, {"Cookie": "session=ben"}):
            answer = await _ask(place, path, other)
            assert b"ann" not in answer.body


async def _ask(place: Tenants, path: str, headers: dict[str, str]) -> Reply:
    async with place.world.session.get(
        URL(place.edge.url + path, encoded=True), headers={"Host": SITE, **headers}, allow_redirects=False
    ) as answer:
        return Reply(answer.status, answer.headers, await answer.read(), answer.headers.get("Cache-Status", ""))
