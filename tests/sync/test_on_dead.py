"""Dead writes and those behind them: what waits for an operator, what goes on, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiohttp_regioncache import Rule
from aiohttp_regioncache.settings import Sync
from aiohttp_regioncache.store import ended, queue
from tests.support import eventually
from tests.support.world import REGIONS, TOKYO, Edge, World, one_edge

ANN = {"Authorization": "Bearer ann", **TOKYO}
QUICK = Sync(lease=5.0, timeout=2.0, poll=0.05, retry_base=0.01, retry_cap=0.05, breaker_seconds=0.1)
ITEM = "/items/1"


def rules(**options: Any) -> list[Rule]:
    """One rule for every item."""
    return [Rule("/items/{id}", write="behind", **options)]


async def put(edge: Edge, n: int, path: str = ITEM) -> str:
    """Write `n`; returns the id of the write."""
    answer = await edge.put(path, {"n": n}, headers=ANN)
    assert answer.status == 202
    return str(json.loads(answer.body)["id"])


async def state_of(edge: Edge, write_id: str) -> str:
    """What a write has come to, with the reason if there is one."""
    summary = (await edge.cache.writes.show(write_id)).summary
    return f"{summary.state}: {summary.reason}" if summary.state in ("dead", "rejected") else summary.state


async def until(edge: Edge, write_id: str, state: str) -> None:
    """Wait until a write has come to `state`."""

    async def has_come() -> bool:
        return await state_of(edge, write_id) == state

    await eventually(has_come)


def applied(world: World, path: str = ITEM) -> list[int]:
    """The numbers that the origin applied, in its order."""
    return [json.loads(effect.body)["n"] for effect in world.origin.effects if effect.path == path]


async def is_let_be(edge: Edge, write_id: str) -> bool:
    """Whether a write stays pending over a few turns of the loop."""
    for _ in range(3):
        await edge.cache.loops[0].turn()
    return await state_of(edge, write_id) == "pending"


async def test_an_ambiguous_write_blocks_what_comes_after_until_it_is_retried(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=rules(replay="never"), sync=QUICK) as (world, edge):
        world.origin.documents[ITEM] = {"n": 0}
        world.origin.gate.clear()
        world.origin.lose_answers = 1
        dead, behind = await put(edge, 1), await put(edge, 2)
        world.origin.gate.set()
        await until(edge, dead, "dead: ambiguous")
        later = await put(edge, 3)  # accepted, and no more due than the others
        assert await is_let_be(edge, behind)
        assert await is_let_be(edge, later)
        assert await put(edge, 1, "/items/2")  # another resource goes on
        await eventually(lambda: applied(world, "/items/2") == [1])
        assert applied(world) == [1]
        assert json.loads((await edge.get(ITEM, headers=ANN)).body) == {"n": 3}  # W5, W4

        await edge.cache.writes.retry(dead)
        await until(edge, later, "synced")
        assert [await state_of(edge, write_id) for write_id in (dead, behind)] == ["synced", "synced"]
        assert applied(world) == [1, 2, 3]  # the origin knew the key of the first, and did nothing twice


async def test_readers_no_longer_see_a_write_that_blocks(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=rules(on_dead="block", max_tries=1), sync=QUICK) as (world, edge):
        world.origin.documents[ITEM] = {"n": 0}
        world.origin.refuse[ITEM] = 500
        dead = await put(edge, 1)
        await until(edge, dead, "dead: too-many-tries")
        assert json.loads((await edge.get(ITEM, headers=ANN)).body) == {"n": 0}


async def test_what_a_dropped_write_blocked_goes_on(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=rules(on_dead="block", max_tries=1), sync=QUICK) as (world, edge):
        world.origin.gate.clear()
        world.origin.refuse[ITEM] = 500
        dead, behind = await put(edge, 1), await put(edge, 2)
        world.origin.gate.set()
        await until(edge, dead, "dead: too-many-tries")
        del world.origin.refuse[ITEM]
        assert await is_let_be(edge, behind)
        await edge.cache.writes.drop(dead)
        await until(edge, behind, "synced")
        assert applied(world) == [2]
        assert await state_of(edge, dead) == "dead: too-many-tries"


@pytest.mark.parametrize(
    ("options", "status", "reason", "blocks"),
    [
        ({}, 302, "redirect", False),
        ({}, 500, "too-many-tries", False),
        ({"on_dead": "block"}, 302, "redirect", True),
        ({"on_dead": "block"}, 500, "too-many-tries", True),
        ({"on_dead": "block"}, 400, "status 400", False),  # rejected, which is not dead
        ({"on_dead": "skip"}, 302, "redirect", False),
    ],
)
async def test_which_refused_writes_block(
    tmp_path: Path, options: dict[str, Any], status: int, reason: str, blocks: bool
) -> None:
    async with one_edge(tmp_path, rules=rules(max_tries=1, **options), sync=QUICK) as (world, edge):
        world.origin.gate.clear()
        world.origin.refuse[ITEM] = status
        ended_badly, behind = await put(edge, 1), await put(edge, 2)
        world.origin.gate.set()
        await until(edge, ended_badly, f"{'rejected' if status == 400 else 'dead'}: {reason}")
        if blocks:
            assert await is_let_be(edge, behind)
        else:
            await until(edge, behind, f"{'rejected' if status == 400 else 'dead'}: {reason}")
        assert (await edge.cache.writes.show(ended_badly)).summary.blocks is blocks


async def test_with_skip_an_ambiguous_write_holds_up_nothing(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=rules(replay="never", on_dead="skip"), sync=QUICK) as (world, edge):
        world.origin.gate.clear()
        world.origin.lose_answers = 1
        dead, behind = await put(edge, 1), await put(edge, 2)
        world.origin.gate.set()
        await until(edge, behind, "synced")
        assert await state_of(edge, dead) == "dead: ambiguous"


async def test_bytes_that_are_no_record_block_nothing(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=rules(on_dead="block"), sync=QUICK) as (world, edge):
        await world.origin.stop()
        sending, broken, behind = await put(edge, 1), await put(edge, 2), await put(edge, 3)
        store = edge.cache.stores[REGIONS[0]]
        partition = store.partitions[0]
        status = await queue.status(store, partition, broken) or {}
        pending = partition.pending(status["digest"])
        await store.queue.command("ZREMRANGEBYSCORE", pending, status["seq"], status["seq"])
        await store.queue.command("ZADD", pending, status["seq"], b"garbage")
        await edge.cache.loops[0].turn()  # what was read before has been tried
        await world.origin.start()
        await until(edge, behind, "synced")
        assert await state_of(edge, sending) == "synced"
        detail = await edge.cache.writes.show(broken)
        assert (detail.summary.reason, detail.body) == ("corrupt", None)
        assert detail.unreadable


async def test_the_status_of_a_write_that_blocks_stays_until_it_is_dropped(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=rules(on_dead="block", max_tries=1), sync=QUICK) as (world, edge):
        world.origin.refuse[ITEM] = 500
        dead = await put(edge, 1)
        await until(edge, dead, "dead: too-many-tries")
        store = edge.cache.stores[REGIONS[0]]
        key = store.partitions[0].status(dead)
        assert await store.queue.command("PTTL", key) == -1
        assert await ended.blocker(store, store.partitions[0], (await _digest(edge, dead))) == dead
        await edge.cache.writes.drop(dead)
        assert await store.queue.command("PTTL", key) > 0
        assert await ended.blocker(store, store.partitions[0], (await _digest(edge, dead))) == ""


async def _digest(edge: Edge, write_id: str) -> str:
    return (await edge.cache.writes.show(write_id)).summary.resource
