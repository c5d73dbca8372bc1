"""What the tests of the store share: opened regions, writes to accept, and looks at the keys themselves."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.asyncio import Redis

from aiohttp_regioncache.cipher import Cipher
from aiohttp_regioncache.durability import MEMORY, Durability
from aiohttp_regioncache.keys import Groups, Resource
from aiohttp_regioncache.purges import Purged
from aiohttp_regioncache.reads.decide import Standing, standing
from aiohttp_regioncache.records import CacheRecord, WriteRecord
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.semantics.freshness import Terms
from aiohttp_regioncache.settings import Connections, Queue
from aiohttp_regioncache.store import accepting, entries, purging, queue
from aiohttp_regioncache.store.accepting import Acceptance, Accepted
from aiohttp_regioncache.store.entries import Remembered
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.queue import Claimed, SettleLimits, Settlement
from aiohttp_regioncache.store.region import RegionStore

TOKYO = "ap-northeast-1"
SAO_PAULO = "sa-east-1"
LIMITS = SettleLimits(status_seconds=60, landed_seconds=60, landed_count=128, lease=60)
FRESH = Terms(lifetime=60.0, no_cache=False, must_revalidate=False, swr=0.0, sie=0.0)

TAGS = b"0 p1 A 0123456789abcdef\n"
"""What stands before a record in a list of pending writes."""

_numbers = itertools.count(1)
_groups = Groups()


@contextlib.asynccontextmanager
async def opened(
    url: str,
    name: str = TOKYO,
    *,
    partitions: int = 1,
    writes_behind: bool = True,
    durability: Durability = MEMORY,
    durability_timeout: float = 0.3,
    encryption_keys: tuple[str, ...] = (),
    holdoff: float = 0.0,
    **connections: float,
) -> AsyncIterator[RegionStore]:
    """Open a region's store; `connections` are settings of its connections."""
    store = RegionStore(
        Region(name, redis=url, partitions=partitions),
        msgspec.convert(connections, Connections),
        writes_behind=writes_behind,
        durabilities=(durability,),
        durability_timeout=durability_timeout,
        cipher=Cipher(encryption_keys),
        holdoff=holdoff,
    )
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def resource(path: str) -> Resource:
    """The resource of a path."""
    return _groups.resource("default", path)


def url_of(path: str) -> str:
    """The URL of a path."""
    return f"http://edge.example{path}"


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
    effect: str = "replace",
    shared: bool = False,
    on_dead: str = "",
    durability: Durability = MEMORY,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Acceptance:
    """A write to accept. `stored`: its body stands beside it. `key`: the client's idempotency key. `age`: seconds."""
    write_id = f"{region}-0-{next(_numbers):032x}"
    record = WriteRecord(
        id=write_id,
        site="default",
        url=url_of(path),
        endpoint=path,
        method=method,
        headers=((b"content-type", b"application/json"), *headers),
        body=b"" if stored else body,
        body_stored=stored,
        principal=principal,
        shared=shared,
        effect=effect,
        path=path,
        group=resource(path).group,
        affected=tuple(resource(other).digest for other in affects),
        idempotency_key=f"origin-{write_id}",
        idempotency=key,
        accepted=int((time.time() - age) * 1000),
        max_tries=max_tries,
        repeatable=repeatable,
        on_dead=on_dead,
        durability=str(durability),
    )
    copies = tuple((resource(other), _copy(record, other)) for other in affects)
    return Acceptance(
        record, resource(path), copies, fingerprint, size, body=body if stored else b"", durability=durability
    )


def _copy(record: WriteRecord, path: str) -> WriteRecord:
    return msgspec.structs.replace(record, url=url_of(path), effect="unknown", headers=(), body=b"", body_stored=False)


async def accept(store: RegionStore, write: Acceptance, caps: Queue | None = None) -> Accepted:
    """Accept a write in the partition where it belongs."""
    partition = store.partition(write.target)
    return await accepting.accept(store, partition, write, caps or Queue())


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
    blocks: bool = False,
    anywhere: bool = False,
    attempted: bool = True,
) -> tuple[str, int]:
    """End a write."""
    settlement = Settlement(
        outcome,
        {"reason": "a test"},
        announce=announce,
        blocks=blocks,
        anywhere=anywhere,
        attempted=attempted,
        idempotency=write.record.idempotency,
    )
    affected = write.record.affected
    return await queue.settle(store, partition, claimed, write.record.id, seq, settlement, affected, limits)


async def pending_counts(client: Redis, partition: Partition, resource: Resource) -> tuple[int, int]:
    """How many writes are pending at a resource, and the octets of those to itself."""
    text: bytes = await raw(client, "GET", partition.state(resource.digest))
    _, pending, octets = text.rsplit(b"|", 2)
    return int(pending), int(octets)


async def look(
    store: RegionStore, target: Resource, *principals: str, key: str = "key", path: str = ""
) -> entries.Look:
    """What the bearer of `principals` sees of a resource under its own URL, or that of another `path`."""
    partition = store.partition(target)
    return await entries.look(store, partition, key, target, principals, url_of(path or target.path))


async def claim_one(store: RegionStore, partition: Partition, fence: str = "fence", lease: float = 60.0) -> Claimed:
    """Claim the one resource that is due."""
    (claimed,) = await queue.claim(store, partition, fence, 10, lease)
    return claimed


def entry(path: str, remembered: Remembered, body: bytes = b"stored") -> CacheRecord:
    """A response to store for a path."""
    return CacheRecord(
        url=url_of(path),
        token=remembered.token,
        asof=remembered.asof,
        purge=remembered.purge,
        status=200,
        sent_lines=b"content-type: text/plain\r\n",
        body=body,
        terms=FRESH,
    )


async def stored(store: RegionStore, path: str, remembered: Remembered, tags: tuple[str, ...] = ()) -> bool:
    """Store a response for a path under its own name, as a fetch that remembered this does."""
    found = resource(path)
    record = msgspec.structs.replace(entry(path, remembered), tags=tags, response_time=store.now())
    return await entries.fill(store, store.partition(found), found, path, record, 60, None)


async def fetched(store: RegionStore, path: str, tags: tuple[str, ...] = ()) -> None:
    """Ask for a path and store the response."""
    found = resource(path)
    assert await stored(store, path, await entries.begin(store, store.partition(found), found), tags)


async def purges_of(store: RegionStore, path: str) -> tuple[entries.Glance, Purged]:
    """What is stored for a path, and how it is purged."""
    found = resource(path)
    seen = await entries.glance(store, store.partition(found), path, found)
    return seen, await purging.purged(store, store.partition(found), found, seen.entry, seen.purge)


async def standing_of(store: RegionStore, path: str) -> Standing:
    """How what is stored for a path stands."""
    seen, purged = await purges_of(store, path)
    return standing(seen.entry, seen.state, store.run, purged)


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
