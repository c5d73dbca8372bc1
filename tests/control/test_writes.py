"""What operators do with queued writes: lists, one in full, retry and drop, while senders and operators come and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiohttp_regioncache import Rule
from aiohttp_regioncache.control.listing import EVERY, WriteFilter, WriteSummary, preview, read_cursor, shown_headers
from aiohttp_regioncache.control.writes import WriteDesk
from aiohttp_regioncache.errors import UnknownWriteError, WriteBusyError, WriteEndedError
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.settings import Queue, Settings, Sync
from aiohttp_regioncache.store import ended, outbox, queue
from aiohttp_regioncache.store.accepting import Acceptance
from aiohttp_regioncache.store.ended import Kind
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import accept, acceptance, claim_one, opened, settle
from tests.support import eventually
from tests.support.origin import Origin
from tests.support.servers import ValkeyServer
from tests.support.world import REGIONS, SECRET, TOKYO, one_edge
from tests.sync.tools import looping, status_of

HERE = REGIONS[0]
ANN = {"Authorization": "Bearer ann", **TOKYO}
QUICK = Sync(lease=5.0, timeout=2.0, poll=0.05, retry_base=0.01, retry_cap=0.05, breaker_seconds=0.1)


@contextlib.asynccontextmanager
async def desk_over(
    directory: Path, *, partitions: int = 1, **queue_settings: Any
) -> AsyncIterator[tuple[WriteDesk, RegionStore]]:
    """A desk over one region on a server of its own, with nobody sending."""
    async with ValkeyServer(directory / "server") as server, opened(server.url, partitions=partitions) as store:
        settings = Settings(
            origin="http://127.0.0.1:9",
            regions=(Region(HERE, redis=server.url, partitions=partitions),),
            secrets=(SECRET,),
            queue=Queue(**queue_settings),
        )
        yield WriteDesk({HERE: store}, settings), store


async def end_all(store: RegionStore, outcome: str, *, blocks: bool = False) -> None:
    """End every pending write of a region as `outcome`; with `blocks` only the first of each resource."""
    for partition in store.partitions:
        while claims := await queue.claim(store, partition, "fence", 100, 60.0):
            for claimed in claims:
                for item in await queue.read_queue(store, partition, claimed.digest):
                    assert item.record
                    settlement = queue.Settlement(outcome, {"reason": "a test"}, blocks=blocks)
                    limits = queue.SettleLimits(60, 60, 128, 60)
                    answer, _ = await queue.settle(
                        store, partition, claimed, item.record.id, item.seq, settlement, item.record.affected, limits
                    )
                    assert answer == "settled"
                    if blocks:
                        break


async def listed(desk: WriteDesk, kind: Kind, where: WriteFilter = EVERY, **options: Any) -> list[WriteSummary]:
    """A list, read page by page."""
    found: list[WriteSummary] = []
    cursor = ""
    while True:
        page = await desk.find(HERE, kind, where, cursor=cursor, **options)
        found += page.writes
        cursor = page.cursor
        if not cursor:
            return found


async def ids(desk: WriteDesk, kind: Kind, where: WriteFilter = EVERY, **options: Any) -> list[str]:
    """The ids of a list."""
    return [write.id for write in await listed(desk, kind, where, **options)]


async def counters(store: RegionStore) -> tuple[int, int, int]:
    """What a region counts as pending: writes, bytes, principals with writes."""
    depth = await queue.depth(store, store.partitions[0])
    return depth.writes, depth.bytes, await store.queue.command("HLEN", store.partitions[0].principals)


# --- lists ---


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("kind", ["pending", "dead", "rejected", "blocking"])
async def test_a_list_is_read_page_by_page_in_both_directions(tmp_path: Path, partitions: int, kind: Kind) -> None:
    async with desk_over(tmp_path, partitions=partitions) as (desk, store):
        writes = [acceptance(f"/group{n}/1") for n in range(30)]
        for write in writes:
            await accept(store, write)
        if kind != "pending":
            await end_all(store, "dead" if kind == "blocking" else kind, blocks=kind == "blocking")
        every = {write.record.id for write in writes}
        newest = await ids(desk, kind, limit=7)
        assert set(newest) == every
        assert len(newest) == 30
        oldest = await ids(desk, kind, order="oldest", limit=4)
        assert set(oldest) == every
        assert len(oldest) == 30
        if partitions == 1:
            assert oldest == newest[::-1]
        summaries = await listed(desk, kind, order="oldest", limit=10)
        times = [write.accepted if kind == "pending" else write.settled or 0 for write in summaries]
        assert times == sorted(times)


async def test_a_filter_means_resource_prefix_principal_and_reason(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        writes = {
            "a": acceptance("/items/1", principal="ann"),
            "b": acceptance("/items/1", principal="bob"),
            "c": acceptance("/items/10", principal="ann"),
            "d": acceptance("/other/1", principal="ann"),
        }
        for write in writes.values():
            await accept(store, write)

        async def meant(**options: str) -> str:
            found = await ids(desk, "pending", WriteFilter(**options), order="oldest")
            return "".join(name for name, write in writes.items() if write.record.id in found)

        assert await meant() == "abcd"
        assert await meant(resource="/items/1") == "ab"
        assert await meant(resource="/items/./%31") == "ab"
        assert await meant(resource=writes["a"].target.digest) == "ab"
        assert await meant(url_prefix="/items/") == "abc"
        assert await meant(url_prefix="http://edge.example/other") == "d"
        assert await meant(principal="ann", url_prefix="/items/") == "ac"
        await end_all(store, "dead")
        assert await ids(desk, "dead", WriteFilter(reason="a test"), limit=1) != []
        assert await ids(desk, "dead", WriteFilter(reason="another")) == []


async def test_what_was_forgotten_leaves_the_list(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        write = acceptance()
        await accept(store, write)
        await end_all(store, "rejected")
        await store.queue.command("DEL", store.partitions[0].status(write.record.id))
        assert await ids(desk, "rejected") == []
        assert await ended.counts(store, store.partitions[0]) == (0, 0)


@pytest.mark.parametrize("cursor", ["x", "é", "bnVsbA==", "W10=", "e30", "eyIwIjpbMV19"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        read_cursor(cursor)


async def test_a_kind_that_is_none_is_refused(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, _):
        unknown: Any = "deed"
        with pytest.raises(ValueError, match="'deed' is none of 'pending', 'dead'"):
            await desk.find(HERE, unknown)
        with pytest.raises(ValueError, match="'deed'"):
            await desk.drop_all(HERE, unknown)


# --- one write ---


def test_secrets_are_not_shown() -> None:
    names = ("Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "x-csrf-TOKEN", "Set-Cookie")
    shown = shown_headers([*((name, "s3cret") for name in names), ("Content-Type", "text/plain"), ("If-Match", '"1"')])
    assert [name for name, value in shown if "s3cret" not in value] == [*names, "Content-Type", "If-Match"]
    assert dict(shown)["If-Match"] == '"1"'


def test_only_text_is_shown() -> None:
    assert preview(b"\xff\x00").text is None
    assert preview(b"x" * 10_000).text == "x" * 2_000
    assert preview("é".encode()).size == 2


async def test_a_write_is_shown_with_its_request_its_answer_and_what_waits(tmp_path: Path) -> None:
    rule = Rule("/items/{id}", write="behind", on_dead="block")
    async with one_edge(tmp_path, rules=[rule], sync=QUICK) as (world, edge):
        world.origin.refuse["/items/1"] = 302
        world.origin.refuse_headers = {"Location": "/elsewhere", "Content-Type": "text/plain"}
        body = {"text": "x" * 40_000}  # kept beside
        dead = json.loads((await edge.put("/items/1", body, headers=ANN)).body)["id"]
        await eventually(lambda: _is(edge.cache.writes, dead, "dead"))
        waits = json.loads((await edge.put("/items/1", {"n": 2}, headers=ANN)).body)["id"]
        detail = await edge.cache.writes.show(dead)
        assert (detail.summary.reason, detail.summary.blocks, detail.waiting) == ("redirect", True, 1)
        assert detail.body is not None
        assert (detail.body.size, detail.body.text) == (40_012, json.dumps(body)[:2_000])
        assert dict(detail.headers)["Content-Type"] == "application/json"
        assert "ann" not in str(detail.headers)
        assert detail.answer is not None
        assert (detail.answer.status, dict(detail.answer.headers)["Location"]) == (302, "/elsewhere")
        behind = await edge.cache.writes.show(waits)
        assert (behind.blocked_by, behind.waiting, behind.effect) == (dead, 0, "replace")

        page = (await edge.get(f"/_regioncache/writes/{waits}", headers=ANN)).body
        assert "waits behind an earlier write" in json.loads(page)["meaning"]
        page = (await edge.get(f"/_regioncache/writes/{dead}", headers=ANN)).body
        assert "Later writes of the resource wait" in json.loads(page)["meaning"]


async def _is(desk: WriteDesk, write_id: str, state: str) -> bool:
    return (await desk.show(write_id)).summary.state == state


@pytest.mark.parametrize("write_id", ["", "x", f"{HERE}-0-00", f"{HERE}-9-00", "nowhere-0-00"])
async def test_an_unknown_write_is_said_to_be(tmp_path: Path, write_id: str) -> None:
    async with desk_over(tmp_path) as (desk, _):
        for ask in (desk.show, desk.retry, desk.drop):
            with pytest.raises(UnknownWriteError):
                await ask(write_id)


# --- retry ---


@pytest.mark.parametrize("outcome", ["dead", "rejected"])
async def test_a_retried_write_goes_out_before_what_came_after_it_under_its_own_key(
    tmp_path: Path, outcome: str
) -> None:
    async with desk_over(tmp_path) as (desk, store), Origin() as origin:
        first = acceptance(body=b'{"n": 1}', affects=("/items",))
        await accept(store, first)
        await end_all(store, outcome)
        later = acceptance(body=b'{"n": 2}', affects=("/items",))
        await accept(store, later)
        await desk.retry(first.record.id)
        await desk.retry(first.record.id)  # twice is once
        assert await counters(store) == (2, 20, 1)
        async with looping(store, origin.url):
            await eventually(lambda: _is(desk, later.record.id, "synced"))
        keys = [effect.key.strip('"') for effect in origin.effects]
        assert keys == [first.record.idempotency_key, later.record.idempotency_key]
        assert await counters(store) == (0, 0, 0)
        with pytest.raises(WriteEndedError, match="synced"):
            await desk.retry(first.record.id)


async def test_a_write_is_not_retried_under_a_sender_that_is_at_work(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        first, later = acceptance(), acceptance()
        await accept(store, first)
        await end_all(store, "rejected")
        accepted = await accept(store, later)
        partition = store.partitions[0]
        claimed = await claim_one(store, partition)
        with pytest.raises(WriteBusyError):
            await desk.retry(first.record.id, wait=0.0)
        with pytest.raises(WriteBusyError):
            await desk.drop(later.record.id, wait=0.0)
        settling = settle(store, partition, claimed, later, accepted.seq)
        _, settled = await asyncio.gather(desk.retry(first.record.id, wait=10.0), settling)
        assert settled == ("settled", 0)
        assert await _is(desk, first.record.id, "pending")


async def test_a_large_write_is_retried_with_its_body(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store), Origin() as origin:
        write = acceptance(body=b'{"n": "large"}', stored=True)
        await accept(store, write)
        await end_all(store, "dead")
        await desk.retry(write.record.id)
        async with looping(store, origin.url):
            await eventually(lambda: _is(desk, write.record.id, "synced"))
        assert [effect.body for effect in origin.effects] == [b'{"n": "large"}']


async def test_an_operator_who_vanishes_holds_a_resource_up_no_longer_than_a_lease(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store), Origin() as origin:
        write = acceptance()
        await accept(store, write)
        partition = store.partitions[0]
        assert await ended.seize(store, partition, write.target.digest, "gone", 0.5)
        assert await ended.seize(store, partition, write.target.digest, "other", 0.5) is None
        async with looping(store, origin.url, poll=0.05):
            await eventually(lambda: _is(desk, write.record.id, "synced"))


async def test_that_a_sender_vanished_is_remembered_over_an_operators_visit(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (_, store):
        write, middle = acceptance(), acceptance()
        for each in (write, middle):
            await accept(store, each)
        partition = store.partitions[0]
        await claim_one(store, partition, "vanished")
        await store.queue.command("ZADD", partition.due, "XX", 0, write.target.digest)  # its lease has run out
        seized = await ended.seize(store, partition, write.target.digest, "operator", 60.0)
        assert seized
        assert seized.stalls == 1
        await ended.release(store, partition, seized)
        assert (await claim_one(store, partition, "next")).stalls == 1


async def test_that_a_sender_vanished_is_remembered_when_what_stands_behind_is_dropped(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        head, behind, last = (acceptance() for _ in range(3))
        for each in (head, behind, last):
            await accept(store, each)
        partition = store.partitions[0]
        await claim_one(store, partition, "vanished")
        await store.queue.command("ZADD", partition.due, "XX", 0, head.target.digest)  # its lease has run out
        await desk.drop(behind.record.id)
        claimed = await claim_one(store, partition, "next")
        assert claimed.stalls == 1
        await settle(store, partition, claimed, head, 1)
        await queue.defer(store, partition, claimed, delay=0.0)
        assert (await claim_one(store, partition, "after")).stalls == 0


# --- drop ---


async def test_what_may_have_gone_out_with_a_dropped_write_stays_in_doubt(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        head, together, alone = (acceptance() for _ in range(3))
        head, together = (
            msgspec.structs.replace(each, record=msgspec.structs.replace(each.record, bulk="/bulk"))
            for each in (head, together)
        )
        for each in (head, together, alone):
            await accept(store, each)
        partition = store.partitions[0]
        await claim_one(store, partition, "vanished")
        await store.queue.command("ZADD", partition.due, "XX", 0, head.target.digest)  # its lease has run out
        await desk.drop(head.record.id)
        doubts = [(await status_of(store, each)).get("unknown", "0") for each in (together, alone)]
        assert doubts == ["1", "0"]


async def test_a_pending_write_that_is_dropped_is_never_sent(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store), Origin() as origin:
        writes = [acceptance(body=json.dumps({"n": n}).encode(), affects=("/items",)) for n in range(3)]
        for write in writes:
            await accept(store, write)
        await desk.drop(writes[1].record.id)
        await desk.drop(writes[1].record.id)  # twice is once
        summary = (await desk.show(writes[1].record.id)).summary
        assert (summary.state, summary.reason, summary.dropped) == ("dead", "dropped", True)
        assert await ids(desk, "dead") == []
        async with looping(store, origin.url):
            await eventually(lambda: _is(desk, writes[2].record.id, "synced"))
        assert [json.loads(effect.body)["n"] for effect in origin.effects] == [0, 2]
        assert await counters(store) == (0, 0, 0)
        with pytest.raises(WriteEndedError):
            await desk.retry(writes[1].record.id)
        with pytest.raises(WriteEndedError, match="synced"):
            await desk.drop(writes[0].record.id)


@pytest.mark.parametrize("is_known_to_be_sent", [False, True])
async def test_other_regions_hear_of_a_dropped_write_that_may_have_been_applied(
    tmp_path: Path, is_known_to_be_sent: bool
) -> None:
    async with desk_over(tmp_path) as (desk, store):
        write = acceptance()
        await accept(store, write)
        partition = store.partitions[0]
        claimed = await claim_one(store, partition)
        await queue.defer(
            store, partition, claimed, delay=30.0, write_id=write.record.id,
            fields={"unknown": str(int(is_known_to_be_sent))},
        )  # fmt: skip
        await desk.drop(write.record.id)
        _, items = await outbox.read_items(store, partition, "0-0")
        assert [item.digests for item in items] == ([(write.target.digest,)] if is_known_to_be_sent else [])


async def test_a_dropped_write_keeps_no_request(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        write = acceptance(stored=True, affects=("/items",))
        await accept(store, write)
        await end_all(store, "dead")
        await desk.drop(write.record.id)
        partition = store.partitions[0]
        left = await store.queue.command("HKEYS", partition.status(write.record.id))
        assert not {b"record", b"copy1"} & set(left)
        assert await store.queue.command("EXISTS", partition.body(write.record.id)) == 0


async def test_operators_and_senders_at_once_leave_every_write_ended_once(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store), Origin() as origin:
        writes = [acceptance(f"/items/{n % 4}", body=json.dumps({"n": n}).encode()) for n in range(80)]
        origin.refuse["/items/3"] = 400
        for write in writes:
            await accept(store, write)

        async def drop(write: Acceptance) -> None:
            with contextlib.suppress(WriteEndedError):
                await desk.drop(write.record.id)

        async with looping(store, origin.url):
            await asyncio.gather(*(drop(write) for write in writes[::3]), *(drop(write) for write in writes[::3]))
            await eventually(lambda: _is_empty(store))
        states = {write.record.id: (await desk.show(write.record.id)).summary for write in writes}
        assert {summary.state for summary in states.values()} <= {"synced", "rejected", "dead"}
        sent = {effect.key.strip('"') for effect in origin.effects}
        synced = {write.record.idempotency_key for write in writes if states[write.record.id].state == "synced"}
        assert sent == synced
        assert origin.overlaps == 0
        assert await counters(store) == (0, 0, 0)
        assert await store.queue.command("EXISTS", store.partitions[0].due, store.partitions[0].lease) == 0


async def _is_empty(store: RegionStore) -> bool:
    return (await queue.depth(store, store.partitions[0])).writes == 0


# --- many writes ---


async def test_the_writes_that_a_filter_means_are_retried_in_order(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store), Origin() as origin:
        writes = [acceptance(f"/items/{n % 2}", body=json.dumps({"n": n}).encode()) for n in range(10)]
        for write in writes:
            await accept(store, write)
        await end_all(store, "rejected")
        async with looping(store, origin.url):
            treated = await desk.retry_all(HERE, "rejected", WriteFilter(resource="/items/1"), limit=4)
            assert (treated.meant, treated.done, treated.failed, treated.more) == (4, 4, (), True)
            treated = await desk.retry_all(HERE, "rejected", WriteFilter(resource="/items/1"))
            assert (treated.meant, treated.done, treated.more) == (1, 1, False)
            await eventually(lambda: _is_empty(store))
        assert [json.loads(effect.body)["n"] for effect in origin.effects] == [1, 3, 5, 7, 9]
        assert len(await ids(desk, "rejected")) == 5


async def test_what_blocks_is_dropped_together(tmp_path: Path) -> None:
    async with desk_over(tmp_path) as (desk, store):
        for n in range(20):
            await accept(store, acceptance(f"/items/{n % 10}"))
        await end_all(store, "dead", blocks=True)
        (depth,) = await desk.depths()
        assert (depth.writes, depth.blocked, depth.due, depth.dead) == (10, 10, 0, 10)
        treated = await desk.drop_all(HERE, "blocking")
        assert (treated.meant, treated.done) == (10, 10)
        (depth,) = await desk.depths()
        assert (depth.writes, depth.blocked, depth.due, depth.dead) == (10, 0, 10, 0)


# --- figures ---


async def test_how_full_a_region_is(tmp_path: Path) -> None:
    async with desk_over(tmp_path, max_writes=40, max_bytes=1_000) as (desk, store):
        for n in range(10):
            await accept(store, acceptance(f"/items/{n}", size=80))
        (depth,) = await desk.depths()
        assert (depth.writes, depth.bytes, depth.due, depth.accepted, depth.processed) == (10, 800, 10, 10, 0)
        assert (depth.fill, depth.max_writes, depth.max_bytes) == (0.8, 40, 1_000)
        assert 0 <= depth.oldest < 60
        await end_all(store, "rejected")
        (depth,) = await desk.depths()
        assert (depth.writes, depth.processed, depth.rejected, depth.oldest, depth.fill) == (0, 10, 10, 0.0, 0.0)


async def test_a_region_that_is_down_tells_so(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        await world.servers[HERE].kill()
        down, up = await edge.cache.writes.depths()
        assert down.problem.startswith(f"region {HERE}")
        assert not up.problem
