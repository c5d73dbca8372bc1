"""Intents: what writes may change without anybody telling, noted in a region until it has been invalidated."""

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
    """What one write may change: where it is noted, and the octets of the note."""

    store: RegionStore
    partition: Partition
    octets: bytes


async def intend(store: RegionStore, resources: Sequence[Resource], seconds: float) -> Intent:
    """Note that resources of one group are about to change; after `seconds` anybody looks after it.

    Raises `RegionUnavailableError`.
    """
    digests = tuple(resource.digest for resource in resources)
    intent = Intent(store, store.partition(resources[0]), _octets(resources[0].group, digests))
    await renew(intent, seconds)
    return intent


async def expect(store: RegionStore, partition: Partition, group: str, digests: Sequence[str], seconds: float) -> None:
    """Note that an attempt which nobody waits for any more may still change resources of a group within `seconds`.

    Raises `RegionUnavailableError`.
    """
    arguments = (_octets(group, digests), int(seconds * 1000))
    await store.queue.run(script("intend"), (partition.intents,), arguments)


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


def _octets(group: str, digests: Sequence[str]) -> bytes:
    return msgspec.msgpack.encode((group, tuple(digests), secrets.token_hex(8)))


async def fulfil(intent: Intent) -> None:
    """Invalidate in every region what an intent names; harmless to repeat. Raises `RegionUnavailableError`."""
    try:
        group, digests, _ = _decode(intent.octets)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # no version wrote it
        await forget(intent)
        return
    await invalidate(intent.store, intent.partition, digests, announce=announce(group, digests), intent=intent.octets)
