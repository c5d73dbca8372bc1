"""Pending writes of others: 10^2 to 10^5."""

from __future__ import annotations

import time
from typing import Final

from .. import requests
from ..bodies import KIB, body_at
from ..load import CONNECTIONS, Load
from ..processes import Process
from ..report import Found, Say
from ..stage import Stage, until_right
from .reading import HIT, Cost, cost, drawn

_SIZE: Final = 64
_AFFECTED: Final = f"/items/{KIB}"
_BUDGET: Final = 40.0


def grow(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Queue writes, each by somebody else, and read what they do not touch, and what all of them affect.

    Numbers that would take too long to come to are left out.
    """
    counts = (100, 1_000) if quick else (100, 1_000, 10_000, 100_000)
    rule = {"path": "/items/*/{id}", "write": "behind", "affects": [_AFFECTED], "group": "/items"}
    server = stage.serve(memory=False, behind=True, more={"rules": [rule]})
    untouched = requests.gets(KIB, marks=HIT)
    affected = [[requests.get(_AFFECTED, marks=HIT)]]
    until_right(server.port, [*untouched[0], *affected[0]])
    found: dict[str, dict[int, Cost]] = {"another resource": {}, "a resource that all of them affect": {}}
    queued, rate = 0, 0.0
    for count in counts:
        if rate and (count - queued) / rate > _BUDGET:
            break
        say(f"growth: {count:,} pending writes")
        rate = _queue(server, queued, count)
        queued = count
        found["another resource"][count] = cost(stage, server, untouched, quick=quick)
        found["a resource that all of them affect"][count] = cost(stage, server, affected, quick=quick)
    server.stop()
    stage.empty()
    return drawn("Pending writes of others", "pending writes", found)


def _queue(server: Process, queued: int, count: int) -> float:
    """Queue writes until there are `count`; how many a second that were."""
    body = body_at(f"/{_SIZE}")
    plan = [
        requests.put(f"/items/of/{number}", body, status=202, fields=f"Authorization: Bearer {number}\r\n")
        for number in range(queued, count)
    ]
    load = Load(server.port, requests.spread(plan), min(CONNECTIONS, len(plan)))
    started = time.monotonic()
    try:
        measured = load.closed(once=True)
    finally:
        load.close()
    if measured.wrong:
        raise RuntimeError(f"writes were not taken: {dict(measured.wrong)}")
    return len(plan) / (time.monotonic() - started)
