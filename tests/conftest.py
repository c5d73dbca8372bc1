"""A server of its own for each test that asks for one, a client of it, and the store of a region there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from redis.asyncio import Redis

from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import opened
from tests.support.servers import ValkeyServer


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    async with ValkeyServer(tmp_path / "server") as server:
        yield server


@pytest_asyncio.fixture
async def client(server: ValkeyServer) -> AsyncIterator[Redis]:
    async with server.client() as client:
        yield client


@pytest_asyncio.fixture
async def store(server: ValkeyServer) -> AsyncIterator[RegionStore]:
    async with opened(server.url) as store:
        yield store
