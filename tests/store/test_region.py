"""What a region's server is checked for, and the mark of its run."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from aiohttp_regioncache.errors import EvictionPolicyError, LayoutMismatchError, RegionUnavailableError
from aiohttp_regioncache.reads.decide import Standing, standing
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.settings import Connections
from aiohttp_regioncache.store import entries
from aiohttp_regioncache.store.keyspace import LAYOUT, META
from aiohttp_regioncache.store.region import RegionStore, open_all
from tests.store import tools
from tests.store.tools import SAO_PAULO, TOKYO, opened, raw, resource
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.servers import ReplicaPair, ValkeyServer, free_port

ITEM = resource("/items/1")


@pytest.mark.parametrize(("name", "partitions", "field"), [(SAO_PAULO, 1, "region"), (TOKYO, 4, "partitions")])
async def test_a_server_of_another_layout_is_refused(
    server: ValkeyServer, store: RegionStore, name: str, partitions: int, field: str
) -> None:
    with pytest.raises(LayoutMismatchError, match=field):
        async with opened(server.url, name, partitions=partitions):
            pass


@pytest.mark.parametrize("layout", [LAYOUT - 1, LAYOUT + 1])
async def test_the_layout_of_another_version_is_refused(server: ValkeyServer, client: Redis, layout: int) -> None:
    await raw(client, "HSET", META, "layout", str(layout))
    with pytest.raises(LayoutMismatchError, match=f"layout={layout}, this version needs {LAYOUT}: .*drain"):
        async with opened(server.url):
            pass


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_server_that_may_evict_queued_writes_is_refused(tmp_path: Path, policy: str) -> None:
    async with ValkeyServer(tmp_path, config={"maxmemory-policy": policy}) as server:
        with pytest.raises(EvictionPolicyError, match=policy):
            async with opened(server.url):
                pass
        async with opened(server.url, writes_behind=False) as store:
            assert store.is_checked


async def test_a_server_that_is_refused_later_is_no_longer_checked(
    server: ValkeyServer, store: RegionStore, client: Redis
) -> None:
    seen = [store.is_checked]
    await raw(client, "HSET", META, "partitions", "9")
    with pytest.raises(LayoutMismatchError):
        await store.check()
    seen.append(store.is_checked)
    await raw(client, "HSET", META, "partitions", "1")
    await store.check()
    assert [*seen, store.is_checked] == [True, False, True]


async def test_a_policy_that_is_refused_later_ends_the_check_too(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path) as server, opened(server.url, breaker_seconds=0.05) as store:
        await server.kill()
        evicting = ValkeyServer(tmp_path, port=server.port, config={"maxmemory-policy": "allkeys-lru"})
        async with evicting:

            async def is_refused() -> bool:
                try:
                    await store.check()
                except RegionUnavailableError:
                    return False
                except EvictionPolicyError:
                    return True
                return False

            await eventually(is_refused)
            assert not store.is_checked


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
async def test_a_server_that_keeps_what_has_no_lifetime_is_taken(tmp_path: Path, policy: str) -> None:
    async with ValkeyServer(tmp_path, config={"maxmemory-policy": policy}) as server, opened(server.url) as store:
        assert store.is_checked


async def test_one_region_that_is_refused_closes_all(server: ValkeyServer, client: Redis, tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path / "other") as other:
        await raw(client, "HSET", META, "region", "elsewhere")
        stores = [
            RegionStore(Region(name, redis=url), Connections(), writes_behind=True)
            for name, url in ((TOKYO, server.url), (SAO_PAULO, other.url))
        ]
        with pytest.raises(LayoutMismatchError):
            await open_all(stores)

        async def is_alone() -> bool:
            return len(await client.client_list()) == 1

        await eventually(is_alone)


async def test_a_region_that_is_down_opens_unchecked_and_is_checked_later(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    async with opened(f"redis://127.0.0.1:{server.port}", breaker_seconds=0.05) as store:
        assert not store.is_checked
        async with server:

            async def is_checked() -> bool:
                try:
                    await store.check()
                except RegionUnavailableError:
                    return False
                return store.is_checked

            await eventually(is_checked)
            assert store.run


async def test_another_run_of_the_server_shows_in_its_entries(tmp_path: Path) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    async with ValkeyServer(tmp_path, config=config) as server, opened(server.url, breaker_seconds=0.05) as store:
        partition, before = store.partitions[0], store.run
        remembered = await entries.begin(store, partition, ITEM)
        assert await entries.fill(store, partition, ITEM, "key", tools.entry(ITEM.path, remembered), 60, None)
        seen = await entries.glance(store, partition, "key", ITEM)
        assert standing(seen.entry, seen.state, store.run) is Standing.USABLE
        await server.kill()
        await server.start()
        await eventually(lambda: store.run != before)
        seen = await _glance(store)
        assert standing(seen.entry, seen.state, store.run) is Standing.OTHER_RUN
        renewed = await entries.begin(store, partition, ITEM)
        assert renewed.token != remembered.token
        assert renewed.token.startswith(store.run)
        assert await entries.begin(store, partition, ITEM) == renewed  # fetches of one moment join
        seen = await _glance(store)
        assert standing(seen.entry, seen.state, store.run) is Standing.OTHER_RUN  # as long as no fetch has succeeded
        for _ in range(2):
            assert await entries.fill(store, partition, ITEM, "new", tools.entry(ITEM.path, renewed), 60, None)
        seen = await _glance(store)
        assert standing(seen.entry, seen.state, store.run) is Standing.INVALIDATED
        seen = await entries.glance(store, partition, "new", ITEM)
        assert standing(seen.entry, seen.state, store.run) is Standing.USABLE
        late = tools.entry(ITEM.path, remembered)
        assert not await entries.fill(store, partition, ITEM, "key", late, 60, None)


async def test_an_invalidation_during_the_first_fetch_of_a_run_ends_it(tmp_path: Path) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    async with ValkeyServer(tmp_path, config=config) as server, opened(server.url, breaker_seconds=0.05) as store:
        partition, before = store.partitions[0], store.run
        await entries.begin(store, partition, ITEM)
        await server.kill()
        await server.start()
        await eventually(lambda: store.run != before)
        await _glance(store)
        renewed = await entries.begin(store, partition, ITEM)
        await entries.invalidate(store, partition, (ITEM.digest,))
        assert not await entries.fill(store, partition, ITEM, "key", tools.entry(ITEM.path, renewed), 60, None)


async def _glance(store: RegionStore) -> entries.Glance:
    found: list[entries.Glance] = []

    async def is_there() -> bool:
        try:
            found.append(await entries.glance(store, store.partitions[0], "key", ITEM))
        except RegionUnavailableError:
            return False
        return True

    await eventually(is_there)
    return found[0]


async def test_all_edges_give_one_run_the_same_mark(server: ValkeyServer) -> None:
    async with opened(server.url) as one, opened(server.url) as other:
        assert one.run == other.run != ""


async def test_the_clock_is_the_servers(server: ValkeyServer, client: Redis, store: RegionStore) -> None:
    seconds, microseconds = await raw(client, "TIME")
    assert abs(store.now() - (seconds + microseconds / 1e6)) < 1.0


async def test_an_adopted_region_takes_the_layout_that_is_there(server: ValkeyServer) -> None:
    async with opened(server.url, partitions=4):
        pass
    region = Region(TOKYO, redis=server.url)
    store = RegionStore(region, Connections(), writes_behind=False, adopted=True)
    await store.open()
    assert len(store.partitions) == 4
    await store.close()


async def test_an_address_that_leads_to_another_primary_is_followed(tmp_path: Path) -> None:
    """Its old connections lead to a replica: what they answer is unavailability, and they are given up."""
    async with (
        ReplicaPair(tmp_path) as pair,
        TcpProxy("127.0.0.1", pair.primary.port) as before,
        opened(f"redis://127.0.0.1:{before.port}", breaker_seconds=0.05) as store,
    ):
        async with pair.replica.client() as new, pair.primary.client() as old:
            await raw(new, "REPLICAOF", "NO", "ONE")
            await raw(old, "REPLICAOF", "127.0.0.1", pair.replica.port)
        with pytest.raises(RegionUnavailableError):
            await tools.accept(store, tools.acceptance())
        before.refuse()
        after = TcpProxy("127.0.0.1", pair.replica.port)
        after.port = before.port
        async with after:

            async def is_taken() -> bool:
                try:
                    return (await tools.accept(store, tools.acceptance())).seq > 0
                except RegionUnavailableError:
                    return False

            await eventually(is_taken)


async def test_a_refused_port_opens_at_once(tmp_path: Path) -> None:
    async with opened(f"redis://127.0.0.1:{free_port()}") as store:
        with pytest.raises(RegionUnavailableError):
            await entries.begin(store, store.partitions[0], ITEM)


async def test_regions_that_must_hear_are_registered_by_name(store: RegionStore) -> None:
    await store.register({"a": "redis://a", "b": "redis://b"})
    await store.register({"b": "redis://elsewhere"})
    assert await store.registered() == {"a": "redis://a", "b": "redis://elsewhere"}
