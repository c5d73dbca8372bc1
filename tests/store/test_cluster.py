"""A region on a real Cluster: every script, the subscription, and invalidations to and from a single server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aiohttp_regioncache.errors import EvictionPolicyError, LayoutMismatchError, RegionUnavailableError
from aiohttp_regioncache.keys import Resource
from aiohttp_regioncache.purges import Line
from aiohttp_regioncache.reads.decide import Standing
from aiohttp_regioncache.store import entries, outbox, purging, queue
from aiohttp_regioncache.store.accepting import Verdict
from aiohttp_regioncache.store.events import Changed
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.store import tools
from tests.store.tools import (
    SAO_PAULO,
    TOKYO,
    accept,
    acceptance,
    fetched,
    look,
    opened,
    raw,
    resource,
    settle,
    standing_of,
)
from tests.support import eventually
from tests.support.servers import ValkeyCluster, ValkeyServer, flush_all

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 8
PATHS = [f"/group{n}/item" for n in range(24)]
RESOURCES = [resource(path) for path in PATHS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyCluster]:
    async with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(running: ValkeyCluster) -> ValkeyCluster:
    await flush_all(running.servers)
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def store(cluster: ValkeyCluster) -> AsyncIterator[RegionStore]:
    async with opened(cluster.url, partitions=PARTITIONS, breaker_seconds=0.1) as store:
        yield store


async def _tokens(store: RegionStore) -> list[str]:
    """The tokens of all resources, made where there are none; asked for at once."""
    asked = (entries.begin(store, store.partition(each), each) for each in RESOURCES)
    return [remembered.token for remembered in await asyncio.gather(*asked)]


async def _announce(store: RegionStore, each: Resource) -> None:
    announced = outbox.announce(each.group, (each.digest,))
    await entries.invalidate(store, store.partition(each), (each.digest,), announce=announced)


async def test_writes_are_accepted_claimed_and_settled_on_every_node(store: RegionStore) -> None:
    assert store.is_checked
    assert len({store.partition(each).number for each in RESOURCES}) == PARTITIONS
    writes = [acceptance(path, affects=(f"{path}s",), stored=n % 2 == 0) for n, path in enumerate(PATHS)]
    accepted = await asyncio.gather(*(accept(store, write) for write in writes))
    assert {answer.verdict for answer in accepted} == {Verdict.ACCEPTED}
    for write, answer in zip(writes, accepted, strict=True):
        again = await accept(store, write)
        assert (again.verdict, again.detail) == (Verdict.ACCEPTED, answer.detail)
    for partition in store.partitions:
        claims = {each.digest: each for each in await queue.claim(store, partition, "fence", 100, 60)}
        for write, answer in zip(writes, accepted, strict=True):
            if (claimed := claims.get(write.target.digest)) is None:
                continue
            looked = await look(store, write.target, "p1")
            assert [item.number for item in looked.pending] == [answer.seq]
            assert await settle(store, partition, claimed, write, answer.seq) == ("settled", 0)
    for partition in store.partitions:
        depth = await queue.depth(store, partition)
        assert (depth.writes, depth.bytes, depth.due) == (0, 0, 0)
        assert depth.newest > 0


async def test_entries_are_stored_read_and_invalidated(store: RegionStore) -> None:
    begun = [await entries.begin(store, store.partition(each), each) for each in RESOURCES]
    assert all(remembered.token.startswith(store.run) for remembered in begun)
    filling = [
        entries.fill(store, store.partition(each), each, each.path, tools.entry(each.path, remembered), 60, None)
        for each, remembered in zip(RESOURCES, begun, strict=True)
    ]
    assert all(await asyncio.gather(*filling))
    seen = await asyncio.gather(*(entries.glance(store, store.partition(each), each.path, each) for each in RESOURCES))
    assert [glance.entry.url for glance in seen if glance.entry] == [f"http://edge.example{path}" for path in PATHS]
    await entries.invalidate(store, store.partition(RESOURCES[0]), (RESOURCES[0].digest,))
    tokens = await _tokens(store)
    assert tokens[0] != begun[0].token
    assert tokens[1:] == [remembered.token for remembered in begun[1:]]


async def test_forgotten_scripts_are_loaded_on_the_node_that_needs_them(
    cluster: ValkeyCluster, store: RegionStore
) -> None:
    before = await _tokens(store)
    for server in cluster.servers:
        async with server.client() as client:
            await raw(client, "SCRIPT", "FLUSH", "SYNC")
    assert await _tokens(store) == before


async def test_announcements_are_heard_whichever_node_made_them(store: RegionStore) -> None:
    await eventually(lambda: store.events.is_connected)
    seen: list[Changed] = []
    store.events.on_change(seen.append)
    for each in RESOURCES:
        await entries.invalidate(store, store.partition(each), (each.digest,))
    await eventually(lambda: len(seen) == len(RESOURCES))
    assert {digest for changed in seen for digest in changed.digests} == {each.digest for each in RESOURCES}


async def test_the_mark_of_the_run_is_the_same_everywhere_and_changes_with_any_node(
    cluster: ValkeyCluster, store: RegionStore
) -> None:
    async with opened(cluster.url, partitions=PARTITIONS) as other:
        assert other.run == store.run
        before = store.run
        await cluster.servers[1].restart()

        async def is_noticed() -> bool:
            with contextlib.suppress(RegionUnavailableError):
                await _tokens(store)
                await _tokens(other)
            return store.run == other.run != before

        await eventually(is_noticed)

    async def works() -> bool:
        with contextlib.suppress(RegionUnavailableError):
            return len(await _tokens(store)) == len(RESOURCES)
        return False

    await eventually(works)


async def test_another_number_of_partitions_is_refused(cluster: ValkeyCluster, store: RegionStore) -> None:
    with pytest.raises(LayoutMismatchError, match="partitions"):
        async with opened(cluster.url, partitions=4, timeout=5.0):  # not one that is slow
            pass


async def test_one_node_that_may_evict_queued_writes_is_enough_to_be_refused(cluster: ValkeyCluster) -> None:
    async with cluster.servers[2].client() as client:
        await raw(client, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(EvictionPolicyError):
                async with opened(cluster.url, partitions=PARTITIONS, timeout=5.0):  # not one that is slow
                    pass
        finally:
            await raw(client, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_invalidations_travel_between_a_cluster_and_a_single_server(store: RegionStore, tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path) as server, opened(server.url, SAO_PAULO) as single:
        stores = {TOKYO: store, SAO_PAULO: single}
        for region in stores.values():
            await region.register({other.name: other.address for other in stores.values()})

        async def find(name: str, _: str) -> RegionStore:
            return stores[name]

        for source, target in ((store, single), (single, store)):
            before, kept = await _tokens(target), await _tokens(source)
            for each in RESOURCES[:12]:
                await _announce(source, each)
            courier = Courier(source, find)
            assert await courier.turn() == 12
            after = await _tokens(target)
            assert not set(before[:12]) & set(after)
            assert after[12:] == before[12:]
            assert (await _tokens(source))[12:] == kept[12:]
            assert await courier.turn() == 0


async def test_a_cluster_that_is_too_far_behind_is_flushed_on_every_node(store: RegionStore) -> None:
    for path in PATHS:
        await fetched(store, path)
    assert {await standing_of(store, path) for path in PATHS} == {Standing.USABLE}
    await outbox.flush(store)
    assert {await standing_of(store, path) for path in PATHS} == {Standing.INVALIDATED}


async def test_a_purge_reaches_every_node_from_a_cluster_and_to_one(store: RegionStore, tmp_path: Path) -> None:
    lines = (Line("tag", site="default", value="a"),)
    async with ValkeyServer(tmp_path) as server, opened(server.url, SAO_PAULO) as single:
        stores = {TOKYO: store, SAO_PAULO: single}
        for region in stores.values():
            await region.register({other.name: other.address for other in stores.values()})

        async def find(name: str, _: str) -> RegionStore:
            return stores[name]

        for source, target in ((store, single), (single, store)):
            for region in (source, target):
                for n, path in enumerate(PATHS):
                    await fetched(region, path, ("a",) if n % 2 else ("b",))
            await purging.purge(source, lines, announce=outbox.announce_purge(lines))
            assert await Courier(source, find).turn() == 1
            for region in (source, target):
                standings = [await standing_of(region, path) for path in PATHS]
                assert standings == [Standing.USABLE, Standing.INVALIDATED] * (len(PATHS) // 2)


async def test_a_purge_that_misses_a_node_is_not_announced(cluster: ValkeyCluster, store: RegionStore) -> None:
    lines = (Line("site", site="default"),)
    await _tokens(store)
    await cluster.servers[0].kill()
    with pytest.raises(RegionUnavailableError):
        await purging.purge(store, lines, announce=outbox.announce_purge(lines))
    await cluster.servers[0].start()

    async def is_done() -> bool:
        with contextlib.suppress(RegionUnavailableError):
            await purging.purge(store, lines, announce=outbox.announce_purge(lines))
            return True
        return False

    await eventually(is_done)
    found = [await outbox.read_items(store, partition, "0-0") for partition in store.partitions]
    assert sum(len(items) for _, items in found) == 1


async def test_a_node_that_is_down_is_unavailable_and_comes_back(cluster: ValkeyCluster, store: RegionStore) -> None:
    await _tokens(store)
    await cluster.servers[0].kill()
    with pytest.raises(RegionUnavailableError):
        await _tokens(store)
    await cluster.servers[0].start()

    async def works() -> bool:
        with contextlib.suppress(RegionUnavailableError):
            return len(await _tokens(store)) == len(RESOURCES)
        return False

    await eventually(works)


async def test_slots_that_another_node_has_taken_over_are_found_there(tmp_path: Path) -> None:
    async with (
        ValkeyCluster(tmp_path, masters=2) as small,
        opened(small.url, partitions=PARTITIONS, breaker_seconds=0.1) as store,
    ):
        await _tokens(store)
        await small.servers[1].kill()
        async with small.servers[0].client() as client:
            for command in ("DELSLOTSRANGE", "ADDSLOTSRANGE"):
                await raw(client, "CLUSTER", command, 8192, 16383)

        async def works() -> bool:
            with contextlib.suppress(RegionUnavailableError):
                return len(await _tokens(store)) == len(RESOURCES)
            return False

        await eventually(works)
        await small.servers[1].start()  # its context ends it again
