"""Starting and stopping everything: origin, distances, regions, edges, and the users' ways to them."""

import socket
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from aiohttp_regioncache import Region
from example_app.desk import add_desk
from example_app.distance import ROUND_TRIP_TO_ORIGIN_MS, DelayingProxy
from example_app.edge import make_anycast_edge, make_edge
from example_app.process import origin_process
from example_app.serving import Server, start_server
from example_app.ways import Demo, Way
from example_app.world import User, make_regions, make_users

SEEDS = 60
TIMEOUT = aiohttp.ClientTimeout(total=30)


@asynccontextmanager
async def running_demo(names: Sequence[str], directory: Path, listener: socket.socket) -> AsyncIterator[Demo]:
    """Start everything, with its data in `directory` and the main edge on `listener`; stop it at the end."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(origin_process(directory / "origin.sqlite", seeds=SEEDS))
        regions = make_regions(names, directory)
        ways: dict[str, Way] = {}
        front_ms = statistics.median_low(ROUND_TRIP_TO_ORIGIN_MS[name] for name in names)
        # The main edge starts first and stops last: it owns the embedded servers, the others connect to them.
        front = add_desk(make_anycast_edge(regions, await _behind(stack, port, front_ms)), ways)
        main = await _served(stack, front, listener)
        edges = {name: await _edge(stack, name, regions, port) for name in names}
        for user in make_users(regions):
            ways[user.country] = await _way(stack, user, edges[user.region].port, port)
        yield Demo(
            ways=ways,
            origin=await _client(stack, f"http://127.0.0.1:{port}"),
            edges={name: await _client(stack, edge.url) for name, edge in edges.items()},
            origin_url=f"http://127.0.0.1:{port}",
            front_url=main.url,
            front_round_trip_ms=front_ms,
        )


async def _edge(stack: AsyncExitStack, name: str, regions: Sequence[Region], port: int) -> Server:
    origin_url = await _behind(stack, port, ROUND_TRIP_TO_ORIGIN_MS[name])
    return await _served(stack, make_edge(name, regions, origin_url))


async def _way(stack: AsyncExitStack, user: User, edge_port: int, origin_port: int) -> Way:
    return Way(
        user,
        await _client(stack, await _behind(stack, edge_port, user.last_mile_ms)),
        await _client(stack, await _behind(stack, origin_port, user.straight_ms)),
    )


async def _served(stack: AsyncExitStack, app: web.Application, listener: socket.socket | None = None) -> Server:
    server = await start_server(app, listener)
    stack.push_async_callback(server.close)
    return server


async def _behind(stack: AsyncExitStack, port: int, round_trip_ms: float) -> str:
    return (await stack.enter_async_context(DelayingProxy("127.0.0.1", port, round_trip_ms))).url


async def _client(stack: AsyncExitStack, url: str) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return await stack.enter_async_context(aiohttp.ClientSession(url, connector=connector, timeout=TIMEOUT))
