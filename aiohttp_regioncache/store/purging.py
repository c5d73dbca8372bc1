"""The lists of purges, one per partition: short, read only when they have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ..keys import Resource, partition_of
from ..purges import HARD, UNPURGED, Line, Lines, Purged
from ..records import CacheRecord
from .entries import OUTBOX_LENGTH, STATE_SECONDS
from .events import purge_announcement
from .executor import Argument
from .keyspace import Partition, events_channel
from .region import RegionStore
from .scripts import script

KEEP_SECONDS: Final = STATE_SECONDS
"""How long a line stays; longer than any entry lives."""
MAX_LINES: Final = 1_000
"""Lines of a partition's list; the oldest of more become one that covers everything until then."""


async def purge(store: RegionStore, lines: Sequence[Line], *, group: str = "", announce: bytes = b"") -> None:
    """Purge in every partition, or in that of `group`; harmless to repeat.

    `announce` goes to an outbox for the other regions, once all of this is done. Raises `RegionUnavailableError`.
    """
    partitions = store.partitions
    if group:
        partitions = (partitions[partition_of(group, len(partitions))],)
    *others, last = partitions
    await asyncio.gather(*(_purge(store, partition, lines, b"") for partition in others))
    await _purge(store, last, lines, announce)


async def _purge(store: RegionStore, partition: Partition, lines: Sequence[Line], announce: bytes) -> None:
    arguments: tuple[Argument, ...] = (
        KEEP_SECONDS * 1000, MAX_LINES, events_channel(store.name), purge_announcement(partition.number), announce,
        OUTBOX_LENGTH, *(line.octets for line in lines),
    )  # fmt: skip
    await store.queue.run(script("purge"), (partition.purge, partition.purges, partition.out), arguments)


async def purged(
    store: RegionStore, partition: Partition, resource: Resource, entry: CacheRecord | None, number: int
) -> Purged:
    """Say how an entry is purged; `number` is that of the newest purge, 0 when nothing is known of any.

    Costs a round trip when the process has not seen the list of this number. Raises `RegionUnavailableError`.
    """
    known = purged_as_known(store, partition, resource, entry, number)
    if known is not None or entry is None:
        return known or UNPURGED
    lines = await _lines(store, partition, number)
    return lines.purged(resource.site, resource.path, entry.tags, entry.purge)


def purged_as_known(
    store: RegionStore, partition: Partition, resource: Resource, entry: CacheRecord | None, number: int
) -> Purged | None:
    """Say the same by what the process has seen of the list; None when that does not tell."""
    if entry is None or entry.purge == number > 0:
        return UNPURGED
    if entry.purge >= number:  # what it was stored after is forgotten
        return HARD
    lines = store.purge_lines.get(partition.number)
    if lines is None or lines.number != number:
        return None
    return lines.purged(resource.site, resource.path, entry.tags, entry.purge)


async def _lines(store: RegionStore, partition: Partition, number: int) -> Lines:
    async with store.purge_lock:  # one asks for all who wait
        known = store.purge_lines.get(partition.number)
        if known is None or known.number != number:
            known = store.purge_lines[partition.number] = await _read(store, partition, number)
        return known


async def _read(store: RegionStore, partition: Partition, number: int) -> Lines:
    """Read the list. It may be newer than `number`: whoever asks for what is in addition there reads it again."""
    found = await store.reads.command("ZRANGE", partition.purges, 0, -1, "WITHSCORES")
    pairs = [(octets, int(float(score))) for octets, score in zip(found[::2], found[1::2], strict=True)]
    return Lines(pairs, number)
