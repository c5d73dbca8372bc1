"""Of consecutive replacements that nobody has tried to send, the last is sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from aiohttp_regioncache import Rule
from aiohttp_regioncache.store import queue
from aiohttp_regioncache.store.accepting import Acceptance
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import acceptance, claim_one, end_lease, resource
from tests.support import eventually
from tests.support.origin import Origin
from tests.support.world import one_edge
from tests.sync.tools import accept_all, drained, looping, state_of, status_of

ITEM = resource("/items/1")


def replacement(n: int, **changes: object) -> Acceptance:
    """A PUT of a number that may be left out; `changes` to its record."""
    made = acceptance(body=json.dumps({"n": n}).encode())
    return msgspec.structs.replace(made, record=msgspec.structs.replace(made.record, **{"coalesce": True} | changes))


def _applied(origin: Origin) -> list[int]:
    return [json.loads(effect.body)["n"] for effect in origin.effects]


async def test_of_many_replacements_the_last_is_sent_and_the_others_name_it(store: RegionStore, origin: Origin) -> None:
    writes = [replacement(n) for n in range(100)]  # more than are read at once
    await accept_all(store, writes)
    async with looping(store, origin.url) as loop:
        await drained(store)
    assert _applied(origin) == [99]
    assert loop.settled == {"superseded": 99, "synced": 1}
    assert await state_of(store, writes[99]) == "synced"
    status = await status_of(store, writes[0])
    assert (status["state"], status["tries"], status["reason"]) == ("superseded", "0", f"replaced by {status['by']}")


KEPT = {
    "another write in between": {"effect": "merge-patch", "method": "PATCH"},
    "one that says no": {"coalesce": False},
    "another user": {"principal": "p2"},
    "another representation": {"url": "http://edge.example/items/1?a=b", "endpoint": "/items/1?a=b"},
    "a precondition": {"headers": ((b"if-match", b'"1"'),)},
    "a precondition of time": {"headers": ((b"If-Unmodified-Since", b"Sat, 29 Oct 1994 19:43:31 GMT"),)},
    "a part": {"headers": ((b"content-range", b"bytes 0-1/2"),)},
}


@pytest.mark.parametrize("changes", KEPT.values(), ids=KEPT)
async def test_nothing_is_left_out_across_a_write_that_counts_by_itself(
    store: RegionStore, origin: Origin, changes: dict[str, object]
) -> None:
    await accept_all(store, [replacement(0), replacement(1), replacement(2, **changes), replacement(3), replacement(4)])
    async with looping(store, origin.url):
        await drained(store)
    assert _applied(origin) == [1, 2, 4]


async def test_what_somebody_has_tried_to_send_is_sent_again(store: RegionStore, origin: Origin) -> None:
    writes = [replacement(n) for n in range(4)]
    origin.refuse[ITEM.path] = 503
    await accept_all(store, writes[:1])
    async with looping(store, origin.url, start=False) as loop:
        assert await loop.turn() == 1
        origin.refuse.clear()
        await accept_all(store, writes[1:])
        loop.start()
        await drained(store)
    assert _applied(origin) == [0, 3]


async def test_what_somebody_may_have_sent_is_sent_again(store: RegionStore, client: Redis, origin: Origin) -> None:
    await accept_all(store, [replacement(n) for n in range(4)])
    await claim_one(store, store.partitions[0], "gone")
    await end_lease(client, store.partitions[0], ITEM.digest)
    async with looping(store, origin.url):
        await drained(store)
    assert _applied(origin) == [0, 3]


async def test_what_went_out_with_an_unknown_outcome_is_sent_again(store: RegionStore, origin: Origin) -> None:
    writes = [replacement(n) for n in range(3)]
    await accept_all(store, writes)
    claimed = await claim_one(store, store.partitions[0])
    await queue.doubt(store, store.partitions[0], claimed, [writes[1].record.id])
    await queue.doubt(
        store, store.partitions[0], msgspec.structs.replace(claimed, fence="another"), [writes[0].record.id]
    )
    await queue.defer(store, store.partitions[0], claimed, delay=0.0)
    async with looping(store, origin.url):
        await drained(store)
    assert _applied(origin) == [0, 1, 2]


async def test_who_waits_for_a_write_that_is_left_out_gets_the_answer_to_the_one_that_replaced_it(
    tmp_path: Path,
) -> None:
    rule = Rule("/items/{id}", write="behind", coalesce=True)
    async with one_edge(tmp_path, rules=[rule]) as (world, edge):
        world.origin.gate.clear()
        assert (await edge.put("/items/1", {"n": 0})).status == 202
        await eventually(lambda: world.origin.in_flight["/items/1"] == 1)  # this one is tried
        left_out = (await edge.put("/items/1", {"n": 1})).headers["Location"]
        waiting = asyncio.ensure_future(edge.put("/items/1", {"n": 2}, headers={"Prefer": "wait=10"}))

        async def is_queued() -> bool:
            depths = [
                await queue.depth(store, part) for store in edge.cache.stores.values() for part in store.partitions
            ]
            return sum(depth.writes for depth in depths) == 3

        await eventually(is_queued)
        replaced = (await edge.put("/items/1", {"n": 3})).headers["Location"]
        world.origin.gate.set()
        answer = await waiting
        assert (answer.status, json.loads(answer.body)) == (200, {"applied": 2})
        assert [json.loads(effect.body)["n"] for effect in world.origin.effects] == [0, 3]
        page = json.loads((await edge.get(left_out)).body)
        assert page["state"] == "superseded"
        assert replaced.endswith(page["by"])
