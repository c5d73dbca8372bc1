"""What is read together, over one connection: servers that refuse, that go away, and who waits meanwhile."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.store.pipe import packed
from aiohttp_regioncache.store.region import RegionStore

KEY = packed("any")


async def test_a_server_that_has_lost_its_master_is_unavailable(store: RegionStore, client: Redis) -> None:
    assert await store.glances.get(store.partitions[0], [KEY]) == [None]
    await client.config_set("replica-serve-stale-data", "no")
    await client.replicaof("127.0.0.1", "1")
    with pytest.raises(RegionUnavailableError):
        await store.glances.get(store.partitions[0], [KEY])
    await client.replicaof("NO", "ONE")
    assert await store.glances.get(store.partitions[0], [KEY]) == [None]
