"""Interim responses of the origin reach the client and no store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import Handler
from tests.support import eventually
from tests.support.world import Edge, World, forwarding_app

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nKeep-Alive: x\r\nX-Odd: \xfc\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=%d\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def origin(*pieces: bytes) -> AsyncIterator[str]:
    """An origin that answers every request with the same octets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


async def exchange(edge: Edge, version: str = "1.1") -> bytes:
    """The octets that a GET is answered with."""
    host, _, port = edge.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /page HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_hints_are_passed_on_once_and_not_stored(tmp_path: Path) -> None:
    async with World(tmp_path) as world, origin(b"HTTP/1.1 102 Processing\r\n\r\n", HINTS, FINAL % 60) as url:
        edge = await world.edge(origin=url, rules=[])
        first = await exchange(edge)
        processing, hints, head = first.split(b"\r\n\r\n")[:3]
        assert processing == b"HTTP/1.1 102 Processing"
        assert hints == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Odd: \xfc"
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"Link" not in head
        assert first.endswith(b"\r\n\r\nok")
        second = await exchange(edge)
        assert second.startswith(b"HTTP/1.1 200 OK")
        assert b"; hit" in second
        assert b"Link" not in second


async def test_http_1_0_gets_none(tmp_path: Path) -> None:
    async with World(tmp_path) as world, origin(HINTS, FINAL % 60) as url:
        edge = await world.edge(origin=url, rules=[])
        assert (await exchange(edge, "1.0")).startswith(b"HTTP/1.0 200 OK")


async def test_a_renewal_in_the_background_sends_none(tmp_path: Path) -> None:
    final = FINAL.replace(b"max-age=%d", b"max-age=0, stale-while-revalidate=60")
    async with World(tmp_path) as world, origin(HINTS, final) as url:
        edge = await world.edge(origin=url, rules=[], cache=Cache(memory_seconds=0))
        assert (await exchange(edge)).startswith(b"HTTP/1.1 103")
        for _ in range(3):
            answer = await exchange(edge)
            assert answer.count(b"HTTP/1.1") == 1
            assert b"stale-while-revalidate" in answer


async def test_who_leaves_while_hints_come_takes_the_answer_from_nobody(tmp_path: Path) -> None:
    hints, go = b"HTTP/1.1 103 Early Hints\r\nLink: </%b>\r\n\r\n" % (b"a" * 8000), asyncio.Event()
    asking: list[web.Request] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b"/page" in asked:
            await go.wait()
            for _ in range(2000):
                writer.write(hints)
                await writer.drain()
        writer.write(FINAL % 60)
        await writer.drain()
        writer.close()

    @web.middleware
    async def noting(request: web.Request, handler: Handler) -> web.StreamResponse:
        asking.append(request)
        return await handler(request)

    app = forwarding_app()
    app.middlewares.append(noting)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, World(tmp_path) as world:
        edge = await world.edge(app, origin=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", rules=[])
        host, _, port = edge.url.removeprefix("http://").partition(":")
        _, leader = await asyncio.open_connection(host, int(port))
        leader.transport.pause_reading()  # type: ignore[attr-defined]
        leader.write(f"GET /page HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        await eventually(lambda: len(asking) == 1)
        await edge.get("/other")
        other = asyncio.create_task(edge.get("/page"))
        await eventually(lambda: len(asking) == 3)
        await edge.get("/others")  # by now one waits for what the other fetches
        go.set()
        first = asking[0].transport
        assert first is not None
        await eventually(lambda: first.get_write_buffer_size() > 65_536)  # from there on writers have to wait
        leader.transport.abort()
        answer = await other
        assert (answer.status, answer.body) == (200, b"ok")
        assert "collapsed" in answer.cache_status
