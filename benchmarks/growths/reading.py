"""How the cost of a read is measured at each point of a curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from ..figures import median
from ..load import CONNECTIONS, Asked, Load
from ..plot import Curve
from ..processes import Process
from ..report import Cell, Found, Table
from ..stage import Stage

HIT = (b"; hit",)
MEMORY_HIT = (b"; hit", b"detail=memory")
_PARTS: Final = 3


class Cost(msgspec.Struct, frozen=True):
    """What a request came to: answers per second, microseconds of the server's and Redis' cores and of a wait."""

    rate: float
    cpu: float
    redis: float
    p50: float
    p99: float
    wrong: dict[str, int]


def cost(
    stage: Stage,
    server: Process,
    plans: Sequence[Sequence[Asked]],
    *,
    quick: bool,
    connections: int = CONNECTIONS,
) -> Cost:
    """Measure a server in three parts, of which the medians count, once it has been asked for half as long.

    A point stands for itself: a slow second of the machine would look like growth.
    """
    seconds = 0.2 if quick else 0.5
    load = Load(server.port, plans, connections)
    try:
        load.closed(seconds * _PARTS / 2)
        parts = [_part(stage, server, load, seconds) for _ in range(_PARTS)]
    finally:
        load.close()
    wrong = sum((Counter(part.wrong) for part in parts), Counter[str]())
    names = [name for name in Cost.__struct_fields__ if name != "wrong"]
    return Cost(**{name: median([getattr(part, name) for part in parts]) for name in names}, wrong=dict(wrong))


def _part(stage: Stage, server: Process, load: Load, seconds: float) -> Cost:
    before = server.cpu_seconds(), stage.valkey.cpu_seconds()
    measured = load.closed(seconds)
    used, beside = server.cpu_seconds() - before[0], stage.valkey.cpu_seconds() - before[1]
    each = 1e6 / measured.count
    return Cost(measured.rate, used * each, beside * each, measured.p50 * 1e6, measured.p99 * 1e6, dict(measured.wrong))


def drawn(title: str, what: str, series: dict[str, dict[int, Cost]]) -> Found:
    """A table and a curve of the costs of each series, by how many there were of `what`."""
    rows: list[list[Cell]] = []
    for name, points in series.items():
        for count, each in points.items():
            wrong = ", ".join(f"{number} {text}" for text, number in each.wrong.items())
            rows.append([
                name, count, round(each.rate), each.cpu, each.redis, round(each.p50), round(each.p99), wrong or None
            ])  # fmt: skip
    columns = ("read", what, "per second", "CPU of the server", "CPU of Redis", "p50", "p99", "wrong")
    curves = {
        name: [(float(count), each.cpu + each.redis) for count, each in points.items()]
        for name, points in series.items()
    }
    return Found(
        [Table(title, columns, rows)],
        [Curve(title, what, "CPU per request, with Redis (us)", curves)],
        wrong=sum(sum(each.wrong.values()) for points in series.values() for each in points.values()),
    )
