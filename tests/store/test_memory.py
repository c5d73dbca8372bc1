"""A server at its full memory: nothing new is taken, nothing accepted is lost, and the queue drains."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aiohttp_regioncache.durability import MEMORY
from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.settings import Queue
from aiohttp_regioncache.store import entries, outbox, queue
from aiohttp_regioncache.store.accepting import Acceptance, Verdict
from aiohttp_regioncache.store.outbox import Cursor
from aiohttp_regioncache.store.region import RegionStore
from tests.store import tools
from tests.store.tools import accept, acceptance, look, opened, raw, resource, settle
from tests.support.servers import ValkeyServer
from tests.support.world import World

LARGE = b"x" * 50_000
ITEM = resource("/items/1")


@pytest_asyncio.fixture(params=["noeviction", "volatile-lru"])
async def small(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ValkeyServer]:
    async with ValkeyServer(tmp_path, config={"maxmemory": "12mb", "maxmemory-policy": request.param}) as server:
        yield server


async def _fill_memory(client: Redis) -> None:
    """Make the memory in use more than the server may have."""
    await raw(client, "CONFIG", "SET", "maxmemory", "500kb")
    assert int((await client.info("memory"))["used_memory"]) > 500_000


async def _accepted(store: RegionStore, client: Redis) -> list[tuple[Acceptance, int]]:
    """Accept ten writes, the last of them twice as large, and fill the memory."""
    writes = [acceptance(f"/items/{n}", body=LARGE, stored=n > 6, key=f"{n}") for n in range(10)]
    accepted = [(write, (await accept(store, write)).seq) for write in writes]
    await _fill_memory(client)
    return accepted


async def test_a_full_server_refuses_writes_and_drains_its_queue(small: ValkeyServer) -> None:
    async with opened(small.url) as store, small.client() as client:
        partition = store.partitions[0]
        accepted = await _accepted(store, client)
        for stored in (False, True):
            with pytest.raises(RegionUnavailableError):
                await accept(store, acceptance(body=LARGE, stored=stored))
        # What a cap refuses may not overtake what waits: that is said also now.
        for caps in (Queue(max_writes_per_resource=1), Queue(max_writes_per_principal=1)):
            assert (await accept(store, acceptance("/items/0"), caps)).verdict is Verdict.FULL
        first = accepted[0][0]  # what is queued is known all the same
        for again in (first, acceptance("/items/0", key="0")):
            assert (await accept(store, again)).detail == first.record.id
        assert not store.queue_breaker.is_open
        claims = {each.digest: each for each in await queue.claim(store, partition, "fence", 100, 60)}
        assert len(claims) == 10
        assert await queue.extend(store, partition, list(claims.values()), 60) == set(claims)
        for number, (write, seq) in enumerate(accepted):
            claimed = claims[write.target.digest]
            if number == 0:
                fields = {"problem": "503", "unknown": "0"}
                assert await queue.begin_attempt(store, partition, claimed, write.record.id, MEMORY) == 0
                assert await queue.defer(
                    store, partition, claimed, delay=0, write_id=write.record.id, tries=1, fields=fields
                )
                (claimed,) = await queue.claim(store, partition, "again", 1, 60)
            announce = outbox.announce(write.target.group, (write.target.digest,))
            answer = await settle(store, partition, claimed, write, seq, announce=announce)
            assert answer == ("settled", 0)
        depth = await queue.depth(store, partition)
        assert (depth.writes, depth.bytes, depth.due) == (0, 0, 0)


async def test_a_body_that_is_there_already_lets_no_write_into_a_full_server(small: ValkeyServer) -> None:
    async with opened(small.url) as store, small.client() as client:
        writes = [acceptance("/items/1", body=LARGE, stored=True), acceptance("/items/2", body=b"small")]
        body_key = store.partitions[0].body(writes[0].record.id)
        await raw(client, "SET", body_key, LARGE, "EX", 60)
        await _fill_memory(client)
        refused = await asyncio.gather(*(accept(store, write) for write in writes), return_exceptions=True)
        assert [type(each) for each in refused] == [RegionUnavailableError] * 2
        assert await raw(client, "PTTL", body_key) != -1  # it goes by itself, or has gone
        assert await raw(client, "ZCARD", store.partitions[0].queue) == 0


async def test_a_full_server_still_hears_of_invalidations_and_tells_them(small: ValkeyServer) -> None:
    async with opened(small.url) as store, small.client() as client:
        partition = store.partitions[0]
        await accept(store, acceptance())  # its state must stay
        remembered = await entries.begin(store, partition, ITEM)
        await _fill_memory(client)
        await entries.invalidate(store, partition, (ITEM.digest,), announce=outbox.announce(ITEM.group, (ITEM.digest,)))
        looked = await look(store, ITEM)
        assert looked.state is not None
        assert looked.state.token != remembered.token
        cursor = await outbox.be_courier(store, partition, "elsewhere", "me")
        assert cursor == Cursor()
        last, items = await outbox.read_items(store, partition, cursor.id)
        assert [item.digests for item in items] == [(ITEM.digest,)]
        await outbox.write_cursor(store, partition, "elsewhere", Cursor(last, "run"))
        assert await outbox.read_cursor(store, partition, "elsewhere") == Cursor(last, "run")


async def test_a_full_server_is_a_miss_for_readers(small: ValkeyServer) -> None:
    async with opened(small.url) as store, small.client() as client:
        partition = store.partitions[0]
        remembered = await entries.begin(store, partition, ITEM)
        await _fill_memory(client)
        record = tools.entry(ITEM.path, remembered, LARGE)
        with pytest.raises(RegionUnavailableError):
            await entries.begin(store, partition, resource("/new"))
        with contextlib.suppress(RegionUnavailableError):  # or its state has been evicted
            assert not await entries.fill(store, partition, ITEM, "key", record, 60, None)
        assert (await entries.glance(store, partition, "key", ITEM)).entry is None
        assert not store.reads_breaker.is_open


async def test_a_checked_server_is_checked_again_when_it_is_full(small: ValkeyServer) -> None:
    async with opened(small.url) as store, small.client() as client:
        await _fill_memory(client)
        store.is_checked = False
        await store.check()
        assert store.is_checked


async def test_clients_of_a_full_region_are_told_to_come_back_and_read_from_the_origin(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge()
        world.origin.documents["/items/1"] = {"n": 1}
        for server in world.servers.values():
            async with server.client() as client:
                await _fill_memory(client)
        for size in (10, 100_000):
            refused = await edge.put("/items/1", {"n": "x" * size})
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
        assert (await edge.get("/items/1")).body == b'{"n": 1}'
        assert (await edge.get("/other")).status == 404


async def test_volatile_lru_gives_up_entries_and_never_the_queue(tmp_path: Path) -> None:
    config = {"maxmemory": "12mb", "maxmemory-policy": "volatile-lru"}
    async with ValkeyServer(tmp_path, config=config) as server, opened(server.url) as store, server.client() as client:
        partition = store.partitions[0]
        writes = [acceptance(f"/items/{n}", body=LARGE, stored=True) for n in range(20)]
        for write in writes:
            await accept(store, write)
        for n in range(400):
            page = resource(f"/pages/{n}")
            remembered = await entries.begin(store, partition, page)
            await entries.fill(store, partition, page, str(n), tools.entry(page.path, remembered, LARGE), 60, None)
        assert int((await client.info("stats"))["evicted_keys"]) > 0
        assert (await queue.depth(store, partition)).writes == 20
        for write in writes:
            assert await queue.read_body(store, partition, write.record.id) == LARGE
            looked = await look(store, write.target)
            assert looked.state is not None
            assert looked.state.pending == 1
