"""The part `workers`: what a second process brings."""

from __future__ import annotations

from typing import Final

from . import cores, requests
from .bodies import KIB
from .figures import median
from .load import CONNECTIONS, Load
from .processes import Process
from .report import Cell, Found, Say, Table
from .stage import Stage, until_right

_NOTE: Final = """The servers may use both cores here, which they share with the load and with Redis: with two cores a
second worker cannot bring all of another core. `CPU per request` (microseconds, of all workers) says whether they are
in each other's way."""


def workers(stage: Stage, say: Say, *, seconds: float = 1.5, rounds: int = 3) -> Found:
    """Measure one and two workers in turn, with hits in memory and in Redis."""
    rows: list[list[Cell]] = []
    for memory in (True, False):
        servers = {count: stage.serve(workers=count, memory=memory, on=cores.BOTH) for count in (1, 2)}
        found: dict[int, list[tuple[float, float]]] = {count: [] for count in servers}
        for number in range(rounds):
            for count, server in servers.items():
                say(f"workers: {count}, round {number + 1}/{rounds}")
                found[count].append(_measure(server, seconds, memory=memory))
        one = median([rate for rate, _ in found[1]])
        for count, samples in found.items():
            rate, cpu = (median([sample[at] for sample in samples]) for at in (0, 1))
            rows.append(["memory" if memory else "Redis", count, round(rate), rate / one, cpu])
        for server in servers.values():
            server.stop()
    columns = ("hits in", "workers", "per second", "ratio", "CPU per request")
    return Found([Table("Workers", columns, rows, _NOTE)])


def _measure(server: Process, seconds: float, *, memory: bool) -> tuple[float, float]:
    """Answers per second, and microseconds of CPU for each."""
    plans = requests.gets(KIB, marks=(b"; hit", b"detail=memory") if memory else (b"; hit",))
    load = Load(server.port, plans, CONNECTIONS)
    try:
        until_right(server.port, plans[0])
        load.closed(once=True)  # each worker fills a memory of its own
        before = server.cpu_seconds()
        measured = load.closed(seconds)
        if measured.wrong:
            raise RuntimeError(f"wrong answers: {dict(measured.wrong)}")
        return measured.rate, (server.cpu_seconds() - before) / measured.count * 1e6
    finally:
        load.close()
