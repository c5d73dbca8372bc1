"""The queue of a region: accept, claim, settle, status. Thin calls of the scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from ..errors import CorruptRecordError, RegionUnavailableError, UnreadableRecordError
from ..keys import Resource
from ..records import WriteRecord, decode_write_record, encode
from ..settings import Queue
from .entries import OUTBOX_LENGTH, STATE_SECONDS
from .events import announcement
from .executor import as_mapping
from .keyspace import Partition, events_channel
from .region import RegionStore
from .scripts import script

BODY_SECONDS: Final = 60
"""How long a body stays whose accept never came."""
DEAD_SECONDS: Final = 30 * 86_400
"""How long the record of a dead write is kept."""
READ_AHEAD: Final = 32
"""Writes of one resource read at once."""


class Verdict(Enum):
    """What became of an accept call."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # the same idempotency key and payload: the write of before
    MISMATCH = "mismatch"  # the same idempotency key, another payload
    FULL = "full"  # a cap is reached
    NO_BODY = "no-body"  # the body that was stored beside is gone


class Accepted(msgspec.Struct, frozen=True):
    """The answer to an accept call: `detail` is the write's id, or with `FULL` the cap that is reached."""

    verdict: Verdict
    detail: str
    seq: int


class Acceptance(msgspec.Struct, frozen=True):
    """A write to accept: its record, target, what it affects with the records that stand there, and its keys.

    `idempotency` is empty when the client gave no key: then nothing is kept by which a repeated request is known.
    """

    record: WriteRecord
    target: Resource
    affected: tuple[tuple[Resource, WriteRecord], ...]
    idempotency: str
    fingerprint: str
    size: int
    body: bytes = b""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The target and what is affected, in the order of the script's keys."""
        return (self.target, *(resource for resource, _ in self.affected))


class Claimed(msgspec.Struct, frozen=True):
    """A claimed resource: its digest, the fence that holds it, and how often a holder stalled."""

    digest: str
    fence: str
    stalls: int


class Queued(msgspec.Struct, frozen=True):
    """A write as it stands in a claimed resource's queue; `record` is None when no version wrote it."""

    seq: int
    raw: bytes
    record: WriteRecord | None


class Settlement(msgspec.Struct, frozen=True):
    """How a write ends: `outcome` is synced, rejected, dead or superseded; `fields` go to its status."""

    outcome: str
    fields: Mapping[str, str] = {}
    announce: bytes = b""
    keep_record: bool = False


class SettleLimits(msgspec.Struct, frozen=True):
    """How long a status and landed writes are kept, how many of them, and the lease; seconds."""

    status_seconds: float
    landed_seconds: float
    landed_count: int
    lease: float


async def accept(
    store: RegionStore, partition: Partition, acceptance: Acceptance, caps: Queue, *, idempotency_seconds: float
) -> Accepted:
    """Accept a write: all or nothing, harmless to repeat. Raises `RegionUnavailableError`."""
    record = acceptance.record
    keys = [
        partition.idempotency(acceptance.idempotency), partition.seq, partition.queue, partition.due, partition.bytes,
        partition.status(record.id), partition.body(record.id), partition.principals,
        *partition.resources(acceptance.resources),
    ]  # fmt: skip
    known_ms = int(idempotency_seconds * 1000) if acceptance.idempotency else 0
    arguments: list[Any] = [
        record.id, acceptance.fingerprint, acceptance.target.digest, record.principal,
        acceptance.size, int(record.body_stored), store.new_token(),
        caps.max_writes, caps.max_bytes, caps.max_writes_per_resource, caps.max_writes_per_principal,
        known_ms, STATE_SECONDS * 1000, "cache_sync", f"{store.name}:{partition.number}",
        encode(record), *(_affecting(copy) for _, copy in acceptance.affected),
        "method", record.method, "url", record.url, "principal", record.principal, "site", record.site,
        "digest", acceptance.target.digest, "size", acceptance.size, "group", acceptance.target.group,
        "affected", " ".join(resource.digest for resource, _ in acceptance.affected),
    ]  # fmt: skip
    for _ in range(2):
        if record.body_stored:  # the same pipeline: it is there when the script runs
            # One that is there stays as it is: pending, and so without a lifetime, when the accept is a repeated one.
            stored = store.queue.submit("SET", partition.body(record.id), acceptance.body, "EX", BODY_SECONDS, "NX")
            stored.add_done_callback(_swallow)
        verdict, detail, seq = await store.queue.run(script("accept"), keys, arguments)
        answer = Accepted(Verdict(verdict.decode()), detail.decode(), seq)
        if answer.verdict is not Verdict.NO_BODY:
            return answer
    raise RegionUnavailableError(store.name, "the body of a write could not be stored beside it")


async def claim(store: RegionStore, partition: Partition, fence: str, limit: int, lease: float) -> list[Claimed]:
    """Claim due resources for a random fence. `lease` is seconds. Raises `RegionUnavailableError`."""
    flat = await store.queue.run(script("claim"), (partition.due, partition.lease), (fence, limit, int(lease * 1000)))
    return [Claimed(digest.decode(), fence, stalls) for digest, stalls in zip(flat[::2], flat[1::2], strict=True)]


async def read_queue(store: RegionStore, partition: Partition, digest: str) -> list[Queued]:
    """Read the oldest writes of a claimed resource.

    Raises `UnreadableRecordError` when the head needs a newer version, `RegionUnavailableError`.
    """
    flat = await store.queue.command("ZRANGE", partition.pending(digest), 0, READ_AHEAD - 1, "WITHSCORES")
    queued: list[Queued] = []
    for raw, seq in zip(flat[::2], flat[1::2], strict=True):
        try:
            queued.append(Queued(int(float(seq)), raw, decode_write_record(raw)))
        except CorruptRecordError:
            queued.append(Queued(int(float(seq)), raw, None))
        except UnreadableRecordError:
            if not queued:
                raise
            break
    return queued


async def begin_attempt(store: RegionStore, partition: Partition, claimed: Claimed, write_id: str) -> int | None:
    """Note that a write which may not be repeated is about to be sent.

    Returns how many earlier attempts have an unknown outcome, 0 or 1; None when the resource is no longer the fence's.
    Raises `RegionUnavailableError`.
    """
    keys = (partition.lease, partition.status(write_id))
    earlier: int = await store.queue.run(script("attempt"), keys, (claimed.fence, claimed.digest))
    return None if earlier < 0 else earlier


async def read_body(store: RegionStore, partition: Partition, write_id: str) -> bytes | None:
    """Read the body of a large write for its replay. Raises `RegionUnavailableError`."""
    body: bytes | None = await store.queue.command("GET", partition.body(write_id))
    return body


async def extend(store: RegionStore, partition: Partition, fence: str, digests: Sequence[str], lease: float) -> int:
    """Keep claimed resources for another `lease` seconds; returns how many still are the fence's."""
    kept: int = await store.queue.run(
        script("extend"), (partition.lease, partition.due), (fence, int(lease * 1000), *digests)
    )
    return kept


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
    affected: tuple[str, ...],
    limits: SettleLimits,
) -> tuple[str, int]:
    """End the head write of a claimed resource.

    Returns what the script says, `settled`, `already`, `lost` or `not-head`, and how many writes are left.
    `affected` are the digests of the other resources the write touches. Raises `RegionUnavailableError`.
    """
    digests = (claimed.digest, *affected)
    keys = [
        partition.lease, partition.due, partition.queue, partition.processed, partition.bytes, partition.seq,
        partition.status(write_id), partition.body(write_id), partition.out, partition.principals,
        *(key for digest in digests for key in partition.resource(digest)),
    ]  # fmt: skip
    status_seconds = DEAD_SECONDS if settlement.keep_record else limits.status_seconds
    arguments: list[Any] = [
        claimed.fence, claimed.digest, seq, write_id, settlement.outcome, store.new_token(),
        int(status_seconds * 1000), STATE_SECONDS * 1000, int(limits.landed_seconds * 1000), limits.landed_count,
        int(limits.lease * 1000), events_channel(store.name),
        announcement(partition.number, write_id, digests), settlement.announce, OUTBOX_LENGTH,
        int(settlement.keep_record), "ended", settlement.outcome,
        *(part for pair in settlement.fields.items() for part in pair),
    ]  # fmt: skip
    answer, left = await store.queue.run(script("settle"), keys, arguments)
    return answer.decode(), left


async def status(store: RegionStore, partition: Partition, write_id: str) -> dict[str, str] | None:
    """Read the status of a write; None when none is known. Raises `RegionUnavailableError`."""
    flat = await store.queue.command("HGETALL", partition.status(write_id))
    fields = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in as_mapping(flat).items()
        if name not in (b"record", b"fence")
    }
    return fields or None


async def write_id_at(store: RegionStore, partition: Partition, seq: int) -> str | None:
    """Find the id of an unsettled write by its number; None when it has settled. Raises `RegionUnavailableError`."""
    members = await store.queue.command("ZRANGEBYSCORE", partition.queue, seq, seq)
    prefix = f"{seq:016d}|"
    names = (member.decode() for member in members)
    return next((name.removeprefix(prefix) for name in names if name.startswith(prefix)), None)


class Depth(msgspec.Struct, frozen=True):
    """How much a partition has pending: writes, bytes, resources due, newest and lowest unsettled number."""

    writes: int
    bytes: int
    due: int
    newest: int
    processed: int


async def depth(store: RegionStore, partition: Partition) -> Depth:
    """Count what is pending in a partition. Raises `RegionUnavailableError`."""
    writes, size, due, newest, processed = await asyncio.gather(
        store.queue.command("ZCARD", partition.queue),
        store.queue.command("GET", partition.bytes),
        store.queue.command("ZCARD", partition.due),
        store.queue.command("GET", partition.seq),
        store.queue.command("GET", partition.processed),
    )
    return Depth(writes, int(size or 0), due, int(newest or 0), int(processed or 0))


def _affecting(copy: WriteRecord) -> bytes:
    """A write as it stands with a resource that it affects: before the record who sees it, for the script `look`."""
    return f"{int(copy.shared)} {copy.principal}\n".encode() + encode(copy)


def _swallow(answer: Any) -> None:
    """Take note of a failure that the script's own answer reports as well."""
    if not answer.cancelled():
        answer.exception()
