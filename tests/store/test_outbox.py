"""Outboxes: cursors, gaps, and what a region that was away or has restarted is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aiohttp_regioncache.reads.decide import Standing
from aiohttp_regioncache.store import entries, outbox
from aiohttp_regioncache.store.outbox import Cursor
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import SAO_PAULO, fetched, look, opened, raw, resource, standing_of, stored
from tests.support.servers import ValkeyServer

ITEM = resource("/items/1")


@pytest_asyncio.fixture
async def target(tmp_path: Path) -> AsyncIterator[RegionStore]:
    async with ValkeyServer(tmp_path / "target") as server, opened(server.url, SAO_PAULO) as store:
        yield store


async def _announce(store: RegionStore, *paths: str) -> None:
    for path in paths:
        found = resource(path)
        announced = outbox.announce(found.group, (found.digest,))
        await entries.invalidate(store, store.partitions[0], (found.digest,), announce=announced)


async def _known(store: RegionStore, *paths: str) -> list[str]:
    """The tokens of the resources of `paths`, made where there is none."""
    return [(await entries.begin(store, store.partitions[0], resource(path))).token for path in paths]


async def test_items_are_read_after_a_cursor_and_what_is_no_item_is_passed(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    await _announce(store, "/items/1")
    first, items = await outbox.read_items(store, partition, "0-0")
    assert [item.digests for item in items] == [(ITEM.digest,)]
    await raw(client, "XADD", partition.out, "*", "i", b"\xc1")
    await _announce(store, "/items/2")
    last, items = await outbox.read_items(store, partition, first)
    assert [item.digests for item in items] == [(resource("/items/2").digest,)]
    assert await outbox.read_items(store, partition, last) == (last, [])


async def test_delivery_gives_new_tokens_to_what_is_known_and_makes_nothing(
    store: RegionStore, target: RegionStore
) -> None:
    before, other = await _known(target, "/items/1", "/items/2")
    await _announce(store, "/items/1", "/items/unknown")
    _, items = await outbox.read_items(store, store.partitions[0], "0-0")
    await outbox.deliver(target, items)
    await outbox.deliver(target, items)
    assert await _known(target, "/items/1") != [before]
    assert await _known(target, "/items/2") == [other]
    looked = await look(target, resource("/items/unknown"))
    assert looked.state is None


async def test_what_is_invalidated_is_not_stored_from_a_lagging_reader_though_nothing_was_known_of_it(
    store: RegionStore, server: ValkeyServer
) -> None:
    async with opened(server.url, holdoff=60.0) as lagging:
        await _announce(lagging, "/items/1")
        begun = await entries.begin(lagging, lagging.partitions[0], ITEM)
        other = await entries.begin(lagging, lagging.partitions[0], resource("/items/2"))
        assert (begun.token, bool(other.token)) == ("", True)


async def test_a_flush_reaches_every_resource(target: RegionStore) -> None:
    paths = [f"/items/{n}" for n in range(50)]
    for path in paths:
        await fetched(target, path)
    assert {await standing_of(target, path) for path in paths} == {Standing.USABLE}
    late = await entries.begin(target, target.partitions[0], ITEM)
    await outbox.flush(target)
    assert {await standing_of(target, path) for path in paths} == {Standing.INVALIDATED}
    await fetched(target, "/items/2")
    await stored(target, "/items/1", late)  # asked for before
    assert await standing_of(target, "/items/2") is Standing.USABLE
    assert await standing_of(target, "/items/1") is Standing.INVALIDATED


async def test_a_gap_is_what_was_dropped_behind_a_cursor(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    assert await outbox.gap_end(store, partition, Cursor()) is None
    await _announce(store, "/items/1", "/items/2", "/items/3")
    ids = [item.id for item in (await outbox.read_items(store, partition, "0-0"))[1]]
    for heard in ("0-0", *ids):
        assert await outbox.gap_end(store, partition, Cursor(heard)) is None
    await raw(client, "XTRIM", partition.out, "MAXLEN", 1)
    assert await outbox.gap_end(store, partition, Cursor()) == ids[-1]
    assert await outbox.gap_end(store, partition, Cursor(ids[0])) == ids[-1]
    assert await outbox.gap_end(store, partition, Cursor(ids[-1])) is None


async def test_trimming_leaves_no_gap(store: RegionStore, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEEP_SECONDS", -3600.0)
    partition = store.partitions[0]
    await _announce(store, *(f"/items/{n}" for n in range(5)))
    ids = [item.id for item in (await outbox.read_items(store, partition, "0-0"))[1]]
    await outbox.write_cursor(store, partition, "fast", Cursor(ids[-1], "run"))
    await outbox.write_cursor(store, partition, "slow", Cursor(ids[1], "run"))
    await outbox.trim(store, partition, ("fast", "slow"))
    _, left = await outbox.read_items(store, partition, ids[1])
    assert [item.id for item in left] == ids[2:]
    for region in ("fast", "slow"):
        cursor = await outbox.read_cursor(store, partition, region)
        assert await outbox.gap_end(store, partition, cursor) is None
    await outbox.trim(store, partition, ("fast", "slow", "never heard"))
    assert len(await raw(client, "XRANGE", partition.out, "-", "+")) == 4
    await outbox.trim(store, partition, ("fast",))
    assert len(await raw(client, "XRANGE", partition.out, "-", "+")) == 1


async def test_items_stay_a_minute_after_everybody_has_heard(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    await _announce(store, "/items/1", "/items/2")
    last, _ = await outbox.read_items(store, partition, "0-0")
    await outbox.write_cursor(store, partition, SAO_PAULO, Cursor(last, "run"))
    await outbox.trim(store, partition, (SAO_PAULO,))
    assert len(await raw(client, "XRANGE", partition.out, "-", "+")) == 2


def test_another_run_hears_the_last_minute_again() -> None:
    now = 1_000_000.0
    late, early = Cursor("999990000-3", "one"), Cursor("900000000-0", "one")
    assert outbox.resume(late, "one", now) == late.id
    assert outbox.resume(late, "two", now) == "999940000-0"
    assert outbox.resume(early, "two", now) == early.id
    assert outbox.resume(Cursor(), "two", now) == "0-0"


async def test_one_courier_carries_until_it_resigns_or_stays_away(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    assert await outbox.be_courier(store, partition, SAO_PAULO, "one") == Cursor()
    assert await outbox.be_courier(store, partition, SAO_PAULO, "two") is None
    assert await outbox.be_courier(store, partition, "another-region", "two") == Cursor()
    assert await outbox.be_courier(store, partition, SAO_PAULO, "one") == Cursor()
    assert await raw(client, "PTTL", f"{partition.courier}:{SAO_PAULO}") > 0
    await outbox.resign(store, partition, SAO_PAULO, "two")
    assert await outbox.be_courier(store, partition, SAO_PAULO, "two") is None
    await outbox.write_cursor(store, partition, SAO_PAULO, Cursor("5-1", "run"))
    await outbox.resign(store, partition, SAO_PAULO, "one")
    assert await outbox.be_courier(store, partition, SAO_PAULO, "two") == Cursor("5-1", "run")
