"""The queue of a region: caps, idempotency, large bodies, leases, and what evicted or deleted keys do to readers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aiohttp_regioncache.durability import MEMORY
from aiohttp_regioncache.errors import RegionUnavailableError, UnreadableRecordError
from aiohttp_regioncache.records import decode_write_record
from aiohttp_regioncache.settings import Queue
from aiohttp_regioncache.store import ended, entries, intents, outbox, queue
from aiohttp_regioncache.store.accepting import Acceptance, Accepted, Verdict
from aiohttp_regioncache.store.events import Changed
from aiohttp_regioncache.store.region import RegionStore
from tests.store import tools
from tests.store.tools import TAGS, accept, acceptance, claim_one, look, raw, resource, settle
from tests.support import eventually

ITEM = resource("/items/1")
LARGE = b"x" * 50_000


@pytest.mark.parametrize(
    ("caps", "cap"),
    [
        (Queue(max_writes=2), "writes"),
        (Queue(max_bytes=25), "bytes"),
        (Queue(max_writes_per_resource=2), "resource"),
        (Queue(max_bytes_per_resource=25), "resource"),
        (Queue(max_writes_per_principal=2), "principal"),
    ],
)
async def test_a_cap_refuses_one_write_and_no_less(store: RegionStore, client: Redis, caps: Queue, cap: str) -> None:
    for _ in range(2):
        assert (await accept(store, acceptance(), caps)).verdict is Verdict.ACCEPTED
    before = await _octets(client, *await tools.keys(client))
    refused = await accept(store, acceptance(), caps)
    assert (refused.verdict, refused.detail) == (Verdict.FULL, cap)
    assert await _octets(client, *await tools.keys(client)) == before
    assert (await queue.depth(store, store.partitions[0])).writes == 2


async def test_a_settled_write_makes_room(store: RegionStore) -> None:
    caps, write = Queue(max_writes=1, max_bytes=10, max_writes_per_principal=1), acceptance()
    seq = (await accept(store, write, caps)).seq
    assert (await accept(store, acceptance(), caps)).verdict is Verdict.FULL
    claimed = await claim_one(store, store.partitions[0])
    await settle(store, store.partitions[0], claimed, write, seq)
    assert (await accept(store, acceptance(), caps)).verdict is Verdict.ACCEPTED


async def test_one_write_alone_may_be_larger_than_its_resource_may_hold(store: RegionStore) -> None:
    """Else it could never be taken; what waits behind it may not."""
    caps = Queue(max_bytes_per_resource=5)
    write = acceptance(size=10)
    seq = (await accept(store, write, caps)).seq
    refused = await accept(store, acceptance(size=0), caps)
    assert (refused.verdict, refused.detail, refused.seq) == (Verdict.FULL, "resource", 1)
    assert (await accept(store, acceptance("/items/2"), caps)).verdict is Verdict.ACCEPTED
    claims = {each.digest: each for each in await queue.claim(store, store.partitions[0], "fence", 10, 60)}
    await settle(store, store.partitions[0], claims[ITEM.digest], write, seq)
    assert (await accept(store, acceptance(), caps)).verdict is Verdict.ACCEPTED


async def test_writes_of_no_octets_leave_room_for_one_of_any_size(store: RegionStore) -> None:
    caps = Queue(max_bytes_per_resource=5)
    for size, verdict in ((0, Verdict.ACCEPTED), (10, Verdict.ACCEPTED), (1, Verdict.FULL)):
        assert (await accept(store, acceptance(size=size), caps)).verdict is verdict


async def test_writes_of_one_moment_count_each_other(store: RegionStore, client: Redis) -> None:
    """What a call reads of one of them is what it has written of those before."""
    partition = store.partitions[0]
    for paths in (("/items/1", "/items/1", "/items/2"), ("/items/1", "/items/3", "/items/3")):
        writes = [acceptance(path, affects=("/items",)) for path in paths]
        accepted = await asyncio.gather(*(accept(store, write) for write in writes))
        assert {each.verdict for each in accepted} == {Verdict.ACCEPTED}
    pending = {}
    for path in ("/items", "/items/1", "/items/2", "/items/3"):
        pending[path] = await tools.pending_counts(client, partition, resource(path))
    assert pending == {"/items": (6, 0), "/items/1": (3, 30), "/items/2": (1, 10), "/items/3": (2, 20)}
    assert (await queue.depth(store, partition)).writes == 6
    due = await client.zrange(partition.due, 0, -1)
    assert set(due) == {resource(path).digest.encode() for path in ("/items/1", "/items/2", "/items/3")}


async def test_caps_of_one_resource_and_principal_leave_others_alone(store: RegionStore) -> None:
    caps = Queue(max_writes_per_resource=1, max_writes_per_principal=1)
    await accept(store, acceptance(), caps)
    assert (await accept(store, acceptance("/items/2", principal="p2"), caps)).verdict is Verdict.ACCEPTED


async def test_an_idempotency_key_is_known_also_after_the_write_has_settled(store: RegionStore) -> None:
    write = acceptance(key="client")
    seq = (await accept(store, write)).seq
    await settle(store, store.partitions[0], await claim_one(store, store.partitions[0]), write, seq)
    again = await accept(store, acceptance(key="client"))
    assert (again.verdict, again.detail) == (Verdict.KNOWN, write.record.id)
    other = await accept(store, acceptance(key="client", fingerprint="other"))
    assert (other.verdict, other.detail) == (Verdict.MISMATCH, write.record.id)


async def test_an_idempotency_key_cannot_be_evicted_while_its_write_is_pending(
    store: RegionStore, client: Redis
) -> None:
    partition, write = store.partitions[0], acceptance(key="client")
    seq = (await accept(store, write)).seq
    known = partition.idempotency("client")
    assert await raw(client, "TTL", known) == -1
    await settle(store, partition, await claim_one(store, partition), write, seq, "dead")
    assert await raw(client, "TTL", known) > 86_400  # as long as it can be queued again
    digest, affected = write.target.digest, write.record.affected
    assert await ended.revive(store, partition, write.record.id, digest, affected, idempotency="client") == "revived"
    assert await raw(client, "TTL", known) == -1
    await settle(store, partition, await claim_one(store, partition, "again"), write, seq)
    assert 0 < await raw(client, "TTL", known) <= 86_400


async def test_nothing_is_kept_to_know_a_request_without_a_key_by(store: RegionStore, client: Redis) -> None:
    writes = [acceptance(), acceptance()]
    for write in (*writes, writes[0]):
        answer = await accept(store, write)
        assert (answer.verdict, answer.detail) == (Verdict.ACCEPTED, write.record.id)
    assert (await queue.depth(store, store.partitions[0])).writes == 2
    assert await raw(client, "KEYS", store.partitions[0].idempotency("*")) == []


async def test_a_full_queue_still_knows_what_it_has(store: RegionStore) -> None:
    await accept(store, acceptance(key="client"), Queue(max_writes=1))
    again = await accept(store, acceptance(key="client"), Queue(max_writes=1))
    assert again.verdict is Verdict.KNOWN


# --- large bodies ---


async def test_a_large_body_stands_beside_the_queue_until_its_write_has_settled(
    store: RegionStore, client: Redis
) -> None:
    partition, write = store.partitions[0], acceptance(body=LARGE, stored=True)
    seq = (await accept(store, write)).seq
    assert await queue.read_body(store, partition, write.record.id) == LARGE
    assert await raw(client, "PTTL", partition.body(write.record.id)) == -1
    claimed = await claim_one(store, partition)
    (queued,) = await queue.read_queue(store, partition, claimed.digest)
    assert queued.record == write.record
    await settle(store, partition, claimed, write, seq)
    assert await queue.read_body(store, partition, write.record.id) is None


async def test_an_accept_repeated_after_a_lost_reply_leaves_the_body_without_a_lifetime(
    store: RegionStore, client: Redis
) -> None:
    write = acceptance(body=LARGE, stored=True)
    for _ in range(2):
        assert (await accept(store, write)).verdict is Verdict.ACCEPTED
    assert await raw(client, "PTTL", store.partitions[0].body(write.record.id)) == -1


async def test_an_accept_cut_off_behind_its_body_shortens_the_life_of_no_body(
    store: RegionStore, client: Redis
) -> None:
    """The body of a repeated accept arrives, its script does not."""
    partition, write = store.partitions[0], acceptance(body=LARGE, stored=True)
    await accept(store, write)
    await raw(client, "ACL", "SETUSER", "default", "-evalsha")
    with pytest.raises(ResponseError, match="permissions"):
        await accept(store, write)
    assert await raw(client, "PTTL", partition.body(write.record.id)) == -1


async def test_an_accept_repeated_after_the_settle_brings_no_body_back_for_good(
    store: RegionStore, client: Redis
) -> None:
    partition, write = store.partitions[0], acceptance(body=LARGE, stored=True)
    seq = (await accept(store, write)).seq
    await settle(store, partition, await claim_one(store, partition), write, seq)
    await accept(store, write)
    assert await raw(client, "PTTL", partition.body(write.record.id)) > 0


async def test_a_refused_write_leaves_no_body_for_good(store: RegionStore, client: Redis) -> None:
    await accept(store, acceptance())
    write = acceptance(body=LARGE, stored=True)
    assert (await accept(store, write, Queue(max_writes=1))).verdict is Verdict.FULL
    assert await raw(client, "PTTL", store.partitions[0].body(write.record.id)) > 0


async def test_a_dead_write_keeps_its_record_and_its_body_for_an_operator(store: RegionStore, client: Redis) -> None:
    partition, write = store.partitions[0], acceptance(body=LARGE, stored=True)
    seq = (await accept(store, write)).seq
    await settle(store, partition, await claim_one(store, partition), write, seq, "dead")
    assert await queue.read_body(store, partition, write.record.id) == LARGE
    month = queue.ENDED_SECONDS * 1000
    for key in (partition.body(write.record.id), partition.status(write.record.id)):
        assert 0.99 * month < await raw(client, "PTTL", key) <= month
    record = await raw(client, "HGET", partition.status(write.record.id), "record")
    assert decode_write_record(record.partition(b"\n")[2]) == write.record


# --- leases ---


async def test_a_lease_that_ended_counts_as_a_stall_until_somebody_has_tried_again(
    store: RegionStore, client: Redis
) -> None:
    partition = store.partitions[0]
    write = acceptance()
    await accept(store, write)
    first = await claim_one(store, partition, "first")
    await tools.end_lease(client, partition, ITEM.digest)
    second = await claim_one(store, partition, "second")
    assert (first.stalls, second.stalls) == (0, 1)
    assert await queue.defer(store, partition, second, delay=0)  # given back without an attempt
    third = await claim_one(store, partition, "third")
    assert third.stalls == 1
    await queue.defer(store, partition, third, delay=0, write_id=write.record.id, tries=1, fields={"problem": "503"})
    assert (await claim_one(store, partition, "fourth")).stalls == 0


async def test_who_lost_a_lease_can_neither_settle_nor_give_back_nor_keep_it(store: RegionStore, client: Redis) -> None:
    partition, write = store.partitions[0], acceptance()
    seq = (await accept(store, write)).seq
    late = await claim_one(store, partition, "late")
    await tools.end_lease(client, partition, ITEM.digest)
    owner = await claim_one(store, partition, "owner")
    assert (await settle(store, partition, late, write, seq))[0] == "lost"
    assert not await queue.defer(store, partition, late, delay=0)
    assert await queue.extend(store, partition, [late, owner], 60) == {ITEM.digest}
    assert await queue.extend(store, partition, [late], 60) == set()
    assert await queue.begin_attempt(store, partition, late, write.record.id, MEMORY) is None
    assert await settle(store, partition, owner, write, seq) == ("settled", 0)
    assert (await settle(store, partition, late, write, seq))[0] == "lost"


async def test_an_extended_lease_is_not_claimed_by_another(store: RegionStore) -> None:
    partition = store.partitions[0]
    await accept(store, acceptance())
    claimed = await claim_one(store, partition, "first", lease=0.0)
    assert await queue.extend(store, partition, [claimed], 60) == {claimed.digest}
    assert await queue.claim(store, partition, "second", 10, 60) == []


async def test_an_attempt_of_what_may_not_be_repeated_is_noted_before_it(store: RegionStore, client: Redis) -> None:
    partition, write = store.partitions[0], acceptance(repeatable=False)
    await accept(store, write)
    claimed = await claim_one(store, partition, "first")
    for _ in range(2):  # the second as after a lost reply
        assert await queue.begin_attempt(store, partition, claimed, write.record.id, MEMORY) == 0
    await tools.end_lease(client, partition, ITEM.digest)
    claimed = await claim_one(store, partition, "second")
    for _ in range(2):
        assert await queue.begin_attempt(store, partition, claimed, write.record.id, MEMORY) == 1


@pytest.mark.parametrize(("mark", "earlier"), [("", 0), ("0", 0), ("1", 1)])
async def test_what_a_given_back_attempt_left_is_known_to_the_next(store: RegionStore, mark: str, earlier: int) -> None:
    partition, write = store.partitions[0], acceptance(repeatable=False)
    await accept(store, write)
    claimed = await claim_one(store, partition, "first")
    assert await queue.begin_attempt(store, partition, claimed, write.record.id, MEMORY) == 0
    await queue.defer(store, partition, claimed, delay=0, write_id=write.record.id, fields={"unknown": mark})
    claimed = await claim_one(store, partition, "second")
    assert await queue.begin_attempt(store, partition, claimed, write.record.id, MEMORY) == earlier


async def test_the_watermark_waits_for_the_lowest_unsettled_write(store: RegionStore) -> None:
    partition = store.partitions[0]
    writes = [acceptance(f"/items/{n}") for n in range(3)]
    seqs = [(await accept(store, write)).seq for write in writes]
    claims = {each.digest: each for each in await queue.claim(store, partition, "fence", 10, 60)}
    marks = []
    for n in (1, 0, 2):
        await settle(store, partition, claims[writes[n].target.digest], writes[n], seqs[n])
        marks.append((await queue.depth(store, partition)).processed)
    assert marks[:2] == [0, 2]
    assert marks[2] >= 3


async def test_a_reader_gets_only_what_it_sees_of_the_writes_to_other_resources(store: RegionStore) -> None:
    parent = resource("/items")
    shared = acceptance("/items/3", principal="p3", affects=("/items",))
    copy = msgspec.structs.replace(shared.affected[0][1], shared=True)
    record = msgspec.structs.replace(shared.record, shared=True)
    shared = msgspec.structs.replace(shared, record=record, affected=((parent, copy),))
    odd = acceptance("/items/4", principal="*[?", affects=("/items",))
    writes = [acceptance(f"/items/{n}", principal=f"p{n}", affects=("/items",)) for n in (1, 2)]
    for write in (*writes, shared, odd):
        await accept(store, write)

    async def seen_by(*principals: str) -> list[str]:
        looked = await look(store, parent, *principals)
        assert looked.state is not None
        assert looked.state.pending == 4
        return [item.record.principal for item in looked.pending if item.record is not None]

    assert await seen_by() == ["p3"]
    assert await seen_by("p") == ["p3"]
    assert await seen_by("p1") == ["p1", "p3"]
    assert await seen_by("p2", "p1", "p3") == ["p1", "p2", "p3"]
    assert await seen_by("*[?") == ["p3", "*[?"]


async def test_of_very_many_writes_to_other_resources_a_reader_gets_some_and_one_that_cannot_be_read(
    store: RegionStore,
) -> None:
    parent = resource("/items")
    most = entries.MAX_FOLDED
    own = [acceptance(f"/items/{n}", principal="p", affects=("/items",)) for n in range(most + 2)]
    others = [acceptance(f"/items/{n}", principal="other", affects=("/items",)) for n in range(most + 2)]
    await asyncio.gather(*(accept(store, write) for write in (*own, *others)))
    looked = await look(store, parent, "p")
    assert [item.record.principal if item.record else "" for item in looked.pending] == ["p"] * most + [""]
    assert (await look(store, parent, "q")).pending == ()


async def test_a_dead_write_that_is_queued_again_is_seen_where_it_was(store: RegionStore) -> None:
    partition, write = store.partitions[0], acceptance(principal="p", affects=("/items",))
    seq = (await accept(store, write)).seq
    await settle(store, partition, await claim_one(store, partition), write, seq, "dead")
    assert (await look(store, resource("/items"), "p")).pending == ()
    assert (
        await ended.revive(store, partition, write.record.id, write.target.digest, [resource("/items").digest])
        == "revived"
    )
    (again,) = (await look(store, resource("/items"), "p")).pending
    assert (again.number, again.record) == (seq, write.affected[0][1])


async def test_what_has_landed_is_seen_by_all_as_it_was_accepted(store: RegionStore) -> None:
    write = acceptance(affects=("/items",))
    await _land(store, write)
    (landed,) = (await look(store, resource("/items"))).landed
    assert landed.record == write.affected[0][1]


# --- unreadable records ---


async def test_a_newer_record_ends_what_is_read_and_a_corrupt_one_is_told(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    await accept(store, acceptance())
    newer = msgspec.msgpack.encode([99, "whatever"])
    await raw(client, "ZADD", partition.pending(ITEM.digest), "1.5", b"\xc1", 2, TAGS + newer, 3, b"behind it")
    readable = await queue.read_queue(store, partition, ITEM.digest)
    assert [item.record is None for item in readable] == [False, True]
    await raw(client, "ZREMRANGEBYRANK", partition.pending(ITEM.digest), 0, 1)
    with pytest.raises(UnreadableRecordError):
        await queue.read_queue(store, partition, ITEM.digest)


# --- eviction ---


async def _land(store: RegionStore, write: Acceptance) -> None:
    partition = store.partitions[0]
    seq = (await accept(store, write)).seq
    await settle(store, partition, await claim_one(store, partition), write, seq)


async def _fill(store: RegionStore) -> None:
    remembered = await entries.begin(store, store.partitions[0], ITEM)
    record = tools.entry(ITEM.path, remembered)
    assert await entries.fill(store, store.partitions[0], ITEM, "key", record, 60, None)


async def _serves(store: RegionStore) -> bool:
    """Whether a reader may go on from the stored entry with the landed writes of the list."""
    looked = await look(store, ITEM)
    assert looked.entry is not None
    assert looked.state is not None
    usable = looked.entry.token == looked.state.token and looked.entry.asof >= looked.state.trimmed
    return usable and (looked.entry.asof >= looked.state.landed or looked.is_whole)


async def test_an_evicted_list_of_landed_writes_takes_no_reader_back(store: RegionStore, client: Redis) -> None:
    await _fill(store)
    await _land(store, acceptance())
    assert await _serves(store)
    await raw(client, "DEL", store.partitions[0].landed(ITEM.digest))
    assert not await _serves(store)


async def test_nor_does_one_that_has_begun_anew_since(store: RegionStore, client: Redis) -> None:
    await _fill(store)
    await _land(store, acceptance())
    await raw(client, "DEL", store.partitions[0].landed(ITEM.digest))
    await _land(store, acceptance())
    assert not await _serves(store)
    await _fill(store)
    assert await _serves(store)


async def test_more_landed_writes_than_are_kept_end_an_older_base(store: RegionStore) -> None:
    partition, few = store.partitions[0], msgspec.structs.replace(tools.LIMITS, landed_count=2)
    await _fill(store)
    for n in range(3):
        write = acceptance()
        seq = (await accept(store, write)).seq
        await settle(store, partition, await claim_one(store, partition), write, seq, limits=few)
        assert await _serves(store) == (n < 2)


async def test_a_state_that_is_gone_ends_every_entry(store: RegionStore, client: Redis) -> None:
    await _fill(store)
    await raw(client, "DEL", store.partitions[0].state(ITEM.digest))
    looked = await look(store, ITEM)
    assert looked.state is None
    await entries.begin(store, store.partitions[0], ITEM)
    assert not await _serves(store)


async def test_a_state_that_is_gone_under_pending_writes_is_made_anew(store: RegionStore, client: Redis) -> None:
    partition, write = store.partitions[0], acceptance()
    await _fill(store)
    await _land(store, acceptance())
    seq = (await accept(store, write)).seq
    await raw(client, "DEL", partition.state(ITEM.digest))
    await entries.begin(store, partition, ITEM)
    looked = await look(store, ITEM)
    assert looked.state is not None
    assert (looked.state.pending, looked.state.landed) == (1, 0)
    assert looked.landed == ()
    assert not await _serves(store)
    assert await raw(client, "PTTL", partition.state(ITEM.digest)) == -1
    await settle(store, partition, await claim_one(store, partition), write, seq)
    looked = await look(store, ITEM)
    assert looked.state is not None
    assert looked.state.pending == 0
    assert looked.state.landed > seq


async def test_landed_writes_of_a_lost_state_are_lost_with_it(store: RegionStore, client: Redis) -> None:
    """Whichever script makes the next state."""
    partition = store.partitions[0]
    for is_pending in (False, True):
        await _land(store, acceptance())
        write = acceptance()
        if is_pending:
            seq = (await accept(store, write)).seq
            await raw(client, "DEL", partition.state(ITEM.digest))
        else:
            await raw(client, "DEL", partition.state(ITEM.digest))
            seq = (await accept(store, write)).seq
            assert (await look(store, ITEM)).landed == ()
        await settle(store, partition, await claim_one(store, partition), write, seq)
        (landed,) = (await look(store, ITEM)).landed
        assert landed.record == write.record


async def test_a_state_lasts_when_something_has_been_stored_under_it(store: RegionStore, client: Redis) -> None:
    state = store.partitions[0].state(ITEM.digest)
    await entries.begin(store, store.partitions[0], ITEM)
    assert 0 < await raw(client, "PTTL", state) <= entries.BEGUN_SECONDS * 1000
    await _fill(store)
    assert await raw(client, "PTTL", state) > entries.MAX_ENTRY_SECONDS * 1000


async def test_a_fill_is_refused_when_its_state_was_lost_meanwhile(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    remembered = await entries.begin(store, partition, ITEM)
    await raw(client, "DEL", partition.state(ITEM.digest))
    record = tools.entry(ITEM.path, remembered)
    assert not await entries.fill(store, partition, ITEM, "key", record, 60, None)
    await entries.begin(store, partition, ITEM)
    assert not await entries.fill(store, partition, ITEM, "key", record, 60, None)


async def test_a_holdoff_leaves_out_what_landed_a_moment_ago(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    await _land(store, acceptance())
    looked = await look(store, ITEM)
    assert looked.state is not None
    assert (await entries.begin(store, partition, ITEM)).asof == looked.state.landed
    store.holdoff = 3600.0
    assert (await entries.begin(store, partition, ITEM)).asof == 0
    (element,) = await raw(client, "ZRANGE", partition.landed(ITEM.digest), 0, -1)
    await raw(client, "ZREM", partition.landed(ITEM.digest), element)
    await raw(client, "ZADD", partition.landed(ITEM.digest), looked.state.landed, b"%013d" % 1 + element[13:])
    assert (await entries.begin(store, partition, ITEM)).asof == looked.state.landed


async def test_the_marker_of_a_resource_that_varies_is_stored_with_its_entry(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    remembered = await entries.begin(store, partition, ITEM)
    record = tools.entry(ITEM.path, remembered)
    marker = msgspec.structs.replace(record, status=0, vary=("accept",), body=b"")
    assert await entries.fill(store, partition, ITEM, "one", record, 60, ("all", marker))
    seen = await entries.glance(store, partition, "all", ITEM)
    assert seen.entry is not None
    assert seen.entry.is_marker
    assert 0 < await raw(client, "PTTL", partition.entry("all")) <= 60_000


async def test_a_settled_write_can_be_looked_up_and_a_lost_one_is_none(store: RegionStore) -> None:
    partition, write = store.partitions[0], acceptance()
    seq = (await accept(store, write)).seq
    assert await queue.write_id_at(store, partition, seq) == write.record.id
    await settle(store, partition, await claim_one(store, partition), write, seq)
    assert await queue.write_id_at(store, partition, seq) is None
    known = await queue.status(store, partition, write.record.id)
    assert known is not None
    assert (known["state"], known["tries"], known["reason"]) == ("synced", "1", "a test")
    assert "fence" not in known
    assert await queue.status(store, partition, "nobody-0-1") is None


# --- blocked resources ---


async def test_a_blocked_resource_is_not_claimed_whatever_is_accepted_there(store: RegionStore, client: Redis) -> None:
    partition, dead, behind = store.partitions[0], acceptance(), acceptance()
    seq = (await accept(store, dead)).seq
    await accept(store, behind)
    claimed = await claim_one(store, partition)
    assert await settle(store, partition, claimed, dead, seq, "dead", blocks=True) == ("settled", 0)
    await accept(store, acceptance())
    assert await queue.claim(store, partition, "next", 10, 60) == []
    depth = await queue.depth(store, partition)
    assert (depth.writes, depth.due, depth.blocked) == (2, 0, 1)
    for key in (partition.status(dead.record.id), partition.state(ITEM.digest)):
        assert await raw(client, "PTTL", key) == -1
    await accept(store, acceptance("/items/2"))
    assert (await claim_one(store, partition, "other")).digest == resource("/items/2").digest


async def test_what_blocks_keeps_its_body_and_takes_a_place(store: RegionStore, client: Redis) -> None:
    partition, write = store.partitions[0], acceptance(body=LARGE, stored=True)
    seq = (await accept(store, write)).seq
    await settle(store, partition, await claim_one(store, partition), write, seq, "dead", blocks=True)
    assert await raw(client, "PTTL", partition.body(write.record.id)) == -1
    refused = await accept(store, acceptance("/items/2"), Queue(max_writes=1))
    assert (refused.verdict, refused.detail) == (Verdict.FULL, "writes")


async def test_the_watermark_goes_back_with_a_write_that_is_queued_again(store: RegionStore) -> None:
    partition = store.partitions[0]
    first, second = acceptance("/items/1"), acceptance("/items/2")
    seqs = [(await accept(store, write)).seq for write in (first, second)]
    claims = {each.digest: each for each in await queue.claim(store, partition, "fence", 10, 60)}
    for write, seq, outcome in ((first, seqs[0], "dead"), (second, seqs[1], "synced")):
        await settle(store, partition, claims[write.target.digest], write, seq, outcome)
    before = (await queue.depth(store, partition)).processed
    assert before > seqs[1]
    answer = await ended.revive(store, partition, first.record.id, first.target.digest, first.record.affected)
    assert answer == "revived"
    assert (await queue.depth(store, partition)).processed == seqs[0] - 1
    claimed = await claim_one(store, partition, "again")
    assert await settle(store, partition, claimed, first, seqs[0]) == ("settled", 0)
    assert (await queue.depth(store, partition)).processed > before


# --- what a reader is given ---


async def _numbers(store: RegionStore, *principals: str, path: str = "") -> list[int]:
    looked = await look(store, ITEM, *principals, path=path)
    assert all(item.record is not None for item in looked.pending)
    return [item.number for item in looked.pending]


async def test_a_reader_gets_nothing_before_its_own_last_replacement(store: RegionStore) -> None:
    kinds = ["merge-patch", "replace", "unknown", "merge-patch"]
    seqs = [(await accept(store, acceptance(effect=kind))).seq for kind in kinds]
    other = (await accept(store, acceptance(principal="p2"))).seq
    assert await _numbers(store, "p1") == seqs[1:]
    assert await _numbers(store, "p2") == [other]
    assert await _numbers(store, "p1", "p2") == [other]
    assert await _numbers(store) == []
    # A replacement of one URL says nothing of the resource's others.
    assert await _numbers(store, "p1", path=f"{ITEM.path}?page=2") == seqs
    # Nor does one of a part or in a coding.
    part = acceptance(headers=((b"content-range", b"bytes 0-1/9"),))
    assert await _numbers(store, "p1") == seqs[1:]
    seqs.append((await accept(store, part)).seq)
    assert await _numbers(store, "p1") == seqs[1:]
    shared = (await accept(store, acceptance(principal="p3", shared=True))).seq
    assert await _numbers(store, "p1") == await _numbers(store) == [shared]


async def test_a_reader_gets_at_most_so_many_writes_and_is_told_of_the_rest(store: RegionStore) -> None:
    caps = Queue(max_writes_per_resource=2_000)
    count = entries.MAX_FOLDED + 100
    foreign = [acceptance(effect="merge-patch", principal="p2") for _ in range(count)]
    own = [acceptance(effect="merge-patch") for _ in range(count)]
    seqs = [(await accept(store, write, caps)).seq for write in (*foreign, *own)]
    looked = await look(store, ITEM, "p1")
    assert [item.number for item in looked.pending] == seqs[-entries.MAX_FOLDED - 1 :]
    assert [item.record is None for item in looked.pending] == [True] + [False] * entries.MAX_FOLDED
    await accept(store, acceptance(), caps)
    assert len((await look(store, ITEM, "p1")).pending) == 1


# --- readers of the origin that lag behind its writers ---

HOLDOFF = 3600.0


@pytest.fixture
def lagging(store: RegionStore) -> RegionStore:
    """The region of an origin whose readers lag."""
    store.holdoff = HOLDOFF
    return store


async def _storable(store: RegionStore) -> bool:
    """Whether what is fetched now may be stored."""
    return bool((await entries.begin(store, store.partitions[0], ITEM)).token)


async def _backdate(store: RegionStore, client: Redis) -> None:
    """Let the token's change lie before the hold-off."""
    key = store.partitions[0].state(ITEM.digest)
    state = (await raw(client, "GET", key)).decode()
    token, mark, rest = state.partition("@")
    changed, bar, numbers = rest.partition("|")
    await raw(client, "SET", key, f"{token}{mark}{int(changed) - int(HOLDOFF * 1000) - 1}{bar}{numbers}", "KEEPTTL")


@pytest.mark.parametrize("outcome", ["rejected", "dead", "invalidated"])
async def test_nothing_is_stored_for_a_while_after_a_change_without_a_landing(
    lagging: RegionStore, client: Redis, outcome: str
) -> None:
    partition, write = lagging.partitions[0], acceptance()
    assert await _storable(lagging)
    if outcome == "invalidated":
        await entries.invalidate(lagging, partition, (ITEM.digest,))
    else:
        seq = (await accept(lagging, write)).seq
        await settle(lagging, partition, await claim_one(lagging, partition), write, seq, outcome)
    assert not await _storable(lagging)
    await _backdate(lagging, client)
    assert await _storable(lagging)


async def test_a_replaced_write_changes_nothing_for_readers(lagging: RegionStore) -> None:
    partition, write = lagging.partitions[0], acceptance()
    before = await entries.begin(lagging, partition, ITEM)
    seq = (await accept(lagging, write)).seq
    await accept(lagging, acceptance())
    claimed = await claim_one(lagging, partition)
    answer = await settle(lagging, partition, claimed, write, seq, "superseded", anywhere=True, attempted=False)
    assert answer == ("settled", 1)
    assert await entries.begin(lagging, partition, ITEM) == before
    known = await queue.status(lagging, partition, write.record.id)
    assert known is not None
    assert (known["state"], known["tries"]) == ("superseded", "0")


async def test_landed_writes_that_gave_way_within_the_hold_off_are_in_no_fetch_of_it(
    lagging: RegionStore, client: Redis
) -> None:
    few = msgspec.structs.replace(tools.LIMITS, landed_count=1)
    partition = lagging.partitions[0]
    for _ in range(2):
        write = acceptance()
        seq = (await accept(lagging, write)).seq
        await settle(lagging, partition, await claim_one(lagging, partition), write, seq, limits=few)
    assert not await _storable(lagging)
    await _backdate(lagging, client)
    assert await _storable(lagging)


async def test_landed_writes_that_were_evicted_are_in_no_fetch_of_the_hold_off(
    lagging: RegionStore, client: Redis
) -> None:
    await _land(lagging, acceptance())
    assert await _storable(lagging)
    await raw(client, "DEL", lagging.partitions[0].landed(ITEM.digest))
    assert not await _storable(lagging)
    assert not await _storable(lagging)
    await _backdate(lagging, client)
    assert await _storable(lagging)


async def test_what_landed_by_a_lost_state_is_in_no_fetch(lagging: RegionStore, client: Redis) -> None:
    """The next fetch has nothing of it: what was stored for it is of no use any more, either."""
    partition = lagging.partitions[0]
    await _land(lagging, acceptance())
    (element,) = await raw(client, "ZRANGE", partition.landed(ITEM.digest), 0, -1)
    number = await raw(client, "ZSCORE", partition.landed(ITEM.digest), element)
    await raw(client, "ZREM", partition.landed(ITEM.digest), element)
    await raw(client, "ZADD", partition.landed(ITEM.digest), number, b"%013d" % 1 + element[13:])
    await raw(client, "DEL", partition.state(ITEM.digest))
    await accept(lagging, acceptance())
    assert (await entries.begin(lagging, partition, ITEM)).asof == 0


# --- intents ---


async def test_an_intent_is_overdue_until_its_invalidation(store: RegionStore) -> None:
    partition, before = store.partitions[0], await entries.begin(store, store.partitions[0], ITEM)
    late, fresh = await intents.intend(store, [ITEM], 0.0), await intents.intend(store, [ITEM], 60.0)
    assert late.octets != fresh.octets
    assert await intents.overdue(store, partition, 10) == [late]
    for _ in range(2):  # the second as after a lost reply
        await intents.fulfil(late)
    assert await intents.overdue(store, partition, 10) == []
    assert (await entries.begin(store, partition, ITEM)).token != before.token
    _, items = await outbox.read_items(store, partition, "0-0")
    assert {item.digests for item in items} == {(ITEM.digest,)}
    await intents.renew(fresh, 0.0)
    assert await intents.overdue(store, partition, 10) == [fresh]
    await intents.forget(fresh)
    assert await intents.overdue(store, partition, 10) == []


async def test_intents_are_told_oldest_first_and_so_many_at_once(store: RegionStore, client: Redis) -> None:
    noted = [await intents.intend(store, [resource(f"/items/{n}")], n - 10.0) for n in range(3)]
    assert await intents.overdue(store, store.partitions[0], 2) == noted[:2]
    await raw(client, "ZADD", store.partitions[0].intents, 1, b"no intent")
    (odd,) = await intents.overdue(store, store.partitions[0], 1)
    await intents.fulfil(odd)
    assert await intents.overdue(store, store.partitions[0], 1) == noted[:1]


# --- many at once ---


async def _claimed(store: RegionStore, writes: list[Acceptance]) -> list[queue.Claimed]:
    """Accept writes of different resources and claim them, in their order."""
    for write in writes:
        await accept(store, write)
    found = {each.digest: each for each in await queue.claim(store, store.partitions[0], "fence", 100, 60)}
    return [found[write.target.digest] for write in writes]


async def _seqs(store: RegionStore, writes: list[Acceptance]) -> list[int]:
    partition = store.partitions[0]
    return [int((await queue.status(store, partition, write.record.id) or {})["seq"]) for write in writes]


async def _calls_of(client: Redis, command: str) -> int:
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_writes_that_end_together_end_in_one_call_each_by_itself(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    writes = [acceptance(f"/items/{n}", affects=("/items",), principal=f"p{n % 2}", key=f"k{n}") for n in range(6)]
    claims = await _claimed(store, writes)
    seqs = await _seqs(store, writes)
    behind = acceptance("/items/5")
    await accept(store, behind)
    seen: list[Changed] = []
    store.events.on_change(seen.append)
    await eventually(lambda: store.events.is_connected)
    stranger = msgspec.structs.replace(claims[2], fence="another")
    before = await _calls_of(client, "evalsha")
    answers = await asyncio.gather(
        settle(store, partition, claims[0], writes[0], seqs[0]),
        settle(store, partition, claims[1], writes[1], seqs[1], "rejected"),
        settle(store, partition, stranger, writes[2], seqs[2]),
        settle(store, partition, claims[3], writes[3], seqs[3] + 1000),
        settle(store, partition, claims[4], writes[4], seqs[4], "dead", blocks=True),
        settle(store, partition, claims[5], writes[5], seqs[5], announce=b"told"),
        settle(store, partition, claims[0], writes[0], seqs[0]),
    )
    assert await _calls_of(client, "evalsha") - before == 1
    assert answers == [
        ("settled", 0), ("settled", 0), ("lost", 0), ("not-head", 1), ("settled", 0), ("settled", 1), ("already", 0),
    ]  # fmt: skip
    states = [(await queue.status(store, partition, write.record.id) or {})["state"] for write in writes]
    assert states == ["synced", "rejected", "pending", "pending", "dead", "synced"]
    depth = await queue.depth(store, partition)
    assert (depth.writes, depth.bytes, depth.blocked, depth.due) == (3, 30, 1, 3)
    assert (depth.newest, depth.processed) == (9, seqs[2] - 1)
    assert await client.hgetall(partition.principals) == {b"p0": b"1", b"p1": b"2"}
    counts = [await tools.pending_counts(client, partition, write.target) for write in writes]
    assert counts == [(0, 0), (0, 0), (1, 10), (1, 10), (0, 0), (1, 10)]
    assert await client.xlen(partition.out) == 1
    await eventually(lambda: bool(seen))
    (change,) = seen
    named = (change.write_id, *change.digests)
    for n in (0, 1, 4, 5):
        at = named.index(writes[n].record.id)
        assert named[at + 1 : at + 3] == (writes[n].target.digest, resource("/items").digest)
    assert not {writes[2].record.id, writes[3].record.id} & set(named)


async def _octets(client: Redis, *keys: str) -> dict[str, bytes | None]:
    return {key: await client.dump(key) for key in keys}


async def test_a_write_whose_keys_are_of_another_type_leaves_nothing_behind(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    write = acceptance("/items/1", affects=("/items",))
    state, affected, *_ = partition.resource(write.target.digest)[0], partition.state(resource("/items").digest)
    counts = (partition.queue, partition.due, partition.bytes)
    for wrong in (state, affected, partition.seq, partition.principals):
        await client.flushdb()
        await raw(client, "LPUSH", wrong, "no such thing")
        names = (*counts, partition.seq, partition.principals, state, affected)
        before = await _octets(client, *names, partition.pending(write.target.digest))
        for _ in range(3):
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await accept(store, acceptance("/items/1", affects=("/items",)))
        assert await _octets(client, *before) == before, wrong
        assert await client.keys("*:w:*") == []


async def test_what_ends_together_leaves_a_path_as_if_it_had_ended_one_after_another(
    store: RegionStore, client: Redis
) -> None:
    partition, few = store.partitions[0], msgspec.structs.replace(tools.LIMITS, landed_count=2)
    outcomes = ("synced", "synced", "superseded", "synced", "synced")
    left: list[object] = []
    for at_once in (False, True):
        await client.flushdb()
        writes = [acceptance(f"/items/{n}", affects=("/items",)) for n in range(len(outcomes))]
        claims, seqs = await _claimed(store, writes), await _seqs(store, writes)
        settled = [
            settle(store, partition, claim, write, seq, outcome, limits=few)
            for claim, write, seq, outcome in zip(claims, writes, seqs, outcomes, strict=True)
        ]
        before = await _calls_of(client, "evalsha")
        answers = list(await asyncio.gather(*settled)) if at_once else [await each for each in settled]
        assert (await _calls_of(client, "evalsha") - before == 1) is at_once
        assert answers == [("settled", 0)] * len(outcomes)
        looked = await look(store, resource("/items"))
        assert looked.state is not None
        assert (looked.state.trimmed, looked.state.landed, looked.state.pending) == (seqs[-1] + 2, seqs[-1] + 4, 0)
        left.append([item.number for item in looked.landed])
    assert left[0] == left[1] == [seqs[-1] + 3, seqs[-1] + 4]


async def test_a_path_whose_state_cannot_be_written_is_told_of_to_all_that_affect_it(
    store: RegionStore, client: Redis
) -> None:
    partition = store.partitions[0]
    writes = [acceptance(f"/items/{n}", affects=("/items",) if n else ()) for n in range(3)]
    claims, seqs = await _claimed(store, writes), await _seqs(store, writes)
    await raw(client, "SET", partition.pending(resource("/items").digest), "no queue")
    answers: list[object] = await asyncio.gather(
        *(settle(store, partition, *each) for each in zip(claims, writes, seqs, strict=True)), return_exceptions=True
    )
    assert answers[0] == ("settled", 0)
    assert ["WRONGTYPE" in str(answer) for answer in answers] == [False, True, True]
    assert [await tools.pending_counts(client, partition, write.target) for write in writes] == [(0, 0)] * 3


async def test_a_write_may_affect_many_beside_others(store: RegionStore, client: Redis) -> None:
    """How many stands behind other arguments of the script, and keys of all kinds stand between those of two writes."""
    others = tuple(f"/lists/{number}" for number in range(12))
    writes = [
        acceptance("/items/0", affects=others, stored=True, key="k", fingerprint="f"),
        acceptance("/items/1", affects=others[:9], key="l", fingerprint="f"),
        acceptance("/items/2", stored=True),
        acceptance("/items/3", affects=others[:1]),
    ]
    accepted = await asyncio.gather(*(accept(store, write) for write in writes))
    assert [(each.verdict, each.detail) for each in accepted] == [(Verdict.ACCEPTED, w.record.id) for w in writes]
    for path, count in [(others[0], 3), *((path, 2) for path in others[1:9]), *((path, 1) for path in others[9:])]:
        assert await tools.pending_counts(client, store.partitions[0], resource(path)) == (count, 0)
        assert len((await look(store, resource(path), writes[0].record.principal)).pending) == count
    again = await asyncio.gather(*(accept(store, write) for write in writes))
    assert [each.detail for each in again] == [write.record.id for write in writes]


async def test_what_is_wrong_with_one_resource_keeps_no_other_from_ending(store: RegionStore, client: Redis) -> None:
    partition = store.partitions[0]
    await _land(store, acceptance("/items/2"))
    writes = [acceptance(f"/items/{n}") for n in range(4)]
    claims = await _claimed(store, writes)
    seqs = await _seqs(store, writes)
    await raw(client, "SET", partition.pending(writes[0].target.digest), "no queue")
    await raw(client, "SET", partition.landed(writes[2].target.digest), "no list")
    answers: list[object] = await asyncio.gather(
        *(settle(store, partition, *each) for each in zip(claims, writes, seqs, strict=True)), return_exceptions=True
    )
    assert (answers[1], answers[3]) == (("settled", 0), ("settled", 0))
    for answer in (answers[0], answers[2]):
        assert isinstance(answer, ResponseError)
        assert "WRONGTYPE" in str(answer)


async def test_what_is_wrong_with_one_resource_keeps_no_other_from_being_accepted(
    store: RegionStore, client: Redis
) -> None:
    writes = [acceptance(f"/items/{number}") for number in range(3)]
    await client.set(store.partitions[0].pending(writes[1].target.digest), "no list")
    first, wrong, last = await asyncio.gather(*(accept(store, write) for write in writes), return_exceptions=True)
    assert isinstance(wrong, ResponseError)
    for answer, write in ((first, writes[0]), (last, writes[2])):
        assert isinstance(answer, Accepted)
        assert (answer.verdict, answer.detail) == (Verdict.ACCEPTED, write.record.id)


async def test_a_server_that_takes_no_writes_ends_none_and_each_can_end_later(
    store: RegionStore, client: Redis
) -> None:
    partition = store.partitions[0]
    writes = [acceptance(f"/items/{n}") for n in range(3)]
    claims = await _claimed(store, writes)
    seqs = await _seqs(store, writes)
    settling = list(zip(claims, writes, seqs, strict=True))
    await raw(client, "CONFIG", "SET", "min-replicas-to-write", 1)
    answers = await asyncio.gather(*(settle(store, partition, *each) for each in settling), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RegionUnavailableError] * 3
    await raw(client, "CONFIG", "SET", "min-replicas-to-write", 0)
    assert (await queue.depth(store, partition)).writes == 3
    assert await asyncio.gather(*(settle(store, partition, *each) for each in settling)) == [("settled", 0)] * 3


async def test_the_queues_of_many_resources_are_read_at_once_but_what_cannot_be(
    store: RegionStore, client: Redis
) -> None:
    partition = store.partitions[0]
    writes = [acceptance(f"/items/{n}", body=b"x" * n) for n in range(6)]
    await _claimed(store, writes)
    await accept(store, acceptance("/items/0", body=b"second"))
    newer, broken = writes[2].target.digest, writes[3].target.digest
    await raw(client, "DEL", partition.pending(newer))
    await raw(client, "ZADD", partition.pending(newer), 3, TAGS + msgspec.msgpack.encode([99, {"a": "future"}]))
    await raw(client, "SET", partition.pending(broken), "no queue")
    digests = [write.target.digest for write in writes]
    before = await _calls_of(client, "evalsha")
    found = await queue.read_queues(store, partition, digests)
    assert await _calls_of(client, "evalsha") - before == 1
    read = {digest: [item.record.body if item.record else None for item in items] for digest, items in found.items()}
    assert read == {
        digests[0]: [b"", b"second"], digests[1]: [b"x"], digests[3]: [], digests[4]: [b"xxxx"], digests[5]: [b"xxxxx"],
    }  # fmt: skip
    assert found[digests[0]] == await queue.read_queue(store, partition, digests[0])


async def test_no_more_is_read_at_once_than_is_good(store: RegionStore) -> None:
    partition = store.partitions[0]
    writes = [acceptance(f"/items/{n}", body=b"x" * (queue.READ_BYTES // 2)) for n in range(4)]
    claims = await _claimed(store, writes)
    found = await queue.read_queues(store, partition, [claim.digest for claim in claims])
    assert list(found) == [claim.digest for claim in claims[:2]]


async def test_a_claim_of_very_many_takes_as_many_as_a_script_can(store: RegionStore) -> None:
    partition = store.partitions[0]
    await asyncio.gather(*(accept(store, acceptance(f"/items/{n}")) for n in range(1200)))
    first = await queue.claim(store, partition, "first", 100_000, 60)
    second = await queue.claim(store, partition, "second", 100_000, 60)
    assert len(first) == 1000
    assert len({each.digest for each in (*first, *second)}) == 1200
