"""What a review found of misses that are passed on: the same as the normal way in time, log, order and number."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Gateway, Site
from aiohttp_regioncache.gateway.protocol import GatewayRunner
from aiohttp_regioncache.sites.store import delete_site, put_site
from tests.gateway.octets import Connection, RawOrigin, request, response
from tests.gateway.passing import NEVER, PAGE, Held, Noted, Passing, held, passing, running
from tests.sites.world import SITES
from tests.support import eventually
from tests.support.world import World

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nold\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\nX-State: old\r\n\r\n"


WAYS = pytest.mark.parametrize("way", ["normal", "fast"])


async def until_stored(cache: regioncache.RegionCache) -> None:
    """Wait until nothing is being stored any more."""
    assert cache._reader is not None
    fills = cache._reader._fills
    await eventually(lambda: not fills._under_way)


def _take(runner: GatewayRunner, way: str) -> None:
    """Have requests go one way."""
    assert runner.gate is not None
    runner.gate.is_open = way == "fast"


@contextlib.asynccontextmanager
async def waiting(tmp_path: Path, way: str) -> AsyncIterator[tuple[Any, Held, Any]]:
    """As `held`, inside the protocol or the normal way."""
    origin = Held()
    async with origin.running() as url, passing(tmp_path, origin_url=url) as made:
        await made.until_passed()
        server: Any = made.runner.server
        await eventually(lambda: not server.connections)
        origin.free = False
        _take(made.runner, way)
        async with made.connection() as client:
            client.send(PAGE)
            await eventually(lambda: bool(origin.writers))
            yield made, origin, client


@WAYS
@pytest.mark.parametrize("kind", ["chunked", "no-content"])
async def test_an_early_answer_is_not_stored_under_a_state_that_came_after_it(
    tmp_path: Path, kind: str, way: str
) -> None:
    """C1: GET is asked for, a PUT goes through and invalidates, then the origin's (old) answer to GET arrives."""
    async with waiting(tmp_path, way) as (made, origin, client):
        async with made.connection() as writing:
            writing.send(request("/page", "Content-Length: 1", method="PUT", body=b"x"))
            await eventually(lambda: len(origin.writers) == 2)
            put = origin.writers.pop(1)
            put.write(response("written", NEVER))
            written = await writing.answer("PUT")
            assert written is not None
            assert written.head.status == 200
        # The origin made this one before the write.
        origin.free = False
        writer = origin.tell(CHUNKED if kind == "chunked" else EMPTY)
        if kind == "chunked":
            if way == "fast":
                await eventually(lambda: bool(made.outcomes))
            writer.write(b"0\r\n\r\n")

        def more() -> None:
            while origin.writers:  # asked for anew after the state was remembered: that is what should happen
                origin.tell(response("new", "Cache-Control: max-age=60"))

        def is_done(task: asyncio.Future[Any]) -> bool:
            more()
            return task.done()

        first = asyncio.ensure_future(client.answer("GET"))
        await eventually(lambda: is_done(first))
        assert first.result() is not None
        await until_stored(made.cache)
        # After the PUT was answered nobody may get what was there before it from the store (C1, C2).
        origin.free = False
        later = asyncio.ensure_future(made.asked(request("/page", "X-Later: 1")))
        await eventually(lambda: is_done(later))
        came = later.result()
        assert "; hit" not in str(came.head.lines) or came.body == b"new", (came.head, came.body)


async def test_an_early_answer_that_nobody_takes_does_not_keep_its_connection(tmp_path: Path) -> None:
    """Another request has the page stored meanwhile: the client gets a hit, and idles."""
    async with held(tmp_path, gateway=Gateway(read_timeout=0.3)) as (made, origin, client):
        other = asyncio.ensure_future(made.asked(request("/page", "X-Other: 1")))
        await eventually(lambda: len(origin.writers) == 2)
        origin.writers.reverse()
        origin.tell(response("stored", "Cache-Control: max-age=60"))
        assert (await other).body == b"stored"
        await until_stored(made.cache)
        writer = origin.tell(
            b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        came = await client.answer()
        assert came is not None
        assert came.body == b"stored"
        await eventually(writer.transport.is_closing)  # though the client keeps its own
        assert made.handler.early is None


@contextlib.asynccontextmanager
async def asked(
    tmp_path: Path, way: str, **settings: Any
) -> AsyncIterator[tuple[GatewayRunner, Held, Connection, Noted]]:
    """A connection whose request waits for the origin; the log has no line yet."""
    origin, log = Held(), Noted()
    async with (
        origin.running() as url,
        World(tmp_path) as world,
        running(world, access=log, origin=url, **settings) as (runner, cache),
        Passing(runner, cache, RawOrigin()).connection() as client,
    ):
        await warmed(client)
        origin.free = False
        _take(runner, way)
        log.lines.clear()
        client.send(PAGE)
        await eventually(lambda: bool(origin.writers))
        yield runner, origin, client, log


async def warmed(client: Connection) -> None:
    """Have the page passed on."""
    for _ in range(6):
        client.send(PAGE)
        await client.answer()


@pytest.mark.parametrize("kind", ["late", "in pieces"])
@WAYS
async def test_the_log_knows_how_long_the_origin_took(tmp_path: Path, way: str, kind: str) -> None:
    async with asked(tmp_path, way, gateway=Gateway(read_timeout=0.5)) as (_, origin, client, log):
        if kind == "in pieces":
            await asyncio.sleep(0.4)
            writer = origin.tell(
                b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
            )
            await writer.drain()
            writer.write(b"0\r\n\r\n")
        await client.answer()
        await eventually(lambda: bool(log.lines))
        (line,) = log.lines
        assert line.duration >= 0.35


@WAYS
async def test_an_answer_ends_its_connection_when_the_worker_stops(tmp_path: Path, way: str) -> None:
    stopping = asyncio.Event()
    async with asked(tmp_path, way, stopping=stopping) as (runner, origin, client, _):
        stopping.set()  # as `work` does
        _take(runner, "normal")
        origin.tell()
        came = await client.answer()
        assert came is not None
        assert came.head.get("Connection") == "close"
        assert await client.answer() is None


@WAYS
async def test_an_answer_that_cannot_be_written_is_asked_for_once(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A control character in a field, which aiohttp reads and does not write. The plan stays: each time twice."""
    octets = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nX-A: a\x01b\r\nContent-Length: 2\r\n\r\nok"
    is_special = False
    async with passing(tmp_path, lambda _: octets if is_special else response("ok", NEVER)) as made:
        await made.until_passed()
        is_special = True
        _take(made.runner, way)
        for _ in range(5):
            await made.asked()
        gc.collect()
        assert len(made.origin.seen) == 5
        assert "never retrieved" not in caplog.text


@WAYS
async def test_what_may_but_cannot_be_stored_is_asked_for_once(tmp_path: Path, way: str) -> None:
    """The fields allow it, yet nothing is stored: a new plan is made each time, and each time it is given up."""
    octets = (
        b"HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nContent-Range: bytes 0-1/10\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    async with passing(tmp_path, lambda _: octets) as made:
        for _ in range(3):
            await made.asked()
        made.origin.seen.clear()
        _take(made.runner, way)
        for _ in range(5):
            await made.asked()
        assert len(made.origin.seen) == 5


@WAYS
async def test_a_client_that_left_is_logged(tmp_path: Path, way: str) -> None:
    """The origin fails after the client has left: the normal way writes a line of it."""
    async with asked(tmp_path, way, gateway=Gateway(read_timeout=0.4)) as (_, _origin, client, log):
        client._writer.transport.abort()
        await eventually(lambda: bool(log.lines))
        assert [(line.path, line.status) for line in log.lines] == [("/page", 504)]


@WAYS
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_head_that_comes_slowly_is_no_silence(tmp_path: Path, method: str, way: str) -> None:
    """`read_timeout`: seconds without a byte of an answer."""
    origin = Held()
    async with origin.running() as url, passing(tmp_path, origin_url=url, gateway=Gateway(read_timeout=0.5)) as made:
        await made.until_passed()
        origin.free = False
        _take(made.runner, way)
        async with made.connection() as client:
            client.send(request("/page", *(["Content-Length: 0"] if method == "POST" else []), method=method))
            await eventually(lambda: bool(origin.writers))
            writer = origin.tell(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n")
            for number in range(4):
                await asyncio.sleep(0.25)
                writer.write(b"X-%d: 1\r\n" % number)
            writer.write(b"Content-Length: 2\r\n\r\nok")
            came = await client.answer()
            assert came is not None
            assert came.head.status == 200


async def test_a_client_that_is_slow_to_begin_gets_all(tmp_path: Path) -> None:
    """`read_timeout` measures the origin: not while nothing is read from it for a client's sake."""
    whole = response("x" * 12_000_000, NEVER)
    big = False
    async with passing(
        tmp_path, lambda _: whole if big else response("ok", NEVER), gateway=Gateway(read_timeout=0.5)
    ) as made:
        await made.until_passed()
        big = True
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", made.port))
        await loop.sock_sendall(sock, PAGE)
        await asyncio.sleep(2)
        count = 0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            while count < 12_000_000:
                async with asyncio.timeout(5):
                    data = await loop.sock_recv(sock, 1 << 20)
                if not data:
                    break
                count += len(data)
        finally:
            sock.close()
        assert count >= 12_000_000


@pytest.mark.parametrize("control", ["Cache-Control: max-age=60\r\n", ""], ids=["fresh", "by the site"])
@WAYS
async def test_an_early_answer_is_of_the_origin_that_was_asked(tmp_path: Path, way: str, control: str) -> None:
    """A host moves to another tenant with an origin of its own while the old one's is asked."""
    old, new = Held(), RawOrigin(lambda _: response("new tenant"))
    async with (
        old.running() as url,
        new,
        World(tmp_path) as world,
        running(world, origin=None, sites=SITES) as (runner, cache),
    ):
        stores, made = list(cache.stores.values()), Passing(runner, cache, new)
        site = await put_site(stores, Site(domain="edge.example", origin=url))
        async with made.connection() as client:
            await warmed(client)
            handler = made.handler
            old.free = False
            _take(runner, way)
            client.send(PAGE)
            await eventually(lambda: bool(old.writers))
            await delete_site(stores, site.id)
            await put_site(stores, Site(domain="edge.example", origin=new.url, ttl=60))

            async def is_new() -> bool:
                return bool((await made.asked(request("/other"))).body == b"new tenant")

            await eventually(is_new)
            head = f"HTTP/1.1 200 OK\r\n{control}Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer = old.tell(head.encode() + b"a\r\nold tenant\r\n")
            await eventually(lambda: not handler._asks)  # it has been handed over
            writer.write(b"0\r\n\r\n")
            assert await client.answer() is not None
            await until_stored(cache)
        assert [(await made.asked()).body for _ in range(3)] == [b"new tenant"] * 3
