"""A small world for tests: an origin, regions on real Valkey servers, edges over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import plugin

from . import eventually
from .origin import Origin
from .servers import ValkeyServer

# A test whose regions are gone need not wait long for those who look for them.
vars(plugin).update(DRAIN_SECONDS=2.0)

REGIONS = ("ap-northeast-1", "sa-east-1")
SECRET = "a secret of at least sixteen characters"
TOKYO = {"CF-IPCountry": "JP"}
SAO_PAULO = {"CF-IPCountry": "BR"}


class Reply(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: Any
    body: bytes
    cache_status: str


class Edge:
    """A running edge: its plug-in and its address."""

    def __init__(self, app: web.Application, runner: web.AppRunner, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.runner = runner
        self.cache = app[regioncache.REGION_CACHE]
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._session = session

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        """Send one request; redirects are not followed."""
        options.setdefault("allow_redirects", False)
        async with self._session.request(method, self.url + path, **options) as answer:
            body = await answer.read()
            return Reply(answer.status, answer.headers, body, answer.headers.get("Cache-Status", ""))

    async def get(self, path: str, **options: Any) -> Reply:
        """Send a GET."""
        return await self.ask("GET", path, **options)

    async def put(self, path: str, document: Any, **options: Any) -> Reply:
        """Send a PUT of a JSON document."""
        return await self.ask("PUT", path, json=document, **options)

    async def stop(self) -> None:
        """Shut down as a signal would."""
        await self.runner.cleanup()


class World:
    """`async with World(tmp_path) as world`: `world.origin`, `world.servers[region]`, `await world.edge(...)`."""

    def __init__(self, directory: Path, *, regions: Sequence[str] = REGIONS, origin: Origin | None = None) -> None:
        self.origin = origin or Origin()
        self.servers = {name: ValkeyServer(directory / name) for name in regions}
        self.edges: list[Edge] = []
        self.session: aiohttp.ClientSession
        self._stack = contextlib.AsyncExitStack()

    def settings(self, **changes: Any) -> regioncache.Settings:
        """Settings of this world: every region, writes behind on `/items/{id}` unless `rules` says otherwise."""
        options: dict[str, Any] = {
            "origin": self.origin.url,
            "regions": [regioncache.Region(name, redis=server.url) for name, server in self.servers.items()],
            "secrets": [SECRET],
            "trusted_proxies": ["127.0.0.1"],
            "rules": [regioncache.Rule("/items/{id}", write="behind")],
        }
        return regioncache.Settings(**(options | changes))

    async def edge(self, app: web.Application | None = None, **changes: Any) -> Edge:
        """Start an edge: `app` with the plug-in, or one that forwards everything; `changes` are settings."""
        app = app or forwarding_app()
        regioncache.setup(app, self.settings(**changes))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        edge = Edge(app, runner, self.session)
        await self._greeted(edge)
        self.edges.append(edge)
        self._stack.push_async_callback(edge.stop)
        return edge

    async def _greeted(self, edge: Edge) -> None:
        """Wait until an edge has met the regions that run, which on a busy machine may be after its start."""
        running = [store for name, store in edge.cache.stores.items() if self.servers[name].is_running]
        with contextlib.suppress(TimeoutError):  # of those that are refused, or stand still, nobody waits for ever
            await eventually(lambda: all(store.is_checked for store in running), within=3.0)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.origin)
        entering = (self._stack.enter_async_context(server) for server in self.servers.values())
        await asyncio.gather(*entering)
        self.session = await self._stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.origin.gate.set()
        self.origin.read_gate.set()
        await self._stack.aclose()


def forwarding_app() -> web.Application:
    """An application that leaves everything to the origin."""
    app = web.Application()
    regioncache.add_forwarding(app)
    return app


@contextlib.asynccontextmanager
async def one_edge(directory: Path, **changes: Any) -> AsyncIterator[tuple[World, Edge]]:
    """A world with one edge."""
    async with World(directory) as world:
        yield world, await world.edge(**changes)
