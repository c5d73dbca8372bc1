"""Edges that serve sites."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp_regioncache import Site, Sites
from aiohttp_regioncache.sites.store import put_site
from tests.support.world import Edge, Reply, World

SITES = Sites(enabled=True, allow_private_origins=True)


class Tenants:
    """An edge of sites, and what an operator does with them."""

    def __init__(self, world: World, edge: Edge) -> None:
        self.world = world
        self.edge = edge

    async def put(self, domain: str, **options: Any) -> Site:
        """Store a site; its origin is that of the world unless `options` say otherwise."""
        options.setdefault("origin", self.world.origin.url)
        return await put_site(list(self.edge.cache.stores.values()), Site(domain=domain, **options))

    async def ask(self, host: str, path: str = "/pages/1", method: str = "GET", **options: Any) -> Reply:
        """Send a request to a host."""
        return await self.edge.ask(method, path, headers={"Host": host, **options.pop("headers", {})}, **options)


@contextlib.asynccontextmanager
async def tenants(directory: Path, **changes: Any) -> AsyncIterator[Tenants]:
    """A world with an edge that serves sites."""
    async with World(directory) as world:
        edge = await world.edge(**({"origin": None, "rules": [], "sites": SITES} | changes))
        yield Tenants(world, edge)
