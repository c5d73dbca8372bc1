"""A gateway whose misses are passed on inside the protocol, and origins that answer when they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Sync
from aiohttp_regioncache.gateway.access_log import Access, access_logger
from aiohttp_regioncache.gateway.passing import Outcome, Passed
from aiohttp_regioncache.gateway.protocol import FastHandler, GatewayRunner
from aiohttp_regioncache.gateway.worker import _close_connections
from aiohttp_regioncache.reads.misses import MissPlan
from tests.conformance.wire import Head
from tests.gateway.octets import Connection, RawOrigin, request, response
from tests.support import eventually
from tests.support.world import World, forwarding_app

_log: Final = logging.getLogger("tests.access")
_log.setLevel(logging.INFO)
NEVER: Final = "Cache-Control: no-store"
DATE: Final = "Date: Thu, 26 Nov 2026 00:00:00 GMT"
PAGE: Final = request("/page")
NOTED: Final = pytest.mark.parametrize("is_noted", [False, True])
"""Whether the octets of the request alone lead to its plan."""


class Passing:
    """A gateway before `origin`; `outcomes` are what passing on came to, one after the other."""

    def __init__(self, runner: GatewayRunner, cache: regioncache.RegionCache, origin: RawOrigin) -> None:
        self.runner = runner
        self.cache = cache
        self.origin = origin
        self.outcomes: list[Outcome] = []
        self.port: int = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def connection(self, source: str = "127.0.0.1") -> AsyncIterator[Connection]:
        """Connect from an address."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0), limit=2**22)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    async def asked(self, octets: bytes = PAGE, *, source: str = "127.0.0.1") -> Any:
        """Send a request; gives what is answered."""
        async with self.connection(source) as client:
            client.send(octets)
            return await client.answer()

    async def until_passed(self, octets: bytes = PAGE, *, source: str = "127.0.0.1") -> None:
        """Send a request until it is passed on inside the protocol."""

        async def is_passed() -> bool:
            self.outcomes.clear()
            await self.asked(octets, source=source)
            return len(self.outcomes) == 1 and isinstance(self.outcomes[0], Passed)

        await eventually(is_passed)
        self.outcomes.clear()
        self.origin.seen.clear()

    @property
    def handler(self) -> FastHandler:
        """The server's side of the only connection."""
        server: Any = self.runner.server
        (handler,) = server.connections
        assert isinstance(handler, FastHandler)
        return handler


@contextlib.asynccontextmanager
async def running(
    world: World, *, access: Any = None, stopping: asyncio.Event | None = None, **settings: Any
) -> AsyncIterator[tuple[GatewayRunner, regioncache.RegionCache]]:
    """Run a gateway, with the end of its connections once `stopping` is set; `access` takes the lines of its log."""
    app = forwarding_app()
    given: dict[str, Any] = {"rules": [], "trusted_proxies": [], "sync": Sync(enabled=False), **settings}
    cache = regioncache.setup(app, world.settings(**given))
    assert cache is not None
    _close_connections(app, stopping or asyncio.Event())
    log: dict[str, Any] = {"access_log": None}
    if access is not None:
        log = {"access_log": _log, "access_log_class": access_logger(access)}
    runner = GatewayRunner(app, cache.ways, access, shutdown_timeout=1.0, **log)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        await eventually(lambda: all(store.is_checked for store in cache.stores.values()))
        yield runner, cache
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def passing(
    tmp_path: Path,
    answer: Callable[[Head], bytes] | None = None,
    *,
    access: Any = None,
    origin_url: str | None = None,
    **settings: Any,
) -> AsyncIterator[Passing]:
    """Serve a gateway before an origin that answers with `answer`."""
    async with (
        RawOrigin(answer or (lambda _: response("ok", NEVER))) as origin,
        World(tmp_path) as world,
        running(world, access=access, origin=origin_url or origin.url, **settings) as (runner, cache),
    ):
        made = Passing(runner, cache, origin)
        told = FastHandler._told

        def noted(handler: FastHandler, plan: Any, data: Any, message: Any, outcome: Any) -> None:
            if isinstance(plan, MissPlan):
                made.outcomes.append(outcome)
            told(handler, plan, data, message, outcome)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FastHandler, "_told", noted)
            yield made


class Held:
    """An origin that answers when it is told to, or at once while it is `free`. `writers` are those who wait."""

    def __init__(self) -> None:
        self.free = True
        self.writers: list[asyncio.StreamWriter] = []
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; gives the address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()
            await eventually(lambda: not self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.writers.append(writer)
                if self.free:
                    self.tell()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def tell(self, octets: bytes | None = None) -> asyncio.StreamWriter:
        """Answer who has waited longest; gives the connection."""
        writer = self.writers.pop(0)
        writer.write(response("held", NEVER) if octets is None else octets)
        return writer

    def end(self) -> None:
        """Break off."""
        self.writers.pop(0).transport.abort()


@contextlib.asynccontextmanager
async def held(
    tmp_path: Path, *, is_noted: bool = False, **settings: Any
) -> AsyncIterator[tuple[Passing, Held, Connection]]:
    """A connection whose request is passed on and waits for the origin; `is_noted`: its octets are known."""
    origin = Held()
    async with origin.running() as url, passing(tmp_path, origin_url=url, **settings) as made:
        assert made.runner.gate is not None
        table = made.runner.gate.table("http", is_trusted=False)
        while is_noted and table.get(PAGE) is None:  # until the octets alone lead to its plan
            await made.until_passed()
        await made.until_passed()
        server: Any = made.runner.server
        await eventually(lambda: not server.connections)
        origin.free = False
        async with made.connection() as client:
            client.send(PAGE)
            await eventually(lambda: bool(origin.writers))
            assert made.handler._asks
            yield made, origin, client


class Noted:
    """An access log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[Access] = []

    def put(self, access: Access) -> None:
        """Keep a line."""
        self.lines.append(access)
