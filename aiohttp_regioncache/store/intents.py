"""Intents: what writes through are about to change, noted in a region until it has been invalidated."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from ..keys import Resource
from .entries import invalidate
from .keyspace import Partition
from .outbox import announce
from .region import RegionStore
from .scripts import script

_decode = msgspec.msgpack.Decoder(tuple[str, tuple[str, ...], str]).decode


class Intent(msgspec.Struct, frozen=True):
    """One write through: where it is noted, and the octets of the note."""

    store: RegionStore
    partition: Partition
    octets: bytes


async def intend(store: RegionStore, resources: Sequence[Resource], seconds: float) -> Intent:
    """Note that resources of one group are about to change; after `seconds` anybody looks after it.

    Raises `RegionUnavailableError`.
    """
    digests = tuple(resource.digest for resource in resources)
    octets = msgspec.msgpack.encode((resources[0].group, digests, secrets.token_hex(8)))
    intent = Intent(store, store.partition(resources[0]), octets)
    await renew(intent, seconds)
    return intent


async def renew(intent: Intent, seconds: float) -> None:
    """Let an intent stand for another `seconds`. Raises `RegionUnavailableError`."""
    arguments = (intent.octets, int(seconds * 1000))
    await intent.store.reads.run(script("intend"), (intent.partition.intents,), arguments)


async def forget(intent: Intent) -> None:
    """Take an intent back: nothing was changed. Raises `RegionUnavailableError`."""
    await intent.store.reads.command("ZREM", intent.partition.intents, intent.octets)


async def overdue(store: RegionStore, partition: Partition, limit: int) -> list[Intent]:
    """The oldest intents whose edge has not been heard of in time. Raises `RegionUnavailableError`."""
    found = await store.queue.run(script("overdue"), (partition.intents,), (limit,))
    return [Intent(store, partition, octets) for octets in found]


async def fulfil(intent: Intent) -> None:
    """Invalidate in every region what an intent names; harmless to repeat. Raises `RegionUnavailableError`."""
    try:
        group, digests, _ = _decode(intent.octets)
    except msgspec.MsgspecError:  # no version wrote it
        await forget(intent)
        return
    await invalidate(intent.store, intent.partition, digests, announce=announce(group, digests), intent=intent.octets)
