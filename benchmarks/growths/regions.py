"""Regions of an edge: 1 to 20."""

from __future__ import annotations

from aiohttp_regioncache.regions import known_regions

from .. import requests
from ..bodies import KIB
from ..report import Found, Say
from ..stage import Stage, until_right
from .reading import HIT, MEMORY_HIT, Cost, cost, drawn


def grow(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Serve several regions from one edge, which goes by the country that a trusted proxy tells."""
    counts = (1, 5) if quick else (1, 2, 5, 10, 20)
    names = list(known_regions())
    found: dict[str, dict[int, Cost]] = {"hit in memory": {}, "hit in Redis": {}}
    for count in counts:
        say(f"growth: {count} regions")
        databases = [stage.database() for _ in range(count)]
        more = {
            "regions": [
                {"name": name, "redis": stage.redis_url(database)}
                for name, database in zip(names, databases, strict=False)
            ],
            "default_region": names[0],
            "home_region": None,
            "trusted_proxies": ["127.0.0.1"],
        }
        for name, memory in (("hit in memory", True), ("hit in Redis", False)):
            server = stage.serve(memory=memory, redis=stage.redis_url(databases[0]), more=more)
            plans = requests.gets(KIB, fields="CF-IPCountry: BR\r\n", marks=MEMORY_HIT if memory else HIT)
            until_right(server.port, plans[0])
            found[name][count] = cost(stage, server, plans, quick=quick)
            server.stop()
        stage.drop(*databases)
    return drawn("Regions of an edge", "regions", found)
