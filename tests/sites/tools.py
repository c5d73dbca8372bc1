"""What the tests of sites share: two regions, and sites to put."""

from __future__ import annotations

from typing import Any

from aiohttp_regioncache.site import Site
from aiohttp_regioncache.sites.store import put_site
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.support import eventually
from tests.support.servers import ValkeyServer


class Regions:
    """Two regions with their servers."""

    def __init__(self, servers: tuple[ValkeyServer, ValkeyServer], stores: tuple[RegionStore, RegionStore]) -> None:
        self.servers = servers
        self.stores = stores
        self.first, self.second = stores

    async def register(self) -> None:
        """Let each know the other."""
        known = {store.name: store.region.redis for store in self.stores}
        for store in self.stores:
            await store.register(known)

    async def find(self, name: str, _address: str) -> RegionStore | None:
        """The region of a name."""
        return next((store for store in self.stores if store.name == name), None)

    def courier(self, source: RegionStore) -> Courier:
        """A courier of one of them."""
        return Courier(source, self.find)


def site(domain: str = "shop.example", **options: Any) -> Site:
    """A site with an origin."""
    return Site(domain=domain, origin=options.pop("origin", "http://origin.example"), **options)


async def put_and_hear(store: RegionStore, wanted: Site) -> Site:
    """Store a site in one region, and wait until its announcement has been heard: nothing is on its way any more."""
    heard: list[str] = []
    store.events.on_change(lambda change: heard.append(change.site))
    put = await put_site([store], wanted)
    await eventually(lambda: put.id in heard)
    return put


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now
