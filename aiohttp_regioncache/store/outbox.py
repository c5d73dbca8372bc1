"""The outboxes: invalidations, purges and sites that other regions must still hear of, one cursor per region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ..keys import partition_of
from ..purges import EVERYTHING, Line
from . import sites
from .entries import invalidate
from .executor import as_mapping
from .keyspace import Partition
from .purging import purge
from .region import RegionStore
from .scripts import script
from .sites import StoredSite

KEEP_SECONDS: Final = 60.0
"""How long an item stays after its delivery, for a server that restarts and has forgotten it."""
BATCH: Final = 500
"""Items read at once."""
_START: Final = "0-0"
_COURIER_MS: Final = 5_000
_DIGESTS_AT_ONCE: Final = 200


class Announced(msgspec.Struct, frozen=True, array_like=True):
    """What an item says: the digests of a group's resources that changed, the lines of a purge, or a site's revision.

    A purge without a group is one of every partition. `site` is an id, `octets` what lies under it in its region.
    """

    group: str
    digests: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    site: str = ""
    octets: bytes = b""


class Item(msgspec.Struct, frozen=True):
    """One item: its stream id, and what it says."""

    id: str
    announced: Announced

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of the resources that changed."""
        return self.announced.digests


class Cursor(msgspec.Struct, frozen=True):
    """How far a region has heard: the last item's id, and the run of its server then."""

    id: str = _START
    run: str = ""


_decode = msgspec.msgpack.Decoder(Announced).decode


def announce(group: str, digests: tuple[str, ...]) -> bytes:
    """Write an outbox item for resources of a group that changed."""
    return msgspec.msgpack.encode(Announced(group, digests))


def announce_purge(lines: Sequence[Line], group: str = "") -> bytes:
    """Write an outbox item for a purge: of every partition, or that of `group`."""
    return msgspec.msgpack.encode(Announced(group, (), tuple(lines)))


def announce_site(stored: StoredSite) -> bytes:
    """Write an outbox item for a revision of a site."""
    return msgspec.msgpack.encode(Announced("", site=stored.id, octets=stored.octets))


def id_order(stream_id: str) -> tuple[int, int]:
    """Stream ids in their order."""
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number or 0)


def resume(cursor: Cursor, run: str, now: float) -> str:
    """Where to go on: after the cursor, or a minute back when the region's server has restarted since."""
    if cursor.run == run or cursor.id == _START:
        return cursor.id
    rewound = f"{max(0, int((now - KEEP_SECONDS) * 1000))}-0"
    return min(cursor.id, rewound, key=id_order)


async def read_cursor(source: RegionStore, partition: Partition, target: str) -> Cursor:
    """Read a region's cursor. Raises `RegionUnavailableError`."""
    return _cursor(await source.queue.command("HGET", partition.cursors, target))


async def write_cursor(source: RegionStore, partition: Partition, target: str, cursor: Cursor) -> None:
    """Store a region's cursor. Raises `RegionUnavailableError`."""
    await source.queue.run(script("advance"), (partition.cursors,), (target, f"{cursor.id}|{cursor.run}"))


async def read_items(source: RegionStore, partition: Partition, after: str) -> tuple[str, list[Item]]:
    """Read the items after an id: the last id seen, and those that can be read. Raises `RegionUnavailableError`."""
    found = await source.queue.command("XRANGE", partition.out, f"({after}", "+", "COUNT", BATCH)
    items = []
    last = after
    for stream_id, fields in found:
        last = stream_id.decode()
        try:
            announced = _decode(_payload(fields))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        items.append(Item(last, announced))
    return last, items


async def gap_end(source: RegionStore, partition: Partition, cursor: Cursor) -> str | None:
    """Find the newest id when items after the cursor were dropped because the backlog grew too long, else None.

    `trim` leaves the item of every cursor, so a stream that begins after it has lost more. Raises
    `RegionUnavailableError`.
    """
    first = await source.queue.command("XRANGE", partition.out, "-", "+", "COUNT", 1)
    if not first or id_order(_text(first[0][0])) <= id_order(cursor.id):
        return None
    info = await source.queue.command("XINFO", "STREAM", partition.out)
    fields = {_text(name): value for name, value in as_mapping(info).items()}
    return _text(fields["last-generated-id"]) if int(fields["entries-added"]) > int(fields["length"]) else None


async def deliver(target: RegionStore, items: Iterable[Item]) -> None:
    """Invalidate, purge and store in the target region what the items name. Raises `RegionUnavailableError`."""
    by_partition: dict[int, dict[str, None]] = {}
    purges: dict[Announced, None] = {}
    for item in items:
        if item.announced.site:
            await sites.take(target, item.announced.site, item.announced.octets)
            continue
        if item.announced.lines:
            purges[item.announced] = None
            continue
        number = partition_of(item.announced.group, len(target.partitions))
        by_partition.setdefault(number, {}).update(dict.fromkeys(item.digests))
    for number, digests in by_partition.items():
        for some in _chunks(tuple(digests), _DIGESTS_AT_ONCE):
            await invalidate(target, target.partitions[number], some)
    for announced in purges:
        await purge(target, announced.lines, group=announced.group)


async def flush(target: RegionStore) -> None:
    """Invalidate every resource of a region. Raises `RegionUnavailableError`."""
    await purge(target, (EVERYTHING,))


async def trim(source: RegionStore, partition: Partition, regions: Sequence[str]) -> None:
    """Drop items that all `regions` have heard and that are older than a minute. Raises `RegionUnavailableError`."""
    cursors = [await read_cursor(source, partition, region) for region in regions]
    oldest = f"{max(0, int((source.now() - KEEP_SECONDS) * 1000))}-0"
    keep = min((oldest, *(cursor.id for cursor in cursors)), key=id_order)
    if keep != _START:
        await source.queue.command("XTRIM", partition.out, "MINID", keep)


async def be_courier(source: RegionStore, partition: Partition, target: str, name: str) -> Cursor | None:
    """Carry a partition's items to a region as `name`: one does, for as long as it comes.

    Gives the region's cursor; None while another one is the courier. Raises `RegionUnavailableError`.
    """
    keys = (partition.cursors, f"{partition.courier}:{target}")
    is_mine, raw = await source.queue.run(script("carry"), keys, (name, _COURIER_MS, target))
    return _cursor(raw) if is_mine else None


async def resign(source: RegionStore, partition: Partition, target: str, name: str) -> None:
    """Let another process carry a partition's items to a region at once. Raises `RegionUnavailableError`."""
    await source.queue.run(script("resign"), (f"{partition.courier}:{target}",), (name,))


def _cursor(raw: bytes | None) -> Cursor:
    if raw is None:
        return Cursor()
    stream_id, _, run = raw.decode().partition("|")
    return Cursor(stream_id, run)


def _payload(fields: Any) -> bytes:
    payload: bytes = next(iter(fields.values())) if isinstance(fields, dict) else fields[1]
    return payload


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _chunks(items: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
