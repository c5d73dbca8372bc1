"""What a read and a write cost a user, with the cache and without."""

import asyncio
import json
import secrets
import statistics
from dataclasses import dataclass

import aiohttp

from example_app.checks import Checks
from example_app.exchange import Reply, exchange
from example_app.ways import Demo, Way
from example_app.world import User

FAR_SAMPLES = 3
NEAR_SAMPLES = 9


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in milliseconds of one user's requests."""

    user: User
    straight_read: float
    first_read: float
    cached_read: float
    straight_write: float
    edge_write: float


async def measure(demo: Demo, checks: Checks) -> list[Row]:
    """Measure every user's requests. Distances are waited for together, near answers one user at a time."""
    ways = list(demo.ways.values())
    straight = await asyncio.gather(*(_straight(way, checks) for way in ways))
    first = await asyncio.gather(*(_first_reads(way, checks) for way in ways))
    rows = []
    for way, (read, write), (path, first_read) in zip(ways, straight, first, strict=True):
        cached = await _cached_reads(way, path, checks)
        rows.append(Row(way.user, read, first_read, cached, write, await _edge_writes(way, checks)))
    return rows


async def _straight(way: Way, checks: Checks) -> tuple[float, float]:
    country = way.user.country
    await exchange(way.straight, "GET", "/stats")  # Opens the connection, which costs a round trip of its own.
    reads = [await exchange(way.straight, "GET", "/items/1") for _ in range(FAR_SAMPLES)]
    writes = [await _write(way.straight, f"{country}-straight") for _ in range(FAR_SAMPLES)]
    _expect_status(checks, f"{country}: read straight", reads, 200)
    _expect_status(checks, f"{country}: write straight", writes[1:], 200)
    return _median(reads), _median(writes)


async def _first_reads(way: Way, checks: Checks) -> tuple[str, float]:
    await exchange(way.edge, "GET", "/stats")
    # A query that nobody has sent before names an entry that no region has stored.
    paths = [f"/items/{way.user.country}-straight?first={secrets.token_hex(4)}" for _ in range(FAR_SAMPLES)]
    reads = [await exchange(way.edge, "GET", path) for path in paths]
    _expect_status(checks, f"{way.user.country}: first read", reads, 200)
    statuses = [reply.cache_status for reply in reads]
    checks.expect(not any(reply.hit for reply in reads), f"{way.user.country}: a first read was a hit: {statuses}")
    return paths[-1], _median(reads)


async def _cached_reads(way: Way, path: str, checks: Checks) -> float:
    reads = [await exchange(way.edge, "GET", path) for _ in range(NEAR_SAMPLES)]
    _expect_status(checks, f"{way.user.country}: cached read", reads, 200)
    statuses = sorted({reply.cache_status for reply in reads})
    checks.expect(all(reply.hit for reply in reads), f"{way.user.country}: a later read was no hit: {statuses}")
    return _median(reads)


async def _edge_writes(way: Way, checks: Checks) -> float:
    country = way.user.country
    writes = [await _write(way.edge, f"{country}-edge") for _ in range(NEAR_SAMPLES)]
    _expect_status(checks, f"{country}: write through the edge", writes, 202)
    last = json.dumps({"name": country, "last": secrets.token_hex(4)}).encode()
    await exchange(way.edge, "PUT", f"/items/{country}-edge", body=last)
    seen = await exchange(way.edge, "GET", f"/items/{country}-edge")
    checks.expect(seen.body == last, f"{country}: a read after the user's own write shows {seen.body[:200]!r}")
    return _median(writes)


async def _write(client: aiohttp.ClientSession, item: str) -> Reply:
    body = json.dumps({"name": item, "token": secrets.token_hex(4)}).encode()
    return await exchange(client, "PUT", f"/items/{item}", body=body)


def _expect_status(checks: Checks, what: str, replies: list[Reply], status: int) -> None:
    wrong = next((reply for reply in replies if reply.status != status), None)
    detail = "" if wrong is None else f"{wrong.status} {wrong.body[:200].decode(errors='replace')}"
    checks.expect(wrong is None, f"{what}: expected {status}, got {detail}")


def _median(replies: list[Reply]) -> float:
    return statistics.median(reply.milliseconds for reply in replies)
