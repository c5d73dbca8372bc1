"""Sites of an edge: 1 to 10^4."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp_regioncache import load
from aiohttp_regioncache.cli.arguments import opened
from aiohttp_regioncache.site import site_from
from aiohttp_regioncache.sites.store import put_site

from .. import requests
from ..bodies import KIB
from ..report import Found, Say
from ..stage import Stage, until_right
from .reading import HIT, MEMORY_HIT, Cost, cost, drawn

_READ: Final = 500
_AT_ONCE: Final = 64
_ON: Final = {"sites": {"enabled": True, "allow_private_origins": True, "max_known": 20_000}}


def grow(stage: Stage, say: Say, *, quick: bool) -> Found:
    """Store sites, and read a page of some of them."""
    counts = (1, 100) if quick else (1, 100, 1_000, 10_000)
    database = stage.database()
    redis = stage.redis_url(database)
    settings = stage.settings(redis=redis, more=_ON)
    found: dict[str, dict[int, Cost]] = {"hit in memory": {}, "hit in Redis": {}}
    stored = 0
    for count in counts:
        say(f"growth: {count:,} sites")
        asyncio.run(_put(settings, range(stored, count), f"http://127.0.0.1:{stage.origin.port}"))
        stored = count
        for name, memory in (("hit in memory", True), ("hit in Redis", False)):
            server = stage.serve(memory=memory, redis=redis, more=_ON)
            marks = MEMORY_HIT if memory else HIT
            chosen = random.Random(1).sample(range(count), min(count, _READ))
            plan = [requests.get(f"/{KIB}/0", host=_host(number), marks=marks) for number in chosen]
            until_right(server.port, plan)
            found[name][count] = cost(stage, server, requests.spread(plan), quick=quick)
            server.stop()
    stage.drop(database)
    return drawn("Sites of an edge", "sites", found)


def _host(number: int) -> str:
    return f"s{number}.example"


async def _put(settings: Path, numbers: Sequence[int], origin: str) -> None:
    async with opened(load(settings), looks_only=False) as stores:
        for store in stores.values():
            await store.check()
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            sites = [site_from({"domain": _host(number), "origin": origin}) for number in some]
            await asyncio.gather(*(put_site(list(stores.values()), site) for site in sites))
