"""The queue of a region: accept, claim, settle, status. Thin calls of the scripts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from ..durability import MEMORY, Durability
from ..effects import ABSOLUTE
from ..errors import CorruptRecordError, RegionUnavailableError, UnreadableRecordError
from ..keys import Resource, url_digest
from ..overlay import is_partial
from ..records import WriteRecord
from ..settings import Queue, Settings
from .collector import Collector
from .entries import OUTBOX_LENGTH, STATE_SECONDS, parse_state
from .events import names
from .executor import as_mapping
from .keyspace import TAKEN, WAKE_CHANNEL, Partition, events_channel
from .region import RegionStore
from .scripts import script
from .sealed import open_body, open_record, seal_body, seal_record

BODY_SECONDS: Final = 60
"""How long a body stays whose accept never came."""
ENDED_SECONDS: Final = 30 * 86_400
"""How long a dead write is kept."""
ENDED_LENGTH: Final = 10_000
"""Dead writes, and rejected ones, that a partition lists."""
READ_AHEAD: Final = 32
"""Writes of one resource read at once."""
READ_BYTES: Final = 1024 * 1024
"""Bytes of the writes of several resources read at once, without the last one's."""
ACCEPTED_AT_ONCE: Final = 8
"""Writes that are accepted in one call, for whose time Redis serves nobody else: a quarter of a millisecond."""
SETTLED_AT_ONCE: Final = 32
"""Writes that end in one call, for whose time Redis serves nobody else: half a millisecond."""
_INTERNAL: Final = frozenset({b"record", b"fence", b"repeats"})


class Verdict(Enum):
    """What became of an accept call."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # the same idempotency key and payload: the write of before
    MISMATCH = "mismatch"  # the same idempotency key, another payload
    FULL = "full"  # a cap is reached
    NO_BODY = "no-body"  # the body that was stored beside is gone
    UNCONFIRMED = "unconfirmed"  # it is queued, but not as safe as was asked


class Accepted(msgspec.Struct, frozen=True):
    """The answer to an accept call: `detail` is the write's id, or with `FULL` the cap that is reached.

    `seq` is the write's number; with `FULL` how many writes of the resource are pending or hold others back.
    """

    verdict: Verdict
    detail: str
    seq: int


class Acceptance(msgspec.Struct, frozen=True):
    """A write to accept: its record, target, what it affects with the records that stand there.

    Without `idempotency` in the record nothing is kept by which a repeated request is known. `tags` are the lines that
    stand before the record and the others in the lists of pending writes, where they have been written already.
    """

    record: WriteRecord
    target: Resource
    affected: tuple[tuple[Resource, WriteRecord], ...]
    fingerprint: str
    size: int
    body: bytes = b""
    durability: Durability = MEMORY
    tags: tuple[bytes, ...] = ()

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The target and what is affected, in the order of the script's keys."""
        return (self.target, *(resource for resource, _ in self.affected))

    @property
    def records(self) -> tuple[WriteRecord, ...]:
        """The write and its copies, in the same order."""
        return (self.record, *[copy for _, copy in self.affected])


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A claimed resource: its digest, the fence that holds it, and how often a holder stalled."""

    digest: str
    fence: str
    stalls: int = 0


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A write as it stands in a claimed resource's queue; `record` is None when no version wrote it."""

    seq: int
    raw: bytes
    record: WriteRecord | None


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """How a write ends: `outcome` is synced, rejected, dead or superseded; `fields` go to its status.

    `blocks`: the writes behind it wait until an operator has decided. `attempted`: an attempt ended it.
    `anywhere`: it need not be the head of its queue. `idempotency` as in the write's record.
    """

    outcome: str
    fields: Mapping[str, str] = {}
    announce: bytes = b""
    blocks: bool = False
    attempted: bool = True
    anywhere: bool = False
    idempotency: str = ""

    @property
    def keep_record(self) -> bool:
        """Whether an operator may want to see and retry it."""
        return self.outcome in ("dead", "rejected")


class SettleLimits(msgspec.Struct, frozen=True):
    """How long a status, landed writes and a client's key are kept, how many landed ones, and the lease; seconds."""

    status_seconds: float
    landed_seconds: float
    landed_count: int
    lease: float
    known_seconds: float = 86_400.0

    @classmethod
    def of(cls, settings: Settings) -> SettleLimits:
        """Take them from the settings."""
        cache = settings.cache
        return cls(
            settings.queue.status_seconds,
            cache.landed_seconds,
            cache.landed_count,
            settings.sync.lease,
            settings.queue.idempotency_seconds,
        )


class Ending(msgspec.Struct, frozen=True, gc=False):
    """The end of one write of a claimed resource; `digests` are those of its target and of what it affects."""

    claimed: Claimed
    write_id: str
    seq: int
    settlement: Settlement
    digests: tuple[str, ...]


async def accept(store: RegionStore, partition: Partition, acceptance: Acceptance, caps: Queue) -> Accepted:
    """Accept a write: all or nothing, harmless to repeat. Those of one moment are accepted in one call.

    Raises `RegionUnavailableError`.
    """
    kind = (partition.number, acceptance.durability, caps)
    if kind not in store.accepts:
        call = functools.partial(_accept_all, store, partition, acceptance.durability, caps)
        store.accepts[kind] = Collector(store.name, call, ACCEPTED_AT_ONCE)
    for _ in range(2):
        accepted: Accepted = await store.accepts[kind].ask(acceptance)
        if accepted.verdict is not Verdict.NO_BODY:
            return accepted
    raise RegionUnavailableError(store.name, "the body of a write could not be stored beside it")


async def _accept_all(
    store: RegionStore, partition: Partition, durability: Durability, caps: Queue, acceptances: Sequence[Acceptance]
) -> list[Accepted | Exception]:
    executor = store.queue if durability == MEMORY else store.durable
    keys = [
        partition.seq, partition.queue, partition.due, partition.bytes, partition.principals, partition.sizes,
        partition.blocked,
    ]  # fmt: skip
    work = f"{store.name}:{partition.number}{TAKEN if store.events.has_worker else ''}"
    arguments: list[Any] = [
        store.new_token(), STATE_SECONDS * 1000, WAKE_CHANNEL, work,
        caps.max_writes, caps.max_bytes, caps.max_writes_per_resource, caps.max_bytes_per_resource,
        caps.max_writes_per_principal,
    ]  # fmt: skip
    for acceptance in acceptances:
        record = acceptance.record
        keys += (partition.idempotency(record.idempotency), partition.status(record.id), partition.body(record.id))
        keys += partition.resources(acceptance.resources)
        described = _described(store, acceptance)
        arguments += (1 + len(acceptance.affected), len(described), *described)
        if record.body_stored:  # the same pipeline: it is there when the script runs
            # One that is there stays as it is: pending, and so without a lifetime, when the accept is a repeated one.
            body = seal_body(store.cipher, acceptance.body, record.id)
            stored = executor.submit("SET", partition.body(record.id), body, "EX", BODY_SECONDS, "NX")
            stored.add_done_callback(_swallow)
    answers, confirmed = await executor.run_confirmed(script("accept"), keys, arguments, store.confirmation(durability))
    store.events.work_here()
    return [answer if isinstance(answer, Exception) else _accepted(answer, confirmed) for answer in answers]


def _described(store: RegionStore, acceptance: Acceptance) -> list[Any]:
    """What the script gets of one write."""
    record, digest = acceptance.record, acceptance.target.digest
    return [
        record.id, acceptance.fingerprint, digest, record.principal, acceptance.size, int(record.body_stored),
        int(bool(record.idempotency)), int(record.shared),
        *_listed(store, acceptance),
        "method", record.method, "url", record.url, "principal", record.principal, "site", record.site,
        "digest", digest, "size", acceptance.size, "group", acceptance.target.group,
        "body", int(record.body_stored), "shared", int(record.shared), "idempotency", record.idempotency,
        "affected", " ".join([resource.digest for resource, _ in acceptance.affected]),
    ]  # fmt: skip


def _accepted(answer: Sequence[Any], confirmed: bool) -> Accepted:
    verdict, detail, seq = Verdict(answer[0].decode()), answer[1].decode(), answer[2]
    if verdict in (Verdict.ACCEPTED, Verdict.KNOWN) and not confirmed:
        verdict = Verdict.UNCONFIRMED
    return Accepted(verdict, detail, seq)


async def claim(store: RegionStore, partition: Partition, fence: str, limit: int, lease: float) -> list[Claimed]:
    """Claim due resources for a random fence. `lease` is seconds. Raises `RegionUnavailableError`."""
    flat = await store.queue.run(script("claim"), (partition.due, partition.lease), (fence, limit, int(lease * 1000)))
    return [Claimed(digest.decode(), fence, stalls) for digest, stalls in zip(flat[::2], flat[1::2], strict=True)]


async def read_queue(store: RegionStore, partition: Partition, digest: str) -> list[Queued]:
    """Read the oldest writes of a claimed resource.

    Raises `UnreadableRecordError` when the head needs a newer version, `RegionUnavailableError`.
    """
    return _opened(
        store, await store.queue.command("ZRANGE", partition.pending(digest), 0, READ_AHEAD - 1, "WITHSCORES")
    )


async def read_queues(store: RegionStore, partition: Partition, digests: Sequence[str]) -> dict[str, list[Queued]]:
    """Read the oldest writes of several claimed resources, by digest.

    What is not in it is to be read by itself: it is too much, or cannot be read here. Raises `RegionUnavailableError`.
    """
    keys = [partition.pending(digest) for digest in digests]
    read = await store.queue.run(script("heads"), keys, (READ_AHEAD, READ_BYTES))
    found: dict[str, list[Queued]] = {}
    for digest, flat in zip(digests, read, strict=False):
        with contextlib.suppress(UnreadableRecordError):
            found[digest] = _opened(store, flat)
    return found


def _opened(store: RegionStore, flat: Sequence[bytes]) -> list[Queued]:
    """The writes in a queue; raises `UnreadableRecordError` when the head needs a newer version."""
    queued: list[Queued] = []
    for raw, seq in zip(flat[::2], flat[1::2], strict=True):
        try:
            queued.append(Queued(int(float(seq)), raw, open_record(store.cipher, raw.partition(b"\n")[2])))
        except CorruptRecordError:
            queued.append(Queued(int(float(seq)), raw, None))
        except UnreadableRecordError:
            if not queued:
                raise
            break
    return queued


async def begin_attempt(
    store: RegionStore, partition: Partition, claimed: Claimed, write_id: str, durability: Durability
) -> int | None:
    """Note that a write which may not be repeated is about to be sent, as safely as the write itself is kept.

    Returns how many earlier attempts have an unknown outcome, 0 or 1; None when the resource is no longer the fence's.
    Raises `RegionUnavailableError`, also when the note is not safe enough.
    """
    keys = (partition.lease, partition.status(write_id))
    executor = store.queue if durability == MEMORY else store.durable
    earlier, confirmed = await executor.run_confirmed(
        script("attempt"), keys, (claimed.fence, claimed.digest), store.confirmation(durability)
    )
    if not confirmed:
        raise RegionUnavailableError(store.name, f"an attempt could not be noted with durability {durability}")
    return None if earlier < 0 else int(earlier)


async def doubt(store: RegionStore, partition: Partition, claimed: Claimed, write_ids: Sequence[str]) -> None:
    """Note of some writes of a claimed resource that an attempt to send them has an unknown outcome.

    Raises `RegionUnavailableError`.
    """
    keys = (partition.lease, *map(partition.status, write_ids))
    await store.queue.run(script("doubt"), keys, (claimed.fence, claimed.digest))


async def doubt_successors(
    store: RegionStore, partition: Partition, claimed: Claimed, queued: Sequence[Queued]
) -> None:
    """Note that a sender who vanished may have sent those behind the head in the same bulk request as the head.

    Raises `RegionUnavailableError`.
    """
    endpoint = queued[0].record.bulk if queued and queued[0].record else ""
    together = [item.record.id for item in queued[1:] if item.record and item.record.bulk == endpoint]
    if endpoint and together:
        await doubt(store, partition, claimed, together)


async def read_body(store: RegionStore, partition: Partition, write_id: str) -> bytes | None:
    """Read the body of a large write for its replay; None when it is lost.

    Raises `RegionUnavailableError`, and `UnreadableRecordError` for one that another edge can decrypt.
    """
    return open_body(store.cipher, await store.queue.command("GET", partition.body(write_id)), write_id)


async def extend(store: RegionStore, partition: Partition, claims: Sequence[Claimed], lease: float) -> set[str]:
    """Keep claimed resources for another `lease` seconds; returns the digests of those that still are their fence's."""
    pairs = [part for claimed in claims for part in (claimed.fence, claimed.digest)]
    kept = await store.queue.run(script("extend"), (partition.lease, partition.due), (*pairs, int(lease * 1000)))
    return {digest.decode() for digest in kept}


async def defer(
    store: RegionStore,
    partition: Partition,
    claimed: Claimed,
    *,
    delay: float,
    write_id: str = "",
    tries: int = 0,
    fields: Mapping[str, str] | None = None,
) -> bool:
    """Give a claimed resource back, due again after `delay` seconds; False when it was no longer the fence's.

    After an attempt `fields` go to the status of its write, `tries` is added there. Raises `RegionUnavailableError`.
    """
    keys = (partition.lease, partition.due, partition.pending(claimed.digest), partition.status(write_id))
    flat = [part for pair in (fields or {}).items() for part in pair]
    arguments: list[Any] = [claimed.fence, claimed.digest, int(delay * 1000), tries, *flat]
    answer: bytes = await store.queue.run(script("defer"), keys, arguments)
    return answer == b"deferred"


async def settle(
    store: RegionStore,
    partition: Partition,
    claimed: Claimed,
    write_id: str,
    seq: int,
    settlement: Settlement,
    affected: Sequence[str],
    limits: SettleLimits,
) -> tuple[str, int]:
    """End a write of a claimed resource; those that are to end at the same time end in one call.

    Returns what the script says, `settled`, `already`, `lost` or `not-head`, and how many writes may go on after it.
    `affected` are the digests of the other resources the write touches. Raises `RegionUnavailableError`.
    """
    kind = (partition.number, limits)
    if kind not in store.settles:
        call = functools.partial(_settle_all, store, partition, limits)
        store.settles[kind] = Collector(store.name, call, SETTLED_AT_ONCE)
    digests = (claimed.digest, *affected)
    ending = Ending(claimed, write_id, seq, settlement, digests)
    return await store.settles[kind].ask(ending)


async def _settle_all(
    store: RegionStore, partition: Partition, limits: SettleLimits, endings: Sequence[Ending]
) -> list[tuple[str, int] | Exception]:
    keys = [
        partition.lease, partition.due, partition.queue, partition.processed, partition.bytes, partition.seq,
        partition.out, partition.principals, partition.sizes, partition.blocked, partition.ended("dead"),
        partition.ended("rejected"),
    ]  # fmt: skip
    arguments: list[Any] = [
        store.new_token(), STATE_SECONDS * 1000, int(limits.landed_seconds * 1000), limits.landed_count,
        int(store.holdoff * 1000), int(limits.lease * 1000), events_channel(store.name),
        partition.number, OUTBOX_LENGTH, ENDED_LENGTH,
    ]  # fmt: skip
    for ending in endings:
        settlement = ending.settlement
        keys += (
            partition.status(ending.write_id), partition.body(ending.write_id),
            partition.idempotency(settlement.idempotency),
        )  # fmt: skip
        for digest in ending.digests:
            keys += partition.resource(digest)
        # A client can have as many writes rejected as it likes: they stay no longer than others.
        status_seconds = ENDED_SECONDS if settlement.outcome == "dead" else limits.status_seconds
        known_seconds = max(limits.known_seconds, status_seconds) if settlement.keep_record else limits.known_seconds
        known_ms = int(known_seconds * 1000) if settlement.idempotency else ""
        fields = ["blocks", str(int(settlement.blocks)), *(part for pair in settlement.fields.items() for part in pair)]
        arguments += (
            len(ending.digests), len(fields), ending.claimed.fence, ending.claimed.digest, ending.seq, ending.write_id,
            settlement.outcome, int(status_seconds * 1000), known_ms,
            names(ending.write_id, ending.digests), settlement.announce,
            int(settlement.keep_record), int(settlement.blocks), int(settlement.anywhere), int(settlement.attempted),
            *fields,
        )  # fmt: skip
    answers = await store.queue.run(script("settle"), keys, arguments)
    return [answer if isinstance(answer, Exception) else (answer[0].decode(), answer[1]) for answer in answers]


async def status(store: RegionStore, partition: Partition, write_id: str) -> dict[str, str] | None:
    """Read the status of a write; None when none is known. Raises `RegionUnavailableError`."""
    flat = await store.queue.command("HGETALL", partition.status(write_id))
    fields = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in as_mapping(flat).items()
        if name not in _INTERNAL and not name.startswith(b"copy")
    }
    return fields or None


def answer_headers(status: Mapping[str, str]) -> list[tuple[str, str]]:
    """The header fields of the origin's answer that the status of a write keeps."""
    return [(name, value) for name, value in json.loads(status.get("answer_headers", "[]"))]


async def is_known(store: RegionStore, partition: Partition, idempotency: str) -> bool:
    """Whether a write with this idempotency key was accepted; never without one. Raises `RegionUnavailableError`."""
    return bool(idempotency) and bool(await store.queue.command("EXISTS", partition.idempotency(idempotency)))


async def write_id_at(store: RegionStore, partition: Partition, seq: int) -> str | None:
    """Find the id of an unsettled write by its number; None when it has settled. Raises `RegionUnavailableError`."""
    members = await store.queue.command("ZRANGEBYSCORE", partition.queue, seq, seq)
    prefix = f"{seq:016d}|"
    names = (member.decode() for member in members)
    return next((name.removeprefix(prefix) for name in names if name.startswith(prefix)), None)


async def is_idle(store: RegionStore, resource: Resource) -> bool:
    """Whether nothing of a resource is pending, nor any write given up that holds back those after it.

    Raises `RegionUnavailableError`.
    """
    partition = store.partition(resource)
    raw, is_blocked = await asyncio.gather(
        store.reads.command("GET", partition.state(resource.digest)),
        store.reads.command("HEXISTS", partition.blocked, resource.digest),
    )
    state = parse_state(raw)
    return not is_blocked and (state is None or not state.pending)


class Depth(msgspec.Struct, frozen=True):
    """How much a partition has pending: writes, bytes, resources due and blocked, newest and lowest unsettled number.

    `oldest` is the seconds since the oldest write was accepted, 0 without one.
    """

    writes: int
    bytes: int
    due: int
    blocked: int
    newest: int
    processed: int
    oldest: float


async def depth(store: RegionStore, partition: Partition) -> Depth:
    """Count what is pending in a partition. Raises `RegionUnavailableError`."""
    writes, size, due, blocked, newest, processed, first = await asyncio.gather(
        store.queue.command("ZCARD", partition.queue),
        store.queue.command("GET", partition.bytes),
        store.queue.command("ZCARD", partition.due),
        store.queue.command("HLEN", partition.blocked),
        store.queue.command("GET", partition.seq),
        store.queue.command("GET", partition.processed),
        store.queue.command("ZRANGE", partition.queue, 0, 0),
    )
    age = 0.0
    if first:
        accepted = await store.queue.command("HGET", partition.status(first[0].decode().partition("|")[2]), "accepted")
        age = max(0.0, store.now() - int(accepted) / 1000) if accepted else 0.0
    return Depth(writes, int(size or 0), due, blocked, int(newest or 0), int(processed or 0), age)


def tags_of(record: WriteRecord) -> bytes:
    """The line that the script `look` chooses by, for a write or a copy of it."""
    kind = "A" if record.effect in ABSOLUTE and not is_partial(record) else "R"
    return f"{int(record.shared)} {record.principal} {kind} {url_digest(record.url)}\n".encode()


def _listed(store: RegionStore, acceptance: Acceptance) -> list[bytes]:
    """A write and its copies as they stand in lists of pending ones."""
    records = acceptance.records
    tags = acceptance.tags or map(tags_of, records)
    return [line + seal_record(store.cipher, record) for line, record in zip(tags, records, strict=True)]


def _swallow(answer: Any) -> None:
    """Take note of a failure that the script's own answer reports as well."""
    if not answer.cancelled():
        answer.exception()
