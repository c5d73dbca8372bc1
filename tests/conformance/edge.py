"""An edge before an origin: one region on a real server, everything at its default, no rules."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

import aiohttp_regioncache as regioncache
from tests.support.servers import ValkeyServer
from tests.support.world import forwarding_app


@contextlib.asynccontextmanager
async def edge_before(origin: str, directory: Path) -> AsyncIterator[int]:
    """Run an edge before the origin at an address; gives its port on loopback."""
    async with ValkeyServer(directory / "region") as server:
        app = forwarding_app()
        region = regioncache.Region("here", redis=server.url, latitude=0.0, longitude=0.0)
        regioncache.setup(app, regioncache.Settings(origin=origin, regions=[region]))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()
