"""What is read together, over one connection: servers that refuse, that go away, and who waits meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.store import glances
from aiohttp_regioncache.store.pipe import packed
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import opened
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer

KEY = packed("any")


async def test_a_server_that_has_lost_its_master_is_unavailable(store: RegionStore, client: Redis) -> None:
    assert await store.glances.get(store.partitions[0], [KEY]) == [None]
    await client.config_set("replica-serve-stale-data", "no")
    await client.replicaof("127.0.0.1", "1")
    with pytest.raises(RegionUnavailableError):
        await store.glances.get(store.partitions[0], [KEY])
    await client.replicaof("NO", "ONE")
    assert await store.glances.get(store.partitions[0], [KEY]) == [None]


async def test_who_waits_for_the_next_command_hears_when_those_under_way_fail(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glances, "UNDER_WAY", 1)
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", timeout=0.3) as store,
    ):
        await store.glances.get(store.partitions[0], [KEY])
        proxy.blackhole()
        first = asyncio.ensure_future(store.glances.get(store.partitions[0], [KEY]))
        await eventually(lambda: store.glances._under_way == 1)
        second = asyncio.ensure_future(store.glances.get(store.partitions[0], [KEY]))
        with pytest.raises(RegionUnavailableError):
            await first
        with pytest.raises(RegionUnavailableError):
            await asyncio.wait_for(second, 5)


async def test_a_connection_that_ends_late_takes_no_later_one_with_it(store: RegionStore) -> None:
    await store.glances.get(store.partitions[0], [KEY])
    pipe = store.glances._pipe
    assert pipe is not None
    pipe._transport.set_protocol(asyncio.Protocol())
    pipe._transport.close()  # it is told of the end only once the transport has got rid of what it has to write
    await store.glances.get(store.partitions[0], [KEY])
    later = store.glances._pipe
    assert later is not pipe
    pipe.connection_lost(None)
    assert store.glances._pipe is later


async def test_a_connection_that_is_lost_is_one_failure(server: ValkeyServer) -> None:
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", breaker_failures=2, breaker_seconds=60) as store,
    ):
        await store.glances.get(store.partitions[0], [KEY])
        proxy.blackhole()
        asked = []
        for number in range(1, 4):
            asked.append(asyncio.ensure_future(store.glances.get(store.partitions[0], [KEY])))
            await eventually(lambda number=number: store.glances._under_way == number)  # type: ignore[misc]
        await proxy.drop_connections()
        for each in asked:
            with pytest.raises(RegionUnavailableError):
                await each
        await proxy.accept()
        assert await store.glances.get(store.partitions[0], [KEY]) == [None]
