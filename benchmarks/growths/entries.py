"""Entries in the region's Redis: 10^3 to 10^6."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec
from redis import Redis

from aiohttp_regioncache.keys import Groups, SiteKey, Target, record_key
from aiohttp_regioncache.records import CacheRecord, decode_cache_record, encode
from aiohttp_regioncache.store.keyspace import Partition

from .. import requests
from ..bodies import KIB, body_at
from ..report import Cell, Found, Say, Table
from ..servers.regioncache import region_at
from ..stage import Stage, until_right
from .reading import HIT, Cost, cost, drawn

_READ: Final = 1_000
"""How many are read: of all counts the same, so that what differs is the count."""
_AT_ONCE: Final = 500


def grow(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Fill a region with copies of a stored answer, and read some of them."""
    counts = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    database = stage.database()
    address = stage.redis_url(database)
    server = stage.serve(memory=False, redis=address)
    until_right(server.port, [requests.get(requests.page(0), marks=HIT)])
    server.stop()
    found: dict[int, Cost] = {}
    rows: list[list[Cell]] = []
    with stage.redis(database) as redis:
        filler = _Filler(redis, Partition(region_at(address), 0))
        before = _used(redis)
        for count in counts:
            say(f"growth: {count:,} entries")
            filler.fill(count)
            chosen = random.Random(1).sample(range(count), _READ)
            plan = [requests.get(requests.page(number), marks=HIT) for number in chosen]
            server = stage.serve(memory=False, redis=address)  # a new one has planned as much as the last one
            until_right(server.port, plan[:10])
            found[count] = cost(stage, server, requests.spread(plan), quick=quick)
            server.stop()
            rows.append([count, round((_used(redis) - before) / count), round((_used(redis) - before) / 2**20)])
    stage.drop(database)
    memory = Table("Memory of entries of 1 KiB in Redis", ("entries", "octets for each", "MiB"), rows)
    reads = drawn("Entries in Redis", "entries", {"hit in Redis": found})
    return Found([*reads.tables, memory], reads.curves, wrong=reads.wrong)


class _Filler:
    """Make entries of a page's, in the form that the package itself stores."""

    def __init__(self, redis: Redis, partition: Partition) -> None:
        self._redis = redis
        self._partition = partition
        self._groups = Groups()
        self._filled = 1
        entry, state = self._keys(_target(0))
        stored, self._state = self._got(entry), self._got(state)
        record = decode_cache_record(stored)
        if record is None:
            raise RuntimeError("the first entry cannot be read")
        self._record = record

    def fill(self, count: int) -> None:
        """Store entries until there are `count`."""
        while self._filled < count:
            upto = min(count, self._filled + _AT_ONCE)
            self._redis.mset({key: value for at in range(self._filled, upto) for key, value in self._stored(at)})
            self._filled = upto

    def _stored(self, number: int) -> Iterator[tuple[str, bytes]]:
        target = _target(number)
        entry, state = self._keys(target)
        record: CacheRecord = msgspec.structs.replace(self._record, url=target.url, body=body_at(target.path))
        yield entry, encode(record)
        yield state, self._state

    def _keys(self, target: Target) -> tuple[str, str]:
        site = SiteKey()
        key = record_key(site, target, "GET", ())
        return self._partition.entry(key), self._partition.state(self._groups.resource(site.id, target.path).digest)

    def _got(self, key: str) -> bytes:
        found = self._redis.get(key)
        if not isinstance(found, bytes):
            raise RuntimeError(f"{key} is not there")
        return found


def _target(number: int) -> Target:
    return Target.of("http", requests.HOST, requests.page(number, KIB), "")


def _used(redis: Redis) -> int:
    said = redis.info("memory")
    assert isinstance(said, dict)  # noqa: S101 - redis-py does not say so
    return int(said["used_memory"])
