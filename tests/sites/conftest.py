"""Two regions on servers of their own for each test, and the courier from the first to the second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.sites.tools import Regions
from tests.store.tools import SAO_PAULO, TOKYO, opened
from tests.support.servers import ValkeyServer


@pytest_asyncio.fixture
async def regions(tmp_path: Path) -> AsyncIterator[Regions]:
    async with (
        ValkeyServer(tmp_path / TOKYO) as one,
        ValkeyServer(tmp_path / SAO_PAULO) as other,
        opened(one.url, TOKYO, breaker_seconds=0.1) as first,
        opened(other.url, SAO_PAULO, breaker_seconds=0.1) as second,
    ):
        regions = Regions((one, other), (first, second))
        await regions.register()
        yield regions


@pytest_asyncio.fixture
async def store(regions: Regions) -> RegionStore:
    return regions.first


@pytest_asyncio.fixture
async def couriers(regions: Regions) -> AsyncIterator[tuple[Courier, Courier]]:
    couriers = (regions.courier(regions.first), regions.courier(regions.second))
    for courier in couriers:
        courier.start()
    yield couriers
    for courier in couriers:
        await courier.stop()
