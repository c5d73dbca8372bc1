"""How full the queues are: figures for the control API and for back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from ..errors import RegionUnavailableError
from ..settings import Queue
from ..store import ended, queue
from ..store.keyspace import Partition
from ..store.queue import Depth
from ..store.region import RegionStore


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """What a region has pending, over all of its partitions.

    `writes` and `bytes` are pending, `due` resources wait for a sender or have one, `blocked` ones for an operator.
    `accepted` and `processed` are the sums of the newest numbers and of the numbers up to which every write has ended.
    `oldest` is the age of the oldest pending write in seconds, 0 without one. `dead` and `rejected` writes are kept for
    operators. `max_writes` and `max_bytes` are the caps of each partition; `fill` is how much of a cap the fullest
    partition has taken, from 0 to 1. `problem` says why a region tells nothing; then all figures are 0.
    """

    region: str
    writes: int = 0
    bytes: int = 0
    due: int = 0
    blocked: int = 0
    accepted: int = 0
    processed: int = 0
    oldest: float = 0.0
    dead: int = 0
    rejected: int = 0
    max_writes: int
    max_bytes: int
    fill: float = 0.0
    problem: str = ""


async def queue_depths(stores: Iterable[RegionStore], caps: Queue) -> list[QueueDepth]:
    """Tell how much each region has pending; one that cannot be reached says so in `problem`."""
    return list(await asyncio.gather(*(_depth(store, caps) for store in stores)))


async def _depth(store: RegionStore, caps: Queue) -> QueueDepth:
    try:
        found = await asyncio.gather(*(_of_partition(store, partition) for partition in store.partitions))
    except RegionUnavailableError as error:
        return QueueDepth(region=store.name, max_writes=caps.max_writes, max_bytes=caps.max_bytes, problem=str(error))
    return summed(store.name, found, caps)


async def _of_partition(store: RegionStore, partition: Partition) -> tuple[Depth, int, int]:
    depth, (dead, rejected) = await asyncio.gather(queue.depth(store, partition), ended.counts(store, partition))
    return depth, dead, rejected


def summed(region: str, partitions: Sequence[tuple[Depth, int, int]], caps: Queue) -> QueueDepth:
    """Put together the figures of a region's partitions: each its depth, dead and rejected writes."""
    depths = [depth for depth, _, _ in partitions]
    return QueueDepth(
        region=region,
        writes=sum(depth.writes for depth in depths),
        bytes=sum(depth.bytes for depth in depths),
        due=sum(depth.due for depth in depths),
        blocked=sum(depth.blocked for depth in depths),
        accepted=sum(depth.newest for depth in depths),
        processed=sum(depth.processed for depth in depths),
        oldest=max((depth.oldest for depth in depths), default=0.0),
        dead=sum(dead for _, dead, _ in partitions),
        rejected=sum(rejected for _, _, rejected in partitions),
        max_writes=caps.max_writes,
        max_bytes=caps.max_bytes,
        fill=max((_fill(depth, caps) for depth in depths), default=0.0),
    )


def _fill(depth: Depth, caps: Queue) -> float:
    # A blocked resource takes a place too.
    return min(1.0, max((depth.writes + depth.blocked) / max(1, caps.max_writes), depth.bytes / max(1, caps.max_bytes)))
