"""Octets of a body: 0 to 1 MiB."""

from __future__ import annotations

from .. import requests
from ..bodies import KIB
from ..report import Found, Say
from ..stage import Stage, until_right
from .reading import HIT, MEMORY_HIT, Cost, cost, drawn


def grow(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Read bodies of every size, from memory and from Redis."""
    sizes = (0, 16 * KIB) if quick else (0, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB)
    found: dict[str, dict[int, Cost]] = {"hit in memory": {}, "hit in Redis": {}}
    for name, memory in (("hit in memory", True), ("hit in Redis", False)):
        server = stage.serve(memory=memory)
        for size in sizes:
            say(f"growth: bodies of {size:,} octets, {name}")
            plan = [requests.get(f"/{size}/{number}", marks=MEMORY_HIT if memory else HIT) for number in range(16)]
            until_right(server.port, plan)
            found[name][size] = cost(stage, server, [plan], quick=quick)
        server.stop()
    return drawn("Octets of a body", "octets", found)
