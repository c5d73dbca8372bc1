"""The sync loop against a real origin and a real Redis: order, repeats, refusals, outages, and loops that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from redis.asyncio import Redis

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.settings import Sync
from aiohttp_regioncache.store import entries, queue
from aiohttp_regioncache.store.accepting import Acceptance
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.queue import Claimed, Queued
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.intents import Sweeper
from aiohttp_regioncache.sync.leases import Leases
from aiohttp_regioncache.sync.loop import PATIENCE, SyncLoop
from tests.store.tools import TAGS, accept, acceptance, claim_one, end_lease, look, opened, raw, resource
from tests.support import eventually
from tests.support.origin import Origin
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer
from tests.sync.test_sender import serving
from tests.sync.tools import QUICK, accept_all, drained, looping, state_of, status_of

ITEM = resource("/items/1")


def _numbered(count: int, paths: int = 1) -> list[Acceptance]:
    """PUTs of 0, 1, 2, ... that go round some paths."""
    return [acceptance(f"/items/{n % paths}", body=json.dumps({"n": n}).encode()) for n in range(count)]


def _applied(origin: Origin, path: str) -> list[int]:
    """The numbers that the origin applied at a path, in its order."""
    return [json.loads(effect.body)["n"] for effect in origin.effects if effect.path == path]


def _has_effects(origin: Origin, count: int) -> bool:
    return len(origin.effects) == count


# --- wake-ups ---


class _Claims:
    """Counts the claims that are made through each store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: Counter[int] = Counter()
        claim = queue.claim

        async def counting(store: RegionStore, *arguments: Any) -> list[Claimed]:
            self.made[id(store)] += 1
            return await claim(store, *arguments)

        monkeypatch.setattr(queue, "claim", counting)

    def of(self, store: RegionStore) -> int:
        return self.made[id(store)]


async def test_more_loops_make_no_more_claims_for_each_write(
    server: ValkeyServer, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims, count = _Claims(monkeypatch), 60
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(server.url)) for _ in range(4)]
        for store in stores:
            await stack.enter_async_context(looping(store, origin.url, poll=1.0))
        await eventually(lambda: all(store.events.is_connected for store in stores))
        began = asyncio.get_running_loop().time()
        for number in range(count):
            await accept(stores[0], acceptance(f"/items/{number}"))
        await eventually(lambda: len(origin.effects) == count)
        seconds = asyncio.get_running_loop().time() - began
        others = [claims.of(store) for store in stores[1:]]
        assert claims.of(stores[0]) > count / 4
        assert max(others) <= seconds / PATIENCE + 3  # once for each time that they wait, and as they start


@pytest.mark.parametrize("says_it_works", [True, False])
async def test_a_loop_takes_what_another_process_has_accepted(
    server: ValkeyServer, store: RegionStore, origin: Origin, says_it_works: bool
) -> None:
    async with opened(server.url) as other, looping(store, origin.url, poll=1.0):
        await eventually(lambda: store.events.is_connected)
        if says_it_works:
            other.events.on_work(lambda _: None)
        async with asyncio.timeout(1.8):  # by polls alone it would be two seconds and more
            for number in range(3):
                await accept(other, acceptance(f"/items/{number}"))
                await eventually(functools.partial(_has_effects, origin, number + 1))


# --- order ---


async def test_writes_of_one_resource_arrive_in_their_order_one_at_a_time(store: RegionStore, origin: Origin) -> None:
    writes = _numbered(80)  # more than are read at once
    await accept_all(store, writes)
    async with looping(store, origin.url):
        await drained(store)
    assert _applied(origin, "/items/0") == list(range(80))
    assert origin.overlaps == 0
    assert {await state_of(store, write) for write in writes} == {"synced"}


async def test_different_resources_are_sent_at_the_same_time(store: RegionStore, origin: Origin) -> None:
    origin.gate.clear()
    await accept_all(store, _numbered(20, paths=20))
    async with looping(store, origin.url):
        await eventually(lambda: origin.in_flight.total() == 20)
        origin.gate.set()
        await drained(store)
    assert len(origin.effects) == 20


async def test_no_more_are_sent_at_once_than_the_setting_says(store: RegionStore, origin: Origin) -> None:
    origin.gate.clear()
    await accept_all(store, _numbered(10, paths=10))
    async with looping(store, origin.url, concurrency=3):
        await eventually(lambda: origin.in_flight.total() == 3)
        origin.gate.set()
        await drained(store)
    assert len(origin.effects) == 10


async def test_two_loops_share_a_queue_and_never_a_resource(server: ValkeyServer, origin: Origin) -> None:
    async with (
        opened(server.url) as one,
        opened(server.url) as other,
        looping(one, origin.url, claim=8),
        looping(other, origin.url, claim=8),
    ):
        await accept_all(one, _numbered(200, paths=10))
        await drained(one)
    assert origin.overlaps == 0
    for n in range(10):
        assert _applied(origin, f"/items/{n}") == list(range(n, 200, 10))


async def test_a_slow_resource_does_not_hold_up_those_of_a_later_turn(store: RegionStore, origin: Origin) -> None:
    origin.gate.clear()
    await accept(store, acceptance("/items/slow"))
    async with looping(store, origin.url):
        await eventually(lambda: origin.in_flight["/items/slow"] == 1)
        later = acceptance("/items/later")
        await accept(store, later)
        await eventually(lambda: origin.in_flight["/items/later"] == 1)
        origin.gate.set()
        await drained(store)


async def test_resources_that_hang_one_after_another_hold_up_no_other(store: RegionStore, origin: Origin) -> None:
    origin.gate.clear()
    async with looping(store, origin.url, concurrency=8):
        for n in range(8):
            await accept(store, acceptance(f"/items/{n}"))
            await eventually(lambda: origin.in_flight.total() == n + 1)  # noqa: B023
        await accept(store, acceptance("/items/last"))
        origin.gate.set()
        await drained(store)
    assert len(origin.effects) == 9


async def test_what_has_no_slot_is_not_claimed(store: RegionStore, client: Redis, origin: Origin) -> None:
    """So that its lease cannot run out, and another process may send it."""
    origin.gate.clear()
    await accept_all(store, _numbered(10, paths=10))
    async with looping(store, origin.url, concurrency=3):
        await eventually(lambda: origin.in_flight.total() == 3)
        assert await raw(client, "HLEN", store.partitions[0].lease) == 3
        origin.gate.set()
        await drained(store)


async def test_what_is_claimed_together_is_read_together(
    store: RegionStore, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[str] = []
    read = queue.read_queue

    async def counted(store: RegionStore, partition: Partition, digest: str) -> list[Queued]:
        alone.append(digest)
        return await read(store, partition, digest)

    monkeypatch.setattr(queue, "read_queue", counted)
    await accept_all(store, _numbered(40, paths=20))
    async with looping(store, origin.url, start=False) as loop:
        assert await loop.turn() == 20
    assert len(origin.effects) == 40
    assert not alone


async def test_what_could_not_be_read_together_is_read_alone(
    store: RegionStore, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(store: RegionStore, *_: Any) -> dict[str, list[Queued]]:
        raise RegionUnavailableError(store.name, "a test")

    monkeypatch.setattr(queue, "read_queues", failing)
    await accept_all(store, _numbered(10, paths=5))
    async with looping(store, origin.url, start=False) as loop:
        assert await loop.turn() == 5
    assert len(origin.effects) == 10


async def test_what_is_being_settled_leaves_its_slot_to_others_up_to_as_many_again(
    store: RegionStore, client: Redis, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, released = queue.settle, asyncio.Event()

    async def held(*arguments: Any) -> tuple[str, int]:
        await released.wait()
        return await settle(*arguments)

    monkeypatch.setattr(queue, "settle", held)
    await accept_all(store, _numbered(12, paths=12))
    async with looping(store, origin.url, concurrency=3):
        await eventually(lambda: len(origin.effects) == 6)
        await asyncio.sleep(0.2)  # several polls
        assert await raw(client, "HLEN", store.partitions[0].lease) == 6
        released.set()
        await drained(store)
    assert len(origin.effects) == 12


async def test_few_slots_serve_every_partition(server: ValkeyServer, origin: Origin) -> None:
    async with opened(server.url, partitions=8) as store, looping(store, origin.url, concurrency=2):
        await accept_all(store, [acceptance(f"/group-{n}/1") for n in range(24)])
        await drained(store)
    assert len(origin.effects) == 24


# --- senders that vanish ---


async def _vanish_after_sending(loop: SyncLoop, origin: Origin) -> None:
    """Let a loop send one write, and end it before it hears the answer; then the origin applies it."""
    origin.gate.clear()
    turn = asyncio.ensure_future(loop.turn())
    await eventually(lambda: origin.in_flight.total() == 1)
    turn.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await turn
    origin.gate.set()
    await eventually(lambda: len(origin.effects) == 1)


async def test_what_was_sent_and_never_settled_is_repeated_with_its_key(store: RegionStore, origin: Origin) -> None:
    write = acceptance()
    await accept(store, write)
    async with looping(store, origin.url, start=False, **QUICK) as gone:
        await _vanish_after_sending(gone, origin)
    assert await state_of(store, write) == "pending"
    async with looping(store, origin.url, **QUICK):
        await drained(store)
    keys = [request.headers["Idempotency-Key"] for request in origin.requests]
    assert keys == [f'"{write.record.idempotency_key}"'] * 2
    assert len(origin.effects) == 1
    assert await state_of(store, write) == "synced"


async def test_a_killed_process_loses_nothing_and_doubles_nothing(
    server: ValkeyServer, store: RegionStore, origin: Origin
) -> None:
    origin.gate.clear()
    await accept_all(store, _numbered(12, paths=4))
    worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.sync.worker", server.url, origin.url)
    try:
        await eventually(lambda: origin.in_flight.total() == 4)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
    origin.gate.set()
    async with looping(store, origin.url, **QUICK):
        await drained(store)
    for n in range(4):
        assert _applied(origin, f"/items/{n}") == list(range(n, 12, 4))


async def test_a_sender_that_comes_back_too_late_settles_nothing(
    store: RegionStore, client: Redis, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    writes = _numbered(2)
    await accept_all(store, writes)
    async with (
        looping(store, origin.url, start=False) as paused,
        looping(store, origin.url, start=False) as awake,
    ):
        origin.gate.clear()
        late = asyncio.ensure_future(paused.turn())
        await eventually(lambda: origin.in_flight.total() == 1)
        await end_lease(client, store.partitions[0], writes[0].target.digest)
        owner = asyncio.ensure_future(awake.turn())
        await eventually(lambda: origin.in_flight.total() == 2)
        origin.gate.set()
        await late
        assert paused.settled.total() == 0
        assert "belongs to another sender now (lost)" in caplog.text
        await owner
        assert awake.settled == {"synced": 2}
    assert _applied(origin, "/items/0") == [0, 1]


async def test_what_a_sender_that_came_back_too_late_has_changed_is_invalidated_everywhere(
    store: RegionStore, client: Redis
) -> None:
    write, partition = acceptance(), store.partitions[0]
    await accept(store, write)
    token = (await entries.begin(store, partition, write.target)).token
    async with (
        Origin(idempotent=False) as origin,
        looping(store, origin.url, start=False) as paused,
        looping(store, origin.url, start=False) as awake,
    ):
        origin.gate.clear()
        late = asyncio.ensure_future(paused.turn())
        await eventually(lambda: origin.in_flight.total() == 1)
        await end_lease(client, partition, write.target.digest)
        owner = asyncio.ensure_future(awake.turn())
        await eventually(lambda: origin.in_flight.total() == 2)
        origin.gate.set()
        await asyncio.gather(late, owner)
        assert (len(origin.effects), paused.settled.total(), awake.settled.total()) == (2, 0, 1)
    assert await client.xlen(partition.out) == 2
    assert (await entries.begin(store, partition, write.target)).token != token


async def test_a_loop_that_stops_gives_back_what_it_has_not_sent(store: RegionStore, origin: Origin) -> None:
    origin.gate.clear()
    await accept_all(store, _numbered(30, paths=10))
    async with (
        looping(store, origin.url, concurrency=1) as leaving,
        looping(store, origin.url, start=False) as next_one,
    ):
        await eventually(lambda: origin.in_flight.total() == 1)
        stopping = asyncio.ensure_future(leaving.stop())
        await asyncio.sleep(0)
        origin.gate.set()
        await stopping
        sent = len(origin.effects)
        assert sent < 30
        next_one.start()
        await drained(store)  # the leases are a minute long
    assert len(origin.effects) == 30
    assert origin.overlaps == 0


# --- refusals ---


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("PUT", 400, "rejected: status 400"),
        ("PUT", 401, "rejected: auth"),
        ("PUT", 403, "rejected: auth"),
        ("PUT", 404, "rejected: status 404"),
        ("PUT", 412, "rejected: status 412"),
        ("PUT", 501, "rejected: status 501"),
        ("PUT", 302, "dead: redirect"),
        ("DELETE", 404, "synced"),
        ("DELETE", 410, "synced"),
    ],
)
async def test_a_refusal_ends_its_write_and_its_successor_goes_on(
    store: RegionStore, origin: Origin, method: str, status: int, expected: str
) -> None:
    refused, next_one = acceptance(method=method), acceptance()
    await accept_all(store, [refused, next_one])
    origin.gate.clear()
    origin.refuse[ITEM.path] = status
    origin.refuse_headers = {"Location": "/elsewhere"}
    async with looping(store, origin.url):
        await eventually(lambda: origin.in_flight.total() == 1)
        seen = len(origin.requests)
        origin.gate.set()

        async def is_settled() -> bool:
            return await state_of(store, refused) == expected

        await eventually(is_settled)
        origin.refuse.clear()
        await drained(store)
    assert seen == 1
    answer = await status_of(store, refused)
    assert answer["answer"] == str(status)


async def test_a_rejected_write_vanishes_from_what_readers_see(store: RegionStore, origin: Origin) -> None:
    partition = store.partitions[0]
    origin.refuse[ITEM.path] = 422
    before = await entries.begin(store, partition, ITEM)
    await accept(store, acceptance())
    async with looping(store, origin.url):
        await drained(store)
    looked = await look(store, ITEM)
    assert looked.pending == looked.landed == ()
    assert looked.state is not None
    assert looked.state.token != before.token


async def test_a_dead_write_keeps_what_is_needed_to_send_it_again(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    write = acceptance(body=b'"' + b"x" * 50_000 + b'"', stored=True, max_tries=2)
    origin.refuse[ITEM.path] = 500
    await accept(store, write)
    async with looping(store, origin.url):
        await drained(store)
    assert await state_of(store, write) == "dead: too-many-tries"
    assert (await status_of(store, write))["tries"] == "2"
    partition = store.partitions[0]
    assert len(await raw(client, "GET", partition.body(write.record.id))) == 50_002
    assert await raw(client, "HEXISTS", partition.status(write.record.id), "record")


async def test_a_refusal_for_now_waits_as_long_as_the_origin_asks(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    partition, write = store.partitions[0], acceptance()
    origin.refuse[ITEM.path] = 503
    origin.refuse_headers = {"Retry-After": "30"}
    await accept(store, write)
    async with looping(store, origin.url, start=False, retry_cap=40.0) as loop:
        assert await loop.turn() == 1
        due = float(await raw(client, "ZSCORE", partition.due, ITEM.digest)) / 1000
        assert due > store.now() + 20
        status = await status_of(store, write)
        assert (status["state"], status["tries"], status["problem"]) == ("pending", "1", "status 503")
        assert await loop.turn() == 0
        origin.refuse.clear()
        await end_lease(client, partition, ITEM.digest)
        assert await loop.turn() == 1
    assert await state_of(store, write) == "synced"


async def test_a_resource_that_waits_holds_up_no_other(store: RegionStore, origin: Origin) -> None:
    origin.refuse["/items/0"] = 503
    origin.refuse_headers = {"Retry-After": "3600"}
    await accept_all(store, _numbered(10, paths=5))
    async with looping(store, origin.url, retry_cap=3600.0):
        await eventually(lambda: len(origin.effects) == 8)
    assert (await queue.depth(store, store.partitions[0])).writes == 2


async def test_a_request_with_the_same_key_still_at_work_is_waited_for(store: RegionStore, origin: Origin) -> None:
    write = acceptance()
    origin.refuse[ITEM.path] = 409
    origin.refuse_headers = {"Retry-After": "0"}
    await accept(store, write)
    async with looping(store, origin.url):
        await eventually(lambda: len(origin.requests) > 2)
        origin.refuse.clear()
        await drained(store)
    assert await state_of(store, write) == "synced"


# --- unknown outcomes ---


async def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(store: RegionStore, origin: Origin) -> None:
    writes = _numbered(3)
    origin.lose_answers = 4
    await accept_all(store, writes)
    async with looping(store, origin.url):
        await drained(store)
    assert _applied(origin, "/items/0") == [0, 1, 2]
    assert len(origin.requests) >= 5


@pytest.mark.parametrize("on_dead", ["", "skip"])
async def test_what_may_not_be_repeated_dies_of_a_lost_answer(store: RegionStore, origin: Origin, on_dead: str) -> None:
    """Whether its successor waits for an operator is said by the rule; another resource never does."""
    write = acceptance(repeatable=False, method="POST", on_dead=on_dead)
    next_one, elsewhere = acceptance(), acceptance("/items/2")
    origin.lose_answers = 1
    await accept(store, write)
    async with looping(store, origin.url):
        await eventually(lambda: _is_dead(store, write))
        await accept_all(store, [next_one, elsewhere])
        await eventually(lambda: _is_in(store, elsewhere if not on_dead else next_one))
    assert await state_of(store, write) == "dead: ambiguous"
    assert await state_of(store, next_one) == ("synced" if on_dead else "pending")
    assert [effect.method for effect in origin.effects if effect.path == ITEM.path][1:] == ["PUT"] * bool(on_dead)


@pytest.mark.parametrize("on_dead", ["", "block"])
async def test_a_write_given_up_holds_its_successors_where_the_rule_says_so(
    store: RegionStore, origin: Origin, on_dead: str
) -> None:
    writes = [acceptance(max_tries=1, on_dead=on_dead), acceptance(), acceptance("/items/2")]
    origin.refuse[ITEM.path] = 500
    await accept_all(store, writes)
    async with looping(store, origin.url):
        await eventually(lambda: _is_dead(store, writes[0]))
        origin.refuse.clear()
        await eventually(lambda: _is_in(store, writes[2] if on_dead else writes[1]))
        depth = await queue.depth(store, store.partitions[0])
        assert depth.blocked == int(on_dead == "block")
    assert await state_of(store, writes[0]) == "dead: too-many-tries"
    assert await state_of(store, writes[1]) == ("pending" if on_dead else "synced")


async def _is_dead(store: RegionStore, write: Acceptance) -> bool:
    return (await state_of(store, write)).startswith("dead")


async def _is_in(store: RegionStore, write: Acceptance) -> bool:
    return await state_of(store, write) == "synced"


async def test_what_may_not_be_repeated_dies_of_a_sender_that_vanished_with_it(
    store: RegionStore, origin: Origin
) -> None:
    write = acceptance(repeatable=False, method="POST")
    await accept(store, write)
    async with looping(store, origin.url, start=False, **QUICK) as gone:
        await _vanish_after_sending(gone, origin)
    async with looping(store, origin.url, **QUICK):
        await drained(store)
    assert await state_of(store, write) == "dead: ambiguous"
    assert len(origin.effects) == 1


async def test_what_may_not_be_repeated_survives_a_claim_that_sent_nothing(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    write = acceptance(repeatable=False, method="POST")
    await accept(store, write)
    await claim_one(store, store.partitions[0], "gone")
    await end_lease(client, store.partitions[0], ITEM.digest)
    async with looping(store, origin.url):
        await drained(store)
    assert await state_of(store, write) == "synced"


async def test_what_may_not_be_repeated_is_sent_again_after_a_clear_refusal(store: RegionStore, origin: Origin) -> None:
    write = acceptance(repeatable=False, method="POST")
    origin.refuse[ITEM.path] = 503
    await accept(store, write)
    async with looping(store, origin.url):
        await eventually(lambda: len(origin.requests) >= 2)
        origin.refuse.clear()
        await drained(store)
    assert await state_of(store, write) == "synced"
    assert len(origin.effects) == 1


async def test_a_precondition_that_fails_after_an_unknown_outcome_is_ambiguous(
    store: RegionStore, origin: Origin
) -> None:
    write = acceptance()
    await accept(store, write)
    async with looping(store, origin.url, start=False, **QUICK) as gone:
        await _vanish_after_sending(gone, origin)
    origin.refuse[ITEM.path] = 503  # a try in between does not make it forgotten
    async with looping(store, origin.url, **QUICK):
        seen = len(origin.requests)
        await eventually(lambda: len(origin.requests) > seen)
        origin.refuse[ITEM.path] = 412
        await drained(store)
    assert await state_of(store, write) == "dead: ambiguous"


async def test_the_successor_of_a_stalled_write_is_judged_by_itself(store: RegionStore, client: Redis) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=204 if request.method == "PUT" else 412)

    first, second = acceptance(), acceptance(method="DELETE")
    await accept_all(store, [first, second])
    await claim_one(store, store.partitions[0], "gone")
    await end_lease(client, store.partitions[0], ITEM.digest)
    async with serving(handler) as origin, looping(store, origin):
        await drained(store)
    assert await state_of(store, first) == "synced"
    assert await state_of(store, second) == "rejected: status 412"


async def test_other_regions_hear_of_a_refused_write_that_may_have_been_applied(
    store: RegionStore, client: Redis
) -> None:
    attempts = 0

    async def handler(request: web.BaseRequest) -> web.Response:
        nonlocal attempts
        attempts += 1
        if attempts == 1:  # it is applied, and its answer lost
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=401)  # the credentials have run out meanwhile

    write = acceptance()
    await accept(store, write)
    async with serving(handler) as origin, looping(store, origin, **QUICK):
        await drained(store)
    assert (await state_of(store, write), attempts) == ("rejected: auth", 2)
    assert await client.xlen(store.partitions[0].out) == 1


# --- the ends of leases ---


async def test_an_attempt_ends_within_its_lease_however_long_it_took_to_note_it(
    store: RegionStore, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, waits = queue.begin_attempt, [0.6, 0.8]

    async def slow(*arguments: Any) -> int | None:
        earlier = await real(*arguments)
        await asyncio.sleep(waits.pop())
        return earlier

    monkeypatch.setattr(queue, "begin_attempt", slow)
    write = acceptance(repeatable=False)
    await accept(store, write)
    origin.gate.clear()
    async with looping(store, origin.url, start=False, **QUICK) as loop:
        assert await asyncio.wait_for(loop.turn(), 0.95) == 1
        status = await status_of(store, write)
        assert (status["state"], status["unknown"], len(origin.requests)) == ("pending", "0", 0)
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(loop.turn(), 0.95) == 1
    assert await state_of(store, write) == "dead: ambiguous"


async def test_what_was_extended_too_long_ago_is_not_sent(store: RegionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = queue.extend

    async def stopped(*arguments: Any) -> set[str]:
        kept = await real(*arguments)
        await asyncio.sleep(0.85)
        return kept

    write, partition = acceptance(), store.partitions[0]
    await accept(store, write)
    leases = Leases(store, Sync(**QUICK))
    claims = await leases.claim(partition, 1)
    await asyncio.sleep(0.15)
    assert await leases.renew(claims) == claims
    await asyncio.sleep(0.15)
    monkeypatch.setattr(queue, "extend", stopped)
    assert await leases.renew(claims) == []


# --- records that cannot be read ---


async def _replace_head(store: RegionStore, client: Redis, path: str, element: bytes) -> None:
    pending = store.partitions[0].pending(resource(path).digest)
    ((head, seq),) = await raw(client, "ZRANGE", pending, 0, 0, "WITHSCORES")
    await raw(client, "ZREM", pending, head)
    await raw(client, "ZADD", pending, str(seq), element)


async def test_a_corrupt_record_dies_with_its_bytes_kept_and_successors_go_on(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    partition = store.partitions[0]
    corrupt, next_one = acceptance(affects=("/items",)), acceptance()
    await accept_all(store, [corrupt, next_one])
    await _replace_head(store, client, ITEM.path, b"\xc1 no record")
    async with looping(store, origin.url):
        await drained(store)
    assert await state_of(store, corrupt) == "dead: corrupt"
    assert await state_of(store, next_one) == "synced"
    assert await raw(client, "HGET", partition.status(corrupt.record.id), "record") == b"\xc1 no record"
    looked = await look(store, resource("/items"))
    assert looked.pending == ()


async def test_a_newer_record_is_left_to_a_newer_edge_and_holds_up_no_other(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    newer, behind, other = acceptance(), acceptance(), acceptance("/items/2")
    await accept_all(store, [newer, behind, other])
    element = TAGS + msgspec.msgpack.encode([99, {"a": "future"}])
    await _replace_head(store, client, ITEM.path, element)
    async with looping(store, origin.url):

        async def other_is_in() -> bool:
            return await state_of(store, other) == "synced"

        await eventually(other_is_in)
    assert await state_of(store, newer) == await state_of(store, behind) == "pending"
    assert await raw(client, "ZRANGE", store.partitions[0].pending(ITEM.digest), 0, 0) == [element]
    assert not await raw(client, "HEXISTS", store.partitions[0].lease, ITEM.digest)


async def test_a_large_body_is_sent_and_a_lost_one_ends_its_write(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    body = json.dumps({"n": "x" * 50_000}).encode()
    whole, lost = acceptance(body=body, stored=True), acceptance(body=body, stored=True)
    await accept_all(store, [whole, lost])
    await raw(client, "DEL", store.partitions[0].body(lost.record.id))
    async with looping(store, origin.url):
        await drained(store)
    assert [effect.body for effect in origin.effects] == [body]
    assert await state_of(store, lost) == "dead: body-lost"


# --- outages ---


async def test_an_origin_that_is_down_burns_no_tries_and_gets_everything_later(
    store: RegionStore, origin: Origin
) -> None:
    writes = _numbered(60, paths=30)
    await origin.stop()
    await accept_all(store, writes)
    async with looping(store, origin.url, max_tries=3, breaker_seconds=0.05):

        async def many_attempts_failed() -> bool:
            return all([(await status_of(store, write)).get("problem") for write in writes[:30]])

        await eventually(many_attempts_failed)
        assert {(await status_of(store, write))["tries"] for write in writes} == {"0"}
        await origin.start()
        await drained(store)
    assert {await state_of(store, write) for write in writes} == {"synced"}
    for n in range(30):
        assert _applied(origin, f"/items/{n}") == [n, n + 30]


async def test_an_outage_behind_a_proxy_burns_few_tries_and_is_logged(
    store: RegionStore, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    writes = _numbered(30, paths=30)
    origin.refuse = {write.record.path: 502 for write in writes}
    await accept_all(store, writes)
    async with looping(store, origin.url, breaker_failures=5, breaker_seconds=0.02):
        await eventually(lambda: len(origin.requests) > 150)
        tries = [int((await status_of(store, write))["tries"]) for write in writes]
        assert sum(tries) <= 4  # the fifth failure in a row is an outage
        origin.refuse.clear()
        await drained(store)
    assert len(origin.effects) == 30
    outage = [record.message.partition(": ")[2] for record in caplog.records if record.name.endswith("sync.sender")]
    assert (outage[0], outage[-1]) == ("writes wait: status 502", "the origin takes writes again")


async def test_nothing_is_sent_to_an_origin_that_is_left_alone(
    store: RegionStore, client: Redis, origin: Origin
) -> None:
    writes = _numbered(30, paths=30)
    origin.refuse = {write.record.path: 503 for write in writes}
    await accept_all(store, writes)
    async with looping(store, origin.url, concurrency=1, breaker_failures=5, breaker_seconds=3600.0):

        async def all_are_given_back() -> bool:
            return len(origin.requests) >= 5 and not await raw(client, "EXISTS", store.partitions[0].lease)

        await eventually(all_are_given_back)
    assert len(origin.requests) == 5


async def test_a_write_that_alone_fails_is_given_up(store: RegionStore, origin: Origin) -> None:
    bad = acceptance("/items/bad", max_tries=4)
    origin.refuse["/items/bad"] = 503
    await accept(store, bad)
    async with looping(store, origin.url, breaker_failures=3):
        for n in range(1000):
            await accept(store, acceptance(f"/items/{n}"))
            if await state_of(store, bad) != "pending":
                break
    assert await state_of(store, bad) == "dead: too-many-tries"


async def test_a_write_that_is_too_old_is_given_up(store: RegionStore, origin: Origin) -> None:
    write = acceptance(age=4 * 86_400)
    origin.refuse[ITEM.path] = 500
    await accept(store, write)
    async with looping(store, origin.url):
        await drained(store)
    assert await state_of(store, write) == "dead: too-old"


async def test_a_redis_that_restarts_while_writes_are_sent_loses_and_doubles_none(
    tmp_path: Path, origin: Origin
) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    async with ValkeyServer(tmp_path, config=config) as server, opened(server.url, breaker_seconds=0.05) as store:
        await accept_all(store, _numbered(60, paths=6))
        async with looping(store, origin.url, **QUICK):
            await eventually(lambda: len(origin.effects) > 10)
            await server.kill()
            await server.start()

            async def is_drained() -> bool:
                with contextlib.suppress(RegionUnavailableError):
                    return (await queue.depth(store, store.partitions[0])).writes == 0
                return False

            await eventually(is_drained)
    for n in range(6):
        assert _applied(origin, f"/items/{n}") == list(range(n, 60, 6))


async def test_connections_that_break_all_the_time_lose_double_and_reorder_nothing(
    server: ValkeyServer, store: RegionStore, origin: Origin
) -> None:
    chance = random.Random(7)
    writes = _numbered(120, paths=8)
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with (
            opened(url, breaker_seconds=0.02) as one,
            opened(url, breaker_seconds=0.02) as other,
            looping(one, origin.url, **QUICK),
            looping(other, origin.url, **QUICK),
        ):
            for n, write in enumerate(writes):
                await accept(store, write)
                if n % 10 == 0:
                    await proxy.drop_connections() if chance.random() < 0.5 else proxy.lose_replies(2)
            await drained(store, within=30)
    for n in range(8):
        assert _applied(origin, f"/items/{n}") == list(range(n, 120, 8))
    assert {await state_of(store, write) for write in writes} == {"synced"}


async def test_a_loop_outlives_what_no_one_expected(
    store: RegionStore, client: Redis, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    await raw(client, "SET", store.partitions[0].due, "not a sorted set")
    async with looping(store, origin.url):
        await eventually(lambda: "a turn of the sync loop failed" in caplog.text)
        await raw(client, "DEL", store.partitions[0].due)
        await accept(store, acceptance())
        await drained(store)


async def test_what_an_attempt_may_change_that_nobody_waits_for_is_invalidated_later(
    store: RegionStore, origin: Origin
) -> None:
    write, partition = acceptance(repeatable=False, method="POST"), store.partitions[0]
    origin.lose_answers = 1
    await accept(store, write)
    async with looping(store, origin.url, start=False, intent_seconds=0.001) as loop:
        await loop.turn()
    assert await state_of(store, write) == "dead: ambiguous"
    token = (await entries.begin(store, partition, write.target)).token
    sweeper = Sweeper(store)

    async def has_swept() -> bool:
        return bool(await sweeper.turn())

    await eventually(has_swept)
    assert (await entries.begin(store, partition, write.target)).token != token
