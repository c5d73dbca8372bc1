"""How the cost of a read is measured at each point of a curve."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..load import CONNECTIONS, Asked, Load
from ..plot import Curve
from ..processes import Process
from ..report import Cell, Found, Table

HIT = (b"; hit",)
MEMORY_HIT = (b"; hit", b"detail=memory")


class Cost(msgspec.Struct, frozen=True):
    """What a request came to: answers per second, and microseconds."""

    rate: float
    cpu: float
    p50: float
    p99: float


def cost(server: Process, plans: Sequence[Sequence[Asked]], *, seconds: float, connections: int = CONNECTIONS) -> Cost:
    """Measure a server; what is asked has to be warm. Raises `RuntimeError` for a wrong answer."""
    load = Load(server.port, plans, connections)
    try:
        load.closed(seconds / 4)
        before = server.cpu_seconds()
        measured = load.closed(seconds)
        used = server.cpu_seconds() - before
    finally:
        load.close()
    if measured.wrong:
        raise RuntimeError(f"wrong answers: {dict(measured.wrong)}")
    return Cost(measured.rate, used / measured.count * 1e6, measured.p50 * 1e6, measured.p99 * 1e6)


def drawn(title: str, what: str, series: dict[str, dict[int, Cost]]) -> Found:
    """A table and a curve of the costs of each series, by how many there were of `what`."""
    rows: list[list[Cell]] = [
        [name, count, round(each.rate), each.cpu, round(each.p50), round(each.p99)]
        for name, points in series.items()
        for count, each in points.items()
    ]
    columns = ("read", what, "per second", "CPU per request", "p50", "p99")
    curves = {name: [(float(count), each.cpu) for count, each in points.items()] for name, points in series.items()}
    return Found([Table(title, columns, rows)], [Curve(title, what, "CPU per request (us)", curves)])
