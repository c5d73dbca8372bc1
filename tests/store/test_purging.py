"""The lists of purges on a real server: what they cover, how they stay short, and what their loss means."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from aiohttp_regioncache.purges import HARD, UNPURGED, Kind, Line
from aiohttp_regioncache.reads.decide import Standing
from aiohttp_regioncache.store import entries, outbox, purging
from aiohttp_regioncache.store.entries import Remembered
from aiohttp_regioncache.store.events import Changed
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import SAO_PAULO, fetched, opened, purges_of, raw, resource, standing_of, stored
from tests.support import eventually
from tests.support.servers import ValkeyServer

SITE = "default"
ITEMS = Line("prefix", False, SITE, "/items/")
PATHS = ["/items/1", "/items/12", "/other", "/other/1"]
TAGS = ["a", "b", "c"]


def tag(value: str, *, soft: bool = False) -> Line:
    """The purge of a tag."""
    return Line("tag", soft, SITE, value)


async def lines_of(store: RegionStore) -> dict[bytes, int]:
    """What stands in the list of the first partition."""
    flat = await store.reads.command("ZRANGE", store.partitions[0].purges, 0, -1, "WITHSCORES")
    return {octets: int(float(score)) for octets, score in zip(flat[::2], flat[1::2], strict=True)}


# --- Against a model: every entry and every purge in the order of their beginning ---


class Machine:
    """Random fetches and purges of one partition, and what they come to without any list.

    A bounded list covers at least as much.
    """

    def __init__(self, store: RegionStore, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.purges: list[Line] = []
        self.under_way: list[tuple[str, int, Remembered]] = []
        self.stored: dict[str, tuple[int, tuple[str, ...]]] = {}

    async def step(self) -> None:
        chosen = self.random.choices((self.begin, self.store_one, self.purge), (3, 4, 2))[0]
        await chosen()

    async def begin(self) -> None:
        path = self.random.choice(PATHS)
        found = resource(path)
        remembered = await entries.begin(self.store, self.store.partition(found), found)
        self.under_way.append((path, len(self.purges), remembered))

    async def store_one(self) -> None:
        if self.under_way:
            path, known, remembered = self.under_way.pop(self.random.randrange(len(self.under_way)))
            tags = tuple(self.random.sample(TAGS, self.random.randrange(3)))
            assert await stored(self.store, path, remembered, tags)
            self.stored[path] = (known, tags)

    async def purge(self) -> None:
        kind: Kind = self.random.choice(("prefix", "path", "tag", "tag", "site"))
        values = {"prefix": ["/items/1", "/other", "/x"], "path": PATHS, "tag": TAGS, "site": [""]}[kind]
        line = Line(kind, self.random.random() < 0.4, SITE, self.random.choice(values))
        await purging.purge(self.store, (line,))
        self.purges.append(line)

    def covering(self, path: str) -> Sequence[Line]:
        known, tags = self.stored[path]
        return [line for line in self.purges[known:] if _covers(line, path, tags)]

    async def check(self, *, exactly: bool) -> None:
        for path in self.stored:
            _, found = await purges_of(self.store, path)
            covering = self.covering(path)
            is_hard, is_soft = any(not line.soft for line in covering), any(line.soft for line in covering)
            assert found.hard if is_hard else not exactly or not found.hard, (path, covering)
            assert is_hard or not is_soft or found.hard or found.since is not None, (path, covering)
            assert covering or not exactly or found == UNPURGED, path


def _covers(line: Line, path: str, tags: Sequence[str]) -> bool:
    covered = {
        "prefix": path.startswith(line.value), "path": path == line.value, "tag": line.value in tags, "site": True,
    }  # fmt: skip
    return covered[line.kind]


@pytest.mark.parametrize("limit", [purging.MAX_LINES, 4])
@pytest.mark.parametrize("seed", range(4))
async def test_an_entry_is_covered_by_the_purges_after_the_beginning_of_its_fetch(
    seed: int, limit: int, store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "MAX_LINES", limit)
    machine = Machine(store, seed)
    for _ in range(120):
        await machine.step()
        await machine.check(exactly=limit > 4)
    assert len(machine.purges) > 10
    assert len(await lines_of(store)) <= limit + 1  # the line that a first fetch makes counts with the next purge


# --- The list ---


async def test_a_line_that_is_repeated_stands_once_under_a_new_number(store: RegionStore, client: Redis) -> None:
    await purging.purge(store, (ITEMS, tag("a")))
    before = await lines_of(store)
    assert before[ITEMS.octets] == before[tag("a").octets]
    await purging.purge(store, (ITEMS,))
    after = await lines_of(store)
    assert after.keys() == before.keys()
    assert after[ITEMS.octets] > after[tag("a").octets]
    assert int(await raw(client, "GET", store.partitions[0].purge)) == after[ITEMS.octets]
    assert await raw(client, "PTTL", store.partitions[0].purge) == -1


async def test_of_more_than_a_thousand_lines_the_oldest_become_one_that_covers_everything_until_then(
    store: RegionStore,
) -> None:
    await fetched(store, "/early", ("t0",))
    await purging.purge(store, [tag(f"t{n}") for n in range(500)])
    await fetched(store, "/middle")
    for start in (500, 700, 900):
        await purging.purge(store, [tag(f"t{n}") for n in range(start, start + 200)])
    await fetched(store, "/late")
    assert len(await lines_of(store)) == purging.MAX_LINES
    standings = [await standing_of(store, path) for path in ("/early", "/middle", "/late")]
    assert standings == [Standing.INVALIDATED, Standing.USABLE, Standing.USABLE]
    await purging.purge(store, [tag(f"t{n}") for n in range(2000, 2000 + purging.MAX_LINES - 1)])
    await fetched(store, "/newest")
    assert len(await lines_of(store)) == purging.MAX_LINES
    standings = [await standing_of(store, path) for path in ("/middle", "/late", "/newest")]
    assert standings == [Standing.INVALIDATED, Standing.USABLE, Standing.USABLE]


async def test_lines_go_when_no_entry_can_be_as_old(store: RegionStore, client: Redis) -> None:
    await purging.purge(store, (ITEMS,))
    partition, now = store.partitions[0], int(store.now() * 1000)
    await raw(client, "ZADD", partition.purges, now - (purging.KEEP_SECONDS + 60) * 1000, tag("old").octets)
    await raw(client, "ZADD", partition.purges, now - (purging.KEEP_SECONDS - 60) * 1000, tag("young").octets)
    await purging.purge(store, (tag("new"),))
    lines = await lines_of(store)
    assert tag("old").octets not in lines
    assert {ITEMS.octets, tag("young").octets, tag("new").octets} < lines.keys()


async def test_the_list_is_read_once_for_all_and_only_for_what_is_older(store: RegionStore, client: Redis) -> None:
    await fetched(store, "/items/1")
    await fetched(store, "/other")
    await purging.purge(store, (ITEMS,))
    await fetched(store, "/new")
    await client.config_resetstat()
    assert await standing_of(store, "/new") is Standing.USABLE
    assert "cmdstat_zrange" not in await client.info("commandstats")
    asked = [standing_of(store, path) for path in ("/items/1", "/other") * 20]
    assert await asyncio.gather(*asked) == [Standing.INVALIDATED, Standing.USABLE] * 20
    for _ in range(3):
        assert await standing_of(store, "/other") is Standing.USABLE
    assert (await client.info("commandstats"))["cmdstat_zrange"]["calls"] == 1


# --- What is lost ---


@pytest.mark.parametrize("lost", [("purge",), ("purges",), ("purge", "purges")])
@pytest.mark.parametrize("purged_again", [False, True])
async def test_what_was_stored_before_a_list_was_lost_is_not_served(
    lost: tuple[str, ...], purged_again: bool, store: RegionStore, client: Redis
) -> None:
    """`allkeys-*`, which is allowed where nothing is written behind, may evict them."""
    await fetched(store, "/items/1")
    await purging.purge(store, (ITEMS,))
    await fetched(store, "/other")
    for name in lost:
        await raw(client, "DEL", getattr(store.partitions[0], name))
    assert await standing_of(store, "/items/1") is Standing.INVALIDATED
    if purged_again:
        await purging.purge(store, (tag("x"),))
    await fetched(store, "/new")
    standings = [await standing_of(store, path) for path in ("/items/1", "/other", "/new")]
    assert standings == [Standing.INVALIDATED, Standing.INVALIDATED, Standing.USABLE]


async def test_an_entry_that_knows_a_purge_which_the_server_has_forgotten_is_not_served(
    store: RegionStore, client: Redis
) -> None:
    await purging.purge(store, (ITEMS,))
    await fetched(store, "/items/1")
    number = int(await raw(client, "GET", store.partitions[0].purge))
    await raw(client, "SET", store.partitions[0].purge, number - 1)
    seen, purged = await purges_of(store, "/items/1")
    assert (seen.purge, purged) == (number - 1, HARD)


async def test_what_a_server_has_forgotten_covers_nothing_that_is_stored_later(
    store: RegionStore, client: Redis
) -> None:
    """A failover may lose the newest lines, which processes have read."""
    partition = store.partitions[0]
    await fetched(store, "/items/1")
    await purging.purge(store, (tag("a"),))
    number = int(await raw(client, "GET", partition.purge))
    await purging.purge(store, (ITEMS,))
    assert await standing_of(store, "/items/1") is Standing.INVALIDATED
    await raw(client, "SET", partition.purge, number)
    await raw(client, "ZREM", partition.purges, ITEMS.octets)
    assert await standing_of(store, "/items/1") is Standing.USABLE  # as far as this server knows


async def test_numbers_grow_although_the_clock_goes_back(store: RegionStore, client: Redis) -> None:
    ahead = int((store.now() + 3600) * 1000)
    await raw(client, "SET", store.partitions[0].purge, ahead)
    await raw(client, "ZADD", store.partitions[0].purges, ahead, tag("a").octets)
    await fetched(store, "/items/1")
    await purging.purge(store, (ITEMS,))
    assert int(await raw(client, "GET", store.partitions[0].purge)) == ahead + 1
    assert await standing_of(store, "/items/1") is Standing.INVALIDATED


async def test_what_is_purged_is_not_stored_from_a_lagging_reader(store: RegionStore, server: ValkeyServer) -> None:
    async with opened(server.url, holdoff=60.0) as lagging:
        target = resource("/items/1")
        assert (await entries.begin(lagging, lagging.partitions[0], target)).token
        await purging.purge(lagging, (ITEMS,))
        assert not (await entries.begin(lagging, lagging.partitions[0], target)).token
        assert not (await entries.begin(lagging, lagging.partitions[0], resource("/others/1"))).token


async def test_a_full_server_is_purged_all_the_same(tmp_path: Path) -> None:
    async with (
        ValkeyServer(tmp_path, config={"maxmemory-policy": "noeviction"}) as full,
        opened(full.url) as store,
        full.client() as client,
    ):
        await fetched(store, "/items/1")
        await raw(client, "CONFIG", "SET", "maxmemory", "500kb")
        assert int((await client.info("memory"))["used_memory"]) > 500_000
        await purging.purge(store, (ITEMS,), announce=outbox.announce_purge((ITEMS,)))
        assert await standing_of(store, "/items/1") is Standing.INVALIDATED
        _, items = await outbox.read_items(store, store.partitions[0], "0-0")
        assert [item.announced.lines for item in items] == [(ITEMS,)]


# --- Who is told ---


async def test_a_purge_is_announced_in_its_region(store: RegionStore) -> None:
    seen: list[Changed] = []
    store.events.on_change(seen.append)
    await eventually(lambda: store.events.is_connected)
    await purging.purge(store, (ITEMS,))
    await eventually(lambda: bool(seen))
    assert seen == [Changed(0, "", (), purged=True)]


async def test_a_delivery_purges_in_every_partition_or_in_that_of_the_group(store: RegionStore, tmp_path: Path) -> None:
    groups = [f"/group{n}/item" for n in range(12)]
    path = Line("path", True, SITE, groups[0])
    async with ValkeyServer(tmp_path / "target") as server, opened(server.url, SAO_PAULO, partitions=4) as target:
        for each in groups:
            await fetched(target, each, ("a",))
        announced = outbox.announce_purge((path,), resource(groups[0]).group)
        await purging.purge(store, (path,), announce=announced)
        last, items = await outbox.read_items(store, store.partitions[0], "0-0")
        await outbox.deliver(target, items)
        assert len({target.partition(resource(each)) for each in groups}) == 4
        assert (await purges_of(target, groups[0]))[1].since is not None
        assert [(await purges_of(target, each))[1] for each in groups[1:]] == [UNPURGED] * 11
        await purging.purge(store, (tag("a"),), announce=outbox.announce_purge((tag("a"),)))
        _, items = await outbox.read_items(store, store.partitions[0], last)
        for _ in range(2):  # at least once
            await outbox.deliver(target, items)
            assert {await standing_of(target, each) for each in groups} == {Standing.INVALIDATED}


def test_items_of_older_edges_are_read() -> None:
    older = msgspec.msgpack.encode(("default:/items", ("digest",)))
    assert outbox._decode(older) == outbox.Announced("default:/items", ("digest",))
