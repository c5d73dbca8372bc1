"""Connections: 1 to 1,000 that are busy, and what one that is idle takes."""

from __future__ import annotations

from .. import requests
from ..bodies import KIB
from ..load import Asked, Load
from ..processes import Process, module
from ..report import Cell, Found, Say, Table
from ..stage import Stage, until_right
from .reading import MEMORY_HIT, Cost, cost, drawn


def grow(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Read over more and more connections."""
    counts = (1, 100) if quick else (1, 10, 32, 100, 300, 1_000)
    found: dict[str, dict[int, Cost]] = {}
    for name, server, plans in _servers(stage):
        found[name] = {}
        for count in counts:
            say(f"growth: {count:,} connections, {name}")
            found[name][count] = cost(stage, server, plans, quick=quick, connections=count)
        server.stop()
    return drawn("Connections", "connections", found)


def idle(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Measure what connections take that have asked once and are silent since."""
    count = 200 if quick else 2_000
    rows: list[list[Cell]] = []
    for name, server, plans in _servers(stage):
        say(f"growth: {count:,} idle connections, {name}")
        _ask(server, plans, 32)
        before = server.rss_kib()
        rows.append([name, count, (_ask(server, plans, count) - before) / count])
        server.stop()
    return Found([Table("Memory of an idle connection", ("server", "connections", "KiB for each"), rows)])


def _ask(server: Process, plans: list[list[Asked]], count: int) -> int:
    """Ask once over each of some connections; the server's memory while they stay."""
    load = Load(server.port, plans, count)
    try:
        load.closed(0.0)
        return server.rss_kib()
    finally:
        load.close()


def _servers(stage: Stage) -> list[tuple[str, Process, list[list[Asked]]]]:
    bare = stage.start(lambda port: module("benchmarks.servers.bare", port))
    gateway = stage.serve(memory=True)
    found = [("bare", bare, requests.gets(KIB)), ("gateway, memory", gateway, requests.gets(KIB, marks=MEMORY_HIT))]
    for _, server, plans in found:
        until_right(server.port, plans[0])
    return found
