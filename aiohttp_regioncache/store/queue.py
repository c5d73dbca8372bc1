"""The queue of a region: claim, settle, status. Thin calls of the scripts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..durability import MEMORY, Durability
from ..errors import CorruptRecordError, RegionUnavailableError, UnreadableRecordError
from ..keys import Resource
from ..records import WriteRecord
from ..settings import Settings
from .accepting import TOLD, read_told
from .collector import Collector
from .entries import OUTBOX_LENGTH, STATE_SECONDS, parse_state
from .events import names
from .executor import as_mapping
from .keyspace import Partition, events_channel
from .pipe import Answered
from .region import RegionStore
from .scripts import script
from .sealed import open_body, open_record

ENDED_SECONDS: Final = 30 * 86_400
"""How long a dead write is kept."""
ENDED_LENGTH: Final = 10_000
"""Dead writes, and rejected ones, that a partition lists."""
READ_AHEAD: Final = 32
"""Writes of one resource read at once."""
READ_BYTES: Final = 1024 * 1024
"""Bytes of the writes of several resources read at once, without the last one's."""
SETTLED_AT_ONCE: Final = 32
"""Writes that end in one call, for whose time Redis serves nobody else: half a millisecond."""
_INTERNAL: Final = frozenset({b"record", b"fence", b"repeats", TOLD.encode()})


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
        store.settles[kind] = Collector(store.name, list[Ending], call, _read_settled, SETTLED_AT_ONCE)
    digests = (claimed.digest, *affected)
    ending = Ending(claimed, write_id, seq, settlement, digests)
    return await store.settles[kind].ask(ending)


def _settle_all(
    store: RegionStore, partition: Partition, limits: SettleLimits, endings: Sequence[Ending], answered: Answered
) -> None:
    keys = [
        partition.lease, partition.due, partition.queue, partition.processed, partition.bytes, partition.seq,
        partition.out, partition.principals, partition.blocked, partition.ended("dead"),
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
    store.queue.call(script("settle"), keys, arguments, answered)


def _read_settled(_endings: Sequence[Ending], answers: Sequence[Any]) -> list[tuple[str, int] | Exception]:
    return [answer if isinstance(answer, Exception) else (answer[0].decode(), answer[1]) for answer in answers]


async def status(store: RegionStore, partition: Partition, write_id: str) -> dict[str, str] | None:
    """Read the status of a write; None when none is known. Raises `RegionUnavailableError`."""
    found = as_mapping(await store.queue.command("HGETALL", partition.status(write_id)))
    fields = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in found.items()
        if name not in _INTERNAL and not name.startswith(b"copy")
    }
    return {**read_told(found.get(TOLD.encode())), **fields} if fields else None


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
