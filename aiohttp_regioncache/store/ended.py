"""Writes that need an operator: dead, rejected, blocking, pending. Thin calls of scripts and looks at their lists."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import msgspec

from .accepting import TOLD, read_told
from .entries import STATE_SECONDS
from .executor import as_mapping
from .keyspace import WAKE_CHANNEL, Partition
from .queue import Claimed
from .region import RegionStore
from .scripts import script

Kind = Literal["pending", "dead", "rejected", "blocking"]
"""The lists of writes: `blocking` are the dead ones that keep others waiting."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_OVERVIEW: Final = (
    "state", "seq", "principal", "size", "tries", "reason", "problem", "accepted", "revived", "settled", "blocks",
    "dropped", TOLD,
)  # fmt: skip
_AT_ONCE: Final = 1_000


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a write stands in a list: its number there (pending: its own; ended: ms of when it ended), and its id."""

    number: int
    write_id: str


async def places(
    store: RegionStore, partition: Partition, kind: Kind, *, newest: bool, after: Place | None, count: int
) -> list[Place]:
    """Read up to `count` places of a list, newest or oldest first, beyond `after`. Raises `RegionUnavailableError`."""
    if kind == "blocking":
        blocking = sorted(await _blocking(store, partition), reverse=newest)
        return [place for place in blocking if _is_beyond(place, after, newest)][:count]
    key = partition.queue if kind == "pending" else partition.ended(kind)
    limits: tuple[str | int, ...] = ("+inf", "-inf", "BYSCORE", "REV") if newest else ("-inf", "+inf", "BYSCORE")
    if after is not None:
        limits = (after.number, *limits[1:])
    found: list[Place] = []
    offset = 0
    while len(found) < count:
        flat = await store.queue.command("ZRANGE", key, *limits, "LIMIT", offset, count, "WITHSCORES")
        page = [_place(kind, member, score) for member, score in zip(flat[::2], flat[1::2], strict=True)]
        found += [place for place in page if _is_beyond(place, after, newest)]
        if len(page) < count:
            break
        offset += count
    return found[:count]


async def overviews(
    store: RegionStore, partition: Partition, write_ids: Sequence[str]
) -> list[Mapping[str, str] | None]:
    """Read what is known of some writes, without their requests; None for those whose status is gone.

    Raises `RegionUnavailableError`.
    """
    asked = (store.queue.command("HMGET", partition.status(write_id), *_OVERVIEW) for write_id in write_ids)
    return [_overview(values) for values in await asyncio.gather(*asked)]


async def forget(store: RegionStore, partition: Partition, kind: Kind, write_ids: Sequence[str]) -> None:
    """Take writes whose status is gone off the list of dead or rejected ones. Raises `RegionUnavailableError`."""
    if write_ids and kind in ("dead", "rejected"):
        await store.queue.command("ZREM", partition.ended(kind), *write_ids)


async def counts(store: RegionStore, partition: Partition) -> tuple[int, int]:
    """Count the dead and the rejected writes that are kept. Raises `RegionUnavailableError`."""
    dead, rejected = await asyncio.gather(
        store.queue.command("ZCARD", partition.ended("dead")), store.queue.command("ZCARD", partition.ended("rejected"))
    )
    return dead, rejected


async def blocker(store: RegionStore, partition: Partition, digest: str) -> str:
    """Name the dead write that a resource's writes wait behind; empty for none. Raises `RegionUnavailableError`."""
    found: bytes | None = await store.queue.command("HGET", partition.blocked, digest)
    return found.decode() if found else ""


async def waiting(store: RegionStore, partition: Partition, digest: str) -> int:
    """Count the pending writes of a resource. Raises `RegionUnavailableError`."""
    count: int = await store.queue.command("ZCARD", partition.pending(digest))
    return count


async def element(store: RegionStore, partition: Partition, status: Mapping[str, str], write_id: str) -> bytes | None:
    """Read the stored request of a write, with its line of tags; None when it is gone.

    `status` are its fields. Raises `RegionUnavailableError`.
    """
    if status["state"] == "pending":
        number = int(status["seq"])
        found = await store.queue.command("ZRANGEBYSCORE", partition.pending(status["digest"]), number, number)
        return found[0] if found else None
    kept: bytes | None = await store.queue.command("HGET", partition.status(write_id), "record")
    return kept


async def seize(store: RegionStore, partition: Partition, digest: str, fence: str, lease: float) -> Claimed | None:
    """Claim one resource for `lease` seconds; None while a sender holds it. Raises `RegionUnavailableError`."""
    arguments = (fence, digest, int(lease * 1000))
    answer, stalls = await store.queue.run(script("seize"), (partition.due, partition.lease), arguments)
    return Claimed(digest, fence, stalls) if answer == b"seized" else None


async def release(store: RegionStore, partition: Partition, claimed: Claimed) -> None:
    """Give a seized resource back, due at once unless it is blocked. Raises `RegionUnavailableError`."""
    keys = (partition.due, partition.lease, partition.blocked, partition.pending(claimed.digest))
    await store.queue.run(script("release"), keys, (claimed.fence, claimed.digest, *_wake(store, partition)))


async def revive(
    store: RegionStore,
    partition: Partition,
    write_id: str,
    digest: str,
    affected: Sequence[str],
    *,
    idempotency: str = "",
) -> str:
    """Queue a dead or rejected write again, at its old place.

    Returns `revived`, also for one that is pending; `busy` while a sender holds its resource; `unknown`; or the state
    of one that ended otherwise or whose request is gone. Raises `RegionUnavailableError`.
    """
    keys = [
        partition.due, partition.lease, partition.queue, partition.processed, partition.bytes, partition.seq,
        partition.status(write_id), partition.body(write_id), partition.principals, partition.blocked,
        partition.ended("dead"), partition.ended("rejected"), partition.idempotency(idempotency),
        *(key for each in (digest, *affected) for key in partition.resource(each)),
    ]  # fmt: skip
    arguments = (digest, write_id, store.new_token(), STATE_SECONDS * 1000, *_wake(store, partition))
    answer: bytes = await store.queue.run(script("revive"), keys, arguments)
    return answer.decode()


async def dismiss(store: RegionStore, partition: Partition, write_id: str, digest: str, status_seconds: float) -> str:
    """Let go of a dead or rejected write; its status stays for `status_seconds`.

    Returns `dropped`, `unknown`, or the state of one that is pending or ended otherwise.
    Raises `RegionUnavailableError`.
    """
    keys = (
        partition.due, partition.status(write_id), partition.body(write_id), partition.blocked,
        partition.ended("dead"), partition.ended("rejected"), partition.pending(digest),
    )  # fmt: skip
    arguments = (digest, write_id, int(status_seconds * 1000), *_wake(store, partition))
    answer: bytes = await store.queue.run(script("dismiss"), keys, arguments)
    return answer.decode()


async def _blocking(store: RegionStore, partition: Partition) -> list[Place]:
    found = as_mapping(await store.queue.command("HGETALL", partition.blocked))
    names = [write_id.decode() for write_id in found.values()]
    blocking: list[Place] = []
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        asked = (store.queue.command("HGET", partition.status(name), "settled") for name in some)
        settled = await asyncio.gather(*asked)
        blocking += (Place(int(number or 0), name) for number, name in zip(settled, some, strict=True))
    return blocking


def _place(kind: Kind, member: bytes, score: bytes) -> Place:
    name = member.decode()
    return Place(int(float(score)), name.partition("|")[2] if kind == "pending" else name)


def _is_beyond(place: Place, after: Place | None, newest: bool) -> bool:
    return after is None or (place < after if newest else place > after)


def _overview(values: Sequence[bytes | None]) -> Mapping[str, str] | None:
    found = dict(zip(_OVERVIEW, values, strict=True))
    told = read_told(found.pop(TOLD))
    known = {name: value.decode("utf-8", "replace") for name, value in found.items() if value is not None}
    return {**told, **known} if "state" in known else None


def _wake(store: RegionStore, partition: Partition) -> tuple[str, str]:
    """The channel and the message that tell the sync loop of work."""
    return WAKE_CHANNEL, f"{store.name}:{partition.number}"
