"""What the tests of the store share: opened regions, writes to accept, and looks at the keys themselves."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.asyncio import Redis

from aiohttp_regioncache.keys import Groups, Resource
from aiohttp_regioncache.records import CacheRecord, WriteRecord
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.semantics.freshness import Terms
from aiohttp_regioncache.settings import Connections, Queue
from aiohttp_regioncache.store import queue
from aiohttp_regioncache.store.entries import Remembered
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.queue import Acceptance, Accepted, Claimed, SettleLimits, Settlement
from aiohttp_regioncache.store.region import RegionStore

TOKYO = "ap-northeast-1"
SAO_PAULO = "sa-east-1"
LIMITS = SettleLimits(status_seconds=60, landed_seconds=60, landed_count=128, lease=60)
FRESH = Terms(lifetime=60.0, no_cache=False, must_revalidate=False, swr=0.0, sie=0.0)

_numbers = itertools.count(1)
_groups = Groups()


@contextlib.asynccontextmanager
async def opened(
    url: str, name: str = TOKYO, *, partitions: int = 1, writes_behind: bool = True, **connections: float
) -> AsyncIterator[RegionStore]:
    """Open a region's store; `connections` are settings of its connections."""
    region = Region(name, redis=url, partitions=partitions)
    store = RegionStore(region, msgspec.convert(connections, Connections), writes_behind=writes_behind)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def resource(path: str) -> Resource:
    """The resource of a path."""
    return _groups.resource("default", path)


def acceptance(
    path: str = "/items/1",
    *,
    principal: str = "p1",
    affects: tuple[str, ...] = (),
    key: str = "",
    fingerprint: str = "same",
    size: int = 10,
    body: bytes = b"{}",
    stored: bool = False,
    repeatable: bool = True,
    max_tries: int = 0,
    region: str = TOKYO,
    method: str = "PUT",
    age: float = 0.0,
) -> Acceptance:
    """A write to accept. `stored`: its body stands beside it. `key`: the client's idempotency key. `age`: seconds."""
    write_id = f"{region}-0-{next(_numbers):032x}"
    record = WriteRecord(
        id=write_id,
        site="default",
        url=f"http://edge.example{path}",
        endpoint=path,
        method=method,
        headers=((b"content-type", b"application/json"),),
        body=b"" if stored else body,
        body_stored=stored,
        principal=principal,
        effect="replace",
        path=path,
        group=resource(path).group,
        affects=affects,
        idempotency_key=f"origin-{write_id}",
        accepted=int((time.time() - age) * 1000),
        max_tries=max_tries,
        repeatable=repeatable,
    )
    copies = tuple((resource(other), _copy(record, other)) for other in affects)
    return Acceptance(
        record, resource(path), copies, key, fingerprint, size, body=body if stored else b""
    )  # fmt: skip


def _copy(record: WriteRecord, path: str) -> WriteRecord:
    url = f"http://edge.example{path}"
    return msgspec.structs.replace(record, url=url, effect="unknown", headers=(), body=b"", body_stored=False)


async def accept(store: RegionStore, write: Acceptance, caps: Queue | None = None) -> Accepted:
    """Accept a write in the partition where it belongs."""
    partition = store.partition(write.target)
    return await queue.accept(store, partition, write, caps or Queue(), idempotency_seconds=60)


async def settle(
    store: RegionStore,
    partition: Partition,
    claimed: Claimed,
    write: Acceptance,
    seq: int,
    outcome: str = "synced",
    *,
    limits: SettleLimits = LIMITS,
    announce: bytes = b"",
    keep_record: bool = False,
) -> tuple[str, int]:
    """End a write."""
    settlement = Settlement(outcome, {"reason": "a test"}, announce=announce, keep_record=keep_record)
    affected = tuple(resource.digest for resource, _ in write.affected)
    return await queue.settle(store, partition, claimed, write.record.id, seq, settlement, affected, limits)


async def claim_one(store: RegionStore, partition: Partition, fence: str = "fence", lease: float = 60.0) -> Claimed:
    """Claim the one resource that is due."""
    (claimed,) = await queue.claim(store, partition, fence, 10, lease)
    return claimed


def entry(path: str, remembered: Remembered, body: bytes = b"stored") -> CacheRecord:
    """A response to store for a path."""
    return CacheRecord(
        url=f"http://edge.example{path}",
        token=remembered.token,
        asof=remembered.asof,
        status=200,
        headers=((b"content-type", b"text/plain"),),
        body=body,
        terms=FRESH,
    )


async def raw(client: Redis, *arguments: str | int | bytes) -> Any:
    """Run one command on a server, past everything that is tested."""
    execute: Any = client.execute_command  # untyped in redis-py
    return await execute(*arguments)


async def end_lease(client: Redis, partition: Partition, digest: str) -> None:
    """Let a lease end now."""
    await raw(client, "ZADD", partition.due, "XX", 0, digest)


async def keys(client: Redis) -> dict[str, int]:
    """Every key of a server with its lifetime in ms, -1 for none."""
    names = sorted(await raw(client, "KEYS", "*"))
    return {name.decode(): await raw(client, "PTTL", name) for name in names}
