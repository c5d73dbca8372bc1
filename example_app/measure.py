"""What a read and a write cost a user, with the cache and without."""

import asyncio
import json
import secrets
import statistics
from dataclasses import dataclass

import aiohttp

from example_app.checks import Checks
from example_app.distance import ORIGIN_REGION
from example_app.exchange import Reply, exchange
from example_app.ways import Demo, Way
from example_app.world import User

FAR_SHARE = 3
"""Distant answers are measured once for so many near ones."""


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in milliseconds of one user's requests."""

    user: User
    straight_read: float
    first_read: float
    cached_read: float
    straight_write: float
    edge_write: float


async def measure(demo: Demo, checks: Checks, samples: int) -> list[Row]:
    """Measure every user's requests, near answers `samples` times.

    Distances are waited for together, near answers one user at a time.
    """
    ways = list(demo.ways.values())
    far_samples = -(-samples // FAR_SHARE)
    straight = await asyncio.gather(*(_straight(way, checks, far_samples) for way in ways))
    first = await asyncio.gather(*(_first_reads(way, checks, far_samples) for way in ways))
    rows = []
    for way, (read, write), (path, first_read) in zip(ways, straight, first, strict=True):
        cached = await _cached_reads(way, path, checks, samples)
        rows.append(Row(way.user, read, first_read, cached, write, await _edge_writes(way, checks, samples)))
    return rows


async def _straight(way: Way, checks: Checks, samples: int) -> tuple[float, float]:
    country = way.user.country
    await exchange(way.straight, "GET", "/stats")  # Opens the connection, which costs a round trip of its own.
    reads = [await exchange(way.straight, "GET", "/items/1") for _ in range(samples)]
    writes = [await _write(way.straight, f"{country}-straight") for _ in range(samples)]
    _expect_status(checks, f"{country}: read straight", reads, 200)
    _expect_status(checks, f"{country}: write straight", writes, 200, 201)
    return _median(reads), _median(writes)


async def _first_reads(way: Way, checks: Checks, samples: int) -> tuple[str, float]:
    await exchange(way.edge, "GET", "/stats")
    # A query that nobody has sent before names an entry that no region has stored.
    paths = [f"/items/{way.user.country}-straight?first={secrets.token_hex(4)}" for _ in range(samples)]
    reads = [await exchange(way.edge, "GET", path) for path in paths]
    _expect_status(checks, f"{way.user.country}: first read", reads, 200)
    statuses = [reply.cache_status for reply in reads]
    checks.expect(not any(reply.hit for reply in reads), f"{way.user.country}: a first read was a hit: {statuses}")
    return paths[-1], _median(reads)


async def _cached_reads(way: Way, path: str, checks: Checks, samples: int) -> float:
    reads = [await exchange(way.edge, "GET", path) for _ in range(samples)]
    _expect_status(checks, f"{way.user.country}: cached read", reads, 200)
    statuses = sorted({reply.cache_status for reply in reads})
    checks.expect(all(reply.hit for reply in reads), f"{way.user.country}: a later read was no hit: {statuses}")
    expect_near(checks, way.user, "cached read", reads)
    return _median(reads)


async def _edge_writes(way: Way, checks: Checks, samples: int) -> float:
    country = way.user.country
    writes = [await _write(way.edge, f"{country}-edge") for _ in range(samples)]
    _expect_status(checks, f"{country}: write through the edge", writes, 202)
    expect_near(checks, way.user, "write through the edge", writes)
    last = json.dumps({"name": country, "last": secrets.token_hex(4)}).encode()
    await exchange(way.edge, "PUT", f"/items/{country}-edge", body=last)
    seen = await exchange(way.edge, "GET", f"/items/{country}-edge")
    checks.expect(seen.body == last, f"{country}: a read after the user's own write shows {seen.body[:200]!r}")
    return _median(writes)


async def _write(client: aiohttp.ClientSession, item: str) -> Reply:
    body = json.dumps({"name": item, "token": secrets.token_hex(4)}).encode()
    return await exchange(client, "PUT", f"/items/{item}", body=body)


def _expect_status(checks: Checks, what: str, replies: list[Reply], *statuses: int) -> None:
    wrong = next((reply for reply in replies if reply.status not in statuses), None)
    detail = "" if wrong is None else f"{wrong.status} {wrong.body[:200].decode(errors='replace')}"
    checks.expect(wrong is None, f"{what}: expected {' or '.join(map(str, statuses))}, got {detail}")


def expect_near(checks: Checks, user: User, what: str, replies: list[Reply]) -> None:
    """Expect the fastest of some answers to be quicker than the trip to the origin, for users far from it."""
    # What makes the trip takes at least its round trip, and on a busy machine the fastest still tells.
    fastest, trip = min(reply.milliseconds for reply in replies), user.straight_ms
    near = fastest < trip or user.region == ORIGIN_REGION
    checks.expect(
        near, f"{user.country}: {what}: {fastest:.1f} ms is no less than the trip to the origin, {trip:.1f} ms"
    )


def _median(replies: list[Reply]) -> float:
    return statistics.median(reply.milliseconds for reply in replies)
