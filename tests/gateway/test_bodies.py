"""Bodies of requests: streamed, bounded, never sent twice; and what is expected before they come."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Gateway, OriginAddress
from tests.gateway.octets import RawOrigin, connection, request
from tests.reads.apps import running
from tests.sites.world import tenants
from tests.support import eventually
from tests.support.world import Edge, World

MIB = 1024 * 1024
LIMIT = 100_000


class Sink:
    """An origin that reads bodies and keeps their lengths; with `gate` cleared it waits before it reads more."""

    def __init__(self) -> None:
        self.begun = 0
        self.received = 0
        self.whole: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.Response:
        self.begun += 1
        size = 0
        async for chunk in request.content.iter_any():
            await self.gate.wait()
            size += len(chunk)
            self.received += len(chunk)
        self.whole.append(size)
        return web.Response(text=str(size))


@contextlib.asynccontextmanager
async def sinking(directory: Path, **changes: Any) -> AsyncIterator[tuple[Sink, Edge, World]]:
    """An edge before such an origin."""
    sink = Sink()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", sink.handle)
    async with World(directory) as world, running(app) as url:
        options: dict[str, Any] = {"origin": url, "rules": [], "gateway": Gateway(max_request_body=LIMIT)}
        yield sink, await world.edge(**(options | changes)), world
        sink.gate.set()


async def pieces(total: int, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """A body of `total` bytes."""
    for start in range(0, total, size):
        yield b"x" * min(size, total - start)


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_large_upload_passes_within_little_memory(tmp_path: Path, is_chunked: bool) -> None:
    async with sinking(tmp_path, gateway=Gateway()) as (sink, edge, _):
        headers = {} if is_chunked else {"Content-Length": str(20 * MIB)}
        await edge.ask("POST", "/warm", data=b"x")
        tracemalloc.start()
        try:
            answer = await edge.ask("POST", "/upload", data=pieces(20 * MIB), headers=headers)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.body == str(20 * MIB).encode()
        assert sink.whole == [1, 20 * MIB]
        assert peak < 5 * MIB


async def test_the_origin_gets_what_is_there_before_the_rest_is_sent(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (sink, edge, _):
        go_on = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await go_on.wait()
            yield b"rest"

        asking = asyncio.ensure_future(edge.ask("POST", "/upload", data=body()))
        await eventually(lambda: sink.received == 5)
        go_on.set()
        assert (await asking).body == b"9"


async def test_what_the_origin_does_not_take_is_not_read_from_the_client(tmp_path: Path) -> None:
    async with sinking(tmp_path, gateway=Gateway()) as (sink, edge, _):
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            async for piece in pieces(64 * MIB):
                yield piece
                sent += len(piece)

        sink.gate.clear()
        asking = asyncio.ensure_future(edge.ask("POST", "/upload", data=body()))
        seen = [-1, 0]

        async def is_at_rest() -> bool:
            await edge.get("/other") if sink.gate.is_set() else await asyncio.sleep(0.2)
            seen.append(sent)
            return sink.begun == 1 and seen[-1] == seen[-2] > 0

        await eventually(is_at_rest)
        assert sent < 40 * MIB
        sink.gate.set()
        assert (await asking).body == str(64 * MIB).encode()


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
@pytest.mark.parametrize("form", ["length", "chunked", "packed"])
async def test_a_body_beyond_the_limit_is_a_413(tmp_path: Path, method: str, form: str) -> None:
    async with sinking(tmp_path) as (sink, edge, _):
        headers = {}
        data: Any = b"x" * (LIMIT + 1)
        if form == "chunked":
            data = pieces(LIMIT + 1, 10_000)
        if form == "packed":  # a bomb: decoded it is longer than its length
            data, headers = gzip.compress(data), {"Content-Encoding": "gzip"}
        answer = await edge.ask(method, "/upload", data=data, headers=headers)
        assert answer.status == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert sink.whole == []
        for _ in range(4):
            assert (await edge.ask("POST", "/upload", data=pieces(LIMIT, 10_000))).body == str(LIMIT).encode()


async def test_clients_that_send_too_much_or_leave_give_the_origin_no_bad_name(tmp_path: Path) -> None:
    sink = Sink()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", sink.handle)
    gateway = Gateway(max_request_body=LIMIT)
    async with running(app) as one, running(app) as other, tenants(tmp_path, gateway=gateway) as place:
        await place.put("shop.example", origin=[OriginAddress(one), OriginAddress(other)])
        for _ in range(12):
            assert (await place.ask("shop.example", method="POST", data=pieces(LIMIT + 1, 10_000))).status == 413
        for _ in range(12):
            before = sink.begun
            async with connection(place.edge) as client:
                client.send(request("/upload", "Content-Length: 50", method="POST", body=b"begun", host="shop.example"))
                await eventually(lambda before=before: sink.begun > before)  # type: ignore[misc]
        assert (await place.ask("shop.example", method="POST", data=b"12345")).body == b"5"
        origins = place.edge.cache._origins
        (balance,) = origins._balances.values()
        assert [health.failures for health in balance._health.values()] == [0, 0]


async def test_half_a_body_is_never_sent_for_the_whole(tmp_path: Path) -> None:
    """On a connection that the origin ends as it is used once more."""
    seen: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.readuntil(b"\r\n\r\n")
            seen.append(await reader.read(1000))
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, World(tmp_path) as world:
        edge = await world.edge(origin=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", rules=[])
        for method in ("PUT", "DELETE", "POST"):
            for data in (b"a body", pieces(10)):
                assert (await edge.get("/page", headers={"Cache-Control": "no-store"})).status == 200
                before = connections
                assert (await edge.ask(method, "/page", data=data)).status == 502
                assert connections == before


# --- What is expected ---


@pytest.mark.parametrize("path", ["/upload", "/_regioncache/writes/x", "/_regioncache/sync", "/_regioncache/nothing"])
async def test_the_client_is_told_to_go_on(tmp_path: Path, path: str) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        edge = await world.edge(origin=origin.url)
        async with connection(edge) as client:
            client.send(request(path, "Expect: 100-Continue", "Content-Length: 4", method="POST"))
            client.send(b"body")
            answer = await client.answer("POST")
        assert answer is not None
        assert [head.status for head in answer.interim] == [100]
        assert answer.head.status == {"/upload": 200, "/_regioncache/writes/x": 405}.get(path, 404)
        for head, body in origin.seen:
            assert (head.values("Expect"), body) == ([], b"body")


@pytest.mark.parametrize("value", [b"200-ok", b"100-continue, 100-continue", b"\xff\xfe", b"\xc3\xbc", b'"'])
@pytest.mark.parametrize("path", ["/page", "/_regioncache/writes/x", "/_regioncache/sync", "/%0a"])
async def test_what_cannot_be_expected_is_a_417(tmp_path: Path, value: bytes, path: str) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        edge = await world.edge(origin=origin.url)
        async with connection(edge) as client:
            client.send(request(path, b"Expect: " + value, method="POST"))
            answer = await client.answer()
        assert answer is not None
        assert answer.head.status == 417
        assert origin.seen == []
        async with connection(edge) as client:
            client.send(request("/page"))
            own = await client.answer()
        assert own is not None
        assert own.body == b"GET /page"


async def test_http_1_0_expects_nothing(tmp_path: Path) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        edge = await world.edge(origin=origin.url)
        async with connection(edge) as client:
            client.send(request("/page", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"))
            answer = await client.answer()
        assert answer is not None
        assert (answer.interim, answer.body) == ([], b"GET /page")
