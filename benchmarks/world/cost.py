"""What a cache in some regions costs, beside copies of the origin there. The model is explained in docs/cost.md."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from .tables import Cell, pair, percent, table

MEASURED: Final = Path(__file__).parent / "measured.toml"
_MONTH: Final = 30 * 86_400
_GIB: Final = 2**30


class Core(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests per second of one core of an edge: hits from its memory and from Redis, misses, writes; and replays."""

    memory_hits: float
    redis_hits: float
    misses: float
    writes: float
    drained: float


class RedisCore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one core of Redis serves per second."""

    hits: float
    fills: float
    writes: float


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes in Redis of an entry beside its body, and of a state without an entry."""

    overhead: float
    state: float


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes between regions: of a fill beside its body, of an invalidation alone and among many, of a write."""

    fill_overhead: float
    invalidation: float
    invalidation_together: float
    write_overhead: float


class Played(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a simulated day gave: `rate` is requests per second of the world on the mean, of which peaks are parts.

    The times are p95, with the cache and without.
    """

    rate: float
    regions: int
    hit_ratio: float
    write_share: float
    sum_of_peaks: float
    peak: float
    fetched_bytes: float
    read_p95_ms: tuple[float, float]
    write_p95_ms: tuple[float, float]


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is measured."""

    core: Core
    redis: RedisCore
    entry: Entry
    wire: Wire
    days: tuple[Played, ...]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """The service, and how it is run. All of these are assumptions.

    `entries_millions`: stored in each region. `body`: their bytes, and those of a written request. `memory_share`: the
    part of the hits that an edge has in its own memory. `utilisation`: how busy a core may be at the peak.
    `edge_cores`, `app_cores`: at least so many in a region. `origin_rate`: requests per second of one core of the
    application, `database_rate` of one of its database. `database_cores`: at least so many for a replica.
    `database_gib`: what each copy of the database holds. `replicated`: bytes that a write sends to each replica. `tls`:
    what TLS and TCP add to bytes on the wire.
    """

    entries_millions: float = 0.5
    body: float = 6 * 1024.0
    memory_share: float = 0.5
    utilisation: float = 0.5
    edge_cores: int = 2
    app_cores: int = 2
    origin_rate: float = 200.0
    database_rate: float = 1_000.0
    database_cores: int = 4
    database_gib: float = 200.0
    replicated: float = 2_048.0
    tls: float = 1.08


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Prices for a month in dollars: assumptions, of the order of public list prices; put in your own.

    `core`: of a virtual machine, with the 2 GiB that it comes with. `memory_gib`: more of it. `storage_gib`: of a
    database's disk. `traffic_gib`: between regions. `database_core`: a managed database's. `upkeep`: hours of people
    and tools that a copy of the application and of its database take in a region, `edge_upkeep` those of an edge; 0, so
    that they do not decide.
    """

    core: float = 25.0
    memory_gib: float = 4.0
    storage_gib: float = 0.12
    traffic_gib: float = 0.05
    database_core: float = 60.0
    upkeep: float = 0.0
    edge_upkeep: float = 0.0


class Cached(msgspec.Struct, frozen=True):
    """What the cache takes: cores of edges and Redis in all regions, GiB of Redis, GiB a month, cores of the origin."""

    edge_cores: int
    redis_cores: int
    redis_gib: float
    traffic_gib: float
    app_cores: int
    database_cores: int
    dollars: float


class Copied(msgspec.Struct, frozen=True):
    """What copies of the origin take: cores of the application and of databases, GiB of these, GiB a month."""

    app_cores: int
    database_cores: int
    database_gib: float
    traffic_gib: float
    dollars: float


def load(file: Path = MEASURED) -> Measured:
    """Read the measured figures. Raises `msgspec.ValidationError` for what is missing or unknown."""
    return msgspec.convert(tomllib.loads(file.read_text("utf-8")), Measured)


def edge_seconds(core: Core, played: Played, memory_share: float) -> float:
    """The seconds of a core that a request takes at an edge, on the mean; a write's replay included."""
    reads, writes = 1 - played.write_share, played.write_share
    hits = reads * played.hit_ratio
    return (
        hits * memory_share / core.memory_hits
        + hits * (1 - memory_share) / core.redis_hits
        + reads * (1 - played.hit_ratio) / core.misses
        + writes * (1 / core.writes + 1 / core.drained)
    )


def redis_seconds(redis: RedisCore, played: Played, memory_share: float) -> float:
    """The seconds of a core that a request takes in Redis, on the mean."""
    reads = 1 - played.write_share
    misses = reads * (1 - played.hit_ratio)
    asked = reads * played.hit_ratio * (1 - memory_share) + misses
    return asked / redis.hits + misses / redis.fills + played.write_share / redis.writes


def _cores(busy: float, regions: int, least: int, utilisation: float) -> int:
    """Whole cores in all regions for so many busy ones, at least so many in each."""
    return max(regions * least, math.ceil(busy / utilisation))


def _traffic(measured: Measured, service: Service, played: Played) -> float:
    """GiB between regions in a month: fills, replayed writes, invalidations."""
    wire, away = measured.wire, (played.regions - 1) / played.regions
    reads = played.rate * (1 - played.write_share)
    writes = played.rate * played.write_share
    fills = reads * (1 - played.hit_ratio) * (played.fetched_bytes + wire.fill_overhead) * away
    replays = writes * (service.body + wire.write_overhead) * away
    told = writes * (played.regions - 1) * wire.invalidation
    return (fills + replays + told) * service.tls * _MONTH / _GIB


def cached(measured: Measured, service: Service, prices: Prices, played: Played) -> Cached:
    """What a cache in the regions of a played day takes, with one origin."""
    peaks = played.rate * played.sum_of_peaks
    edge = _cores(
        peaks * edge_seconds(measured.core, played, service.memory_share),
        played.regions, service.edge_cores, service.utilisation,
    )  # fmt: skip
    redis = _cores(
        peaks * redis_seconds(measured.redis, played, service.memory_share), played.regions, 1, service.utilisation
    )
    gib = played.regions * service.entries_millions * 1e6 * (service.body + measured.entry.overhead) / _GIB
    traffic = _traffic(measured, service, played)
    to_origin = played.write_share + (1 - played.write_share) * (1 - played.hit_ratio)
    app, database = _origin(service, played.rate * played.peak * to_origin, 1)
    dollars = (
        (edge + redis + app) * prices.core
        + gib * prices.memory_gib
        + traffic * prices.traffic_gib
        + database * prices.database_core
        + service.database_gib * prices.storage_gib
        + prices.upkeep
        + played.regions * prices.edge_upkeep
    )
    return Cached(edge, redis, gib, traffic, app, database, dollars)


def copied(service: Service, prices: Prices, played: Played) -> Copied:
    """What a copy of the application and a replica of its database in each region take; all writes go to one."""
    regions = played.regions
    app, database = _origin(service, played.rate * played.sum_of_peaks, regions)
    writes = played.rate * played.write_share
    away = (regions - 1) / regions
    octets = writes * ((regions - 1) * service.replicated + away * service.body)
    traffic = octets * service.tls * _MONTH / _GIB
    gib = regions * service.database_gib
    dollars = (
        app * prices.core
        + database * prices.database_core
        + gib * prices.storage_gib
        + traffic * prices.traffic_gib
        + regions * prices.upkeep
    )
    return Copied(app, database, gib, traffic, dollars)


def _origin(service: Service, peak: float, regions: int) -> tuple[int, int]:
    """Cores of the application and of its databases."""
    return (
        _cores(peak / service.origin_rate, regions, service.app_cores, service.utilisation),
        _cores(peak / service.database_rate, regions, service.database_cores, service.utilisation),
    )


_COLUMNS: Final = (
    "regions", "hits", "edge + Redis cores", "Redis GiB", "GiB/month", "origin cores", "$/month",
    "copies: cores", "database GiB", "GiB/month", "$/month", "cache / copies", "read p95 ms", "write p95 ms",
)  # fmt: skip


def _row(measured: Measured, service: Service, prices: Prices, played: Played) -> list[Cell]:
    ours, theirs = cached(measured, service, prices, played), copied(service, prices, played)
    return [
        str(played.regions), percent(played.hit_ratio), f"{ours.edge_cores} + {ours.redis_cores}",
        ours.redis_gib, ours.traffic_gib, ours.app_cores + ours.database_cores, ours.dollars,
        theirs.app_cores + theirs.database_cores, theirs.database_gib, theirs.traffic_gib, theirs.dollars,
        ours.dollars / theirs.dollars, pair(played.read_p95_ms), pair(played.write_p95_ms),
    ]  # fmt: skip


def report(measured: Measured, service: Service, prices: Prices) -> str:
    """A table for each load; times are with the cache and without."""
    parts = []
    for rate in dict.fromkeys(played.rate for played in measured.days):
        rows = [_row(measured, service, prices, played) for played in measured.days if played.rate == rate]
        parts.append(f"{rate:,.0f} requests per second on the mean\n\n{table(_COLUMNS, rows)}")
    return "\n\n".join(parts)


def main(file: Path) -> int:
    """Print the tables of every played day."""
    print(report(load(file), Service(), Prices()))
    return 0
