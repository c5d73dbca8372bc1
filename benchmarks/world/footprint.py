"""What an entry takes in Redis, and what a fill and an invalidation take on the wire: measured on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache.keys import Groups, Resource, SiteKey, Target, record_key
from aiohttp_regioncache.records import CacheRecord, encode, form_of, to_lines
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.semantics.freshness import Terms
from aiohttp_regioncache.settings import Connections
from aiohttp_regioncache.store import entries, outbox
from aiohttp_regioncache.store.region import RegionStore

from .tables import Cell, table

_AT_ONCE: Final = 500
_HEADERS: Final = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "public, max-age=3600"),
    ("Date", "Thu, 26 Nov 2026 01:00:00 GMT"),
    ("ETag", '"0123456789abcdef"'),
    ("Server", "origin"),
)
_TERMS: Final = Terms(lifetime=3600.0, no_cache=False, must_revalidate=False, swr=0.0, sie=0.0)
_HOST: Final = "shop.example"


class Footprint(msgspec.Struct, frozen=True):
    """Bytes: of a record, of an entry in Redis with its state, of a state alone, and on the wire.

    `entry_overhead` is what an entry takes beside its body. `fill_wire`: what the origin sends and is sent for a body
    of `body` bytes without TLS. `invalidation_wire`: what a region is sent and answers for the change of one resource
    that another tells of, alone and among many at once.
    """

    entries: int
    body: int
    record: int
    entry: float
    state: float
    entry_overhead: float
    fill_wire: float
    invalidation_wire: float
    invalidation_wire_together: float


@contextlib.asynccontextmanager
async def _region(directory: Path) -> AsyncIterator[RegionStore]:
    """A region on an embedded server."""
    region = Region("eu-west-1", redis=f"embedded://{directory}?appendfsync=no")
    store = RegionStore(region, Connections(timeout=5.0), writes_behind=False)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def _info(store: RegionStore, section: str, *names: str) -> int:
    """The sum of some numbers of INFO."""
    found = await store.queue.command("INFO", section)
    fields = found if isinstance(found, dict) else _parsed(found)
    return sum(int(fields[name]) for name in names)


def _parsed(text: Any) -> dict[str, str]:
    lines = (text.decode() if isinstance(text, bytes) else str(text)).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _path(number: int) -> str:
    return f"/catalogue/items/{number:07d}"


def _record(number: int, body: bytes, remembered: entries.Remembered, now: float) -> CacheRecord:
    lines = to_lines(_HEADERS)
    return CacheRecord(
        url=f"https://{_HOST}{_path(number)}",
        request_lines=b"Accept: */*\r\nHost: shop.example\r\n",
        token=remembered.token,
        asof=remembered.asof,
        purge=remembered.purge,
        status=200,
        reason=b"OK",
        sent_lines=lines.sent,
        held_lines=lines.held,
        body=body,
        terms=_TERMS,
        response_time=now,
        cost=0.2,
        form=form_of(200, "OK", lines.sent),
    )


async def _fill(store: RegionStore, groups: Groups, number: int, body: bytes) -> int:
    """Store an entry as a miss does; gives the bytes of its record."""
    resource = groups.resource("default", _path(number))
    key = record_key(SiteKey(), Target.of("https", _HOST, _path(number), ""), "GET", ())
    partition = store.partition(resource)
    record = _record(number, body, await entries.begin(store, partition, resource), store.now())
    if not await entries.fill(store, partition, resource, key, record, 3600 + 86_400, None):
        raise RuntimeError("an entry was not stored")
    return len(encode(record))


async def _together(store: RegionStore, numbers: Sequence[int], work: Any) -> list[Any]:
    found: list[Any] = []
    for first in range(0, len(numbers), _AT_ONCE):
        found += await asyncio.gather(*(work(number) for number in numbers[first : first + _AT_ONCE]))
    return found


async def _in_redis(store: RegionStore, count: int, body: int) -> tuple[int, float, float]:
    """Bytes of a record, of an entry with its state, and of a state alone."""
    groups, draw = Groups(), random.Random(1)

    async def fill(number: int) -> int:
        return await _fill(store, groups, number, draw.randbytes(body))

    async def begin(number: int) -> None:
        resource = groups.resource("default", _path(number))
        await entries.begin(store, store.partition(resource), resource)

    await _together(store, range(count, count + _AT_ONCE), fill)  # what a server has once is there
    before = await _info(store, "memory", "used_memory")
    sizes = await _together(store, range(count), fill)
    after = await _info(store, "memory", "used_memory")
    await _together(store, range(10 * count, 11 * count), begin)
    with_states = await _info(store, "memory", "used_memory")
    return max(sizes), (after - before) / count, (with_states - after) / count


async def _told(store: RegionStore, count: int, at_once: int) -> float:
    """Bytes on the wire for each of some changes that another region tells of, `at_once` in one delivery."""

    resources = [_resource(number) for number in range(count)]
    items = [
        outbox.Item(f"{number}-0", outbox.Announced(resource.group, (resource.digest,)))
        for number, resource in enumerate(resources)
    ]
    await outbox.deliver(store, items[:1])
    octets = ("total_net_input_bytes", "total_net_output_bytes")
    before = await _info(store, "stats", *octets)
    own = await _info(store, "stats", *octets) - before
    before = await _info(store, "stats", *octets)
    for first in range(0, count, at_once):
        await outbox.deliver(store, items[first : first + at_once])
    after = await _info(store, "stats", *octets)
    return (after - before - own) / count


def _resource(number: int) -> Resource:
    return Groups().resource("default", _path(number))


class _Origin:
    """An HTTP server that counts every octet of its connections."""

    def __init__(self, body: bytes) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in _HEADERS)
        self._answer = f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.octets = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests without a body, as many as come."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer)
                self.octets += len(asked) + len(self._answer)
        writer.close()


async def _fetched(directory: Path, count: int, body: int) -> float:
    """Bytes between an edge and its origin for a miss."""
    origin = _Origin(bytes(body))
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    app = web.Application()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    region = regioncache.Region("eu-west-1", redis=f"embedded://{directory}?appendfsync=no")
    regioncache.setup(app, regioncache.Settings(origin=url, regions=[region]))
    regioncache.add_forwarding(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            for number in range(count):
                async with session.get(f"http://127.0.0.1:{runner.addresses[0][1]}{_path(number)}") as answer:
                    await answer.read()
    finally:
        await runner.cleanup()
        server.close()
    return origin.octets / count


async def measure(count: int = 100_000, body: int = 1024) -> Footprint:
    """Measure everything, `count` entries with bodies of so many random bytes."""
    with tempfile.TemporaryDirectory(prefix="regioncache-") as directory:
        async with _region(Path(directory) / "entries") as store:
            record, entry, state = await _in_redis(store, count, body)
            alone = await _told(store, min(count, 500), 1)
            together = await _told(store, min(count, 5_000), outbox.BATCH)
        fetched = await _fetched(Path(directory) / "edge", min(count, 500), body)
    return Footprint(count, body, record, entry, state, entry - body, fetched, alone, together)


def report(found: Footprint, seconds: float) -> str:
    """The measured figures in words."""
    rows: list[list[Cell]] = [
        ["bytes of a body", found.body],
        ["bytes of its record", found.record],
        ["bytes of an entry in Redis, its state included", round(found.entry)],
        ["of these beside the body", round(found.entry_overhead)],
        ["bytes of the state of a resource without entry", round(found.state)],
        ["GiB per million entries of this size", found.entry * 1e6 / 2**30],
        ["bytes between edge and origin for a fill, without TLS", round(found.fill_wire)],
        ["bytes between regions for an invalidation by itself", round(found.invalidation_wire)],
        [f"among {outbox.BATCH} delivered at once", round(found.invalidation_wire_together)],
    ]
    return f"{found.entries:,} entries, {seconds:.0f} s\n\n{table(('what', 'figure'), rows)}"


def main(count: int) -> int:
    """Measure and print."""
    began = time.monotonic()
    print(report(asyncio.run(measure(count)), time.monotonic() - began))
    return 0
