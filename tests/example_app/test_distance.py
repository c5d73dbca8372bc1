"""The delaying proxy between real sockets."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from example_app.distance import ORIGIN_REGION, ROUND_TRIP_TO_ORIGIN_MS, DelayingProxy, last_mile_ms
from example_app.serving import start_server

# Timers may fire early by the resolution of the clock.
EARLY_SECONDS = 0.002


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def timed_exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    started = asyncio.get_running_loop().time()
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    return asyncio.get_running_loop().time() - started


async def test_an_exchange_costs_a_round_trip_and_the_first_one_also_the_handshake() -> None:
    async with echo_server() as port, DelayingProxy("127.0.0.1", port, 80) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        first = await timed_exchange(reader, writer)
        second = await timed_exchange(reader, writer)
        writer.close()
    assert first >= 0.160 - EARLY_SECONDS
    assert second >= 0.080 - EARLY_SECONDS


@pytest.mark.timeout(20)
async def test_bytes_keep_their_order_and_the_delay_is_not_paid_for_each_chunk() -> None:
    sent = random.Random(1).randbytes(8_000_000)
    # In series, half a second for each chunk that a socket yields, this would run into the timeout.
    async with echo_server() as port, DelayingProxy("127.0.0.1", port, 1000) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        received = asyncio.create_task(reader.read(-1))
        for start in range(0, len(sent), 50_000):
            writer.write(sent[start : start + 50_000])
            await writer.drain()
        writer.write_eof()
        assert await received == sent
        writer.close()


async def test_many_connections_share_the_distance() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.path)

    app = web.Application()
    app.router.add_get("/{n}", handler)
    server = await start_server(app)

    async def get(client: aiohttp.ClientSession, path: str) -> str:
        async with client.get(path) as response:
            return await response.text()

    async with (
        DelayingProxy("127.0.0.1", server.port, 20) as proxy,
        aiohttp.ClientSession(proxy.url) as client,
    ):
        paths = [f"/{n}" for n in range(50)]
        assert await asyncio.gather(*(get(client, path) for path in paths)) == paths
    await server.close()


async def test_a_target_that_refuses_closes_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with DelayingProxy("127.0.0.1", unused.getsockname()[1], 10) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await reader.read() == b""
            writer.close()


async def test_closing_cuts_connections_that_are_open() -> None:
    async with echo_server() as port:
        proxy = DelayingProxy("127.0.0.1", port, 10)
        await proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await timed_exchange(reader, writer)
        await proxy.close()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(RuntimeError, match="not started"):
            _ = proxy.port


async def test_a_client_that_resets_leaves_the_proxy_working() -> None:
    async with echo_server() as port, DelayingProxy("127.0.0.1", port, 10) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await timed_exchange(reader, writer)
        writer.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await timed_exchange(reader, writer)
        writer.close()


def test_the_table_is_plausible() -> None:
    assert ROUND_TRIP_TO_ORIGIN_MS[ORIGIN_REGION] == min(ROUND_TRIP_TO_ORIGIN_MS.values())
    assert all(1 <= milliseconds <= 400 for milliseconds in ROUND_TRIP_TO_ORIGIN_MS.values())


def test_a_last_mile_grows_with_the_distance() -> None:
    assert last_mile_ms(0) == 4
    assert last_mile_ms(1000) == 19
