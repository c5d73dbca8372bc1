"""Origins whose readers lag behind their writers: `holdoff` keeps what they show too late out of every store."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from pathlib import Path

from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import running, until_hit
from tests.support.world import SAO_PAULO, TOKYO, Edge, World

LAG = 0.3
HOLDOFF = 0.6
WATCHED = 2.5
ANN = {"Authorization": "Bearer ann"}


class Lagging:
    """An origin that shows what was written `LAG` seconds ago. `refused` paths answer 409 to every write."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.app = web.Application()
        self.app.router.add_get("/{path:.*}", self._get)
        self.app.router.add_put("/{path:.*}", self._put)
        self._history: defaultdict[str, list[tuple[float, int]]] = defaultdict(lambda: [(0.0, 0)])

    def change(self, path: str, number: int) -> None:
        """Write at the origin itself."""
        self._history[path].append((time.monotonic(), number))

    async def _get(self, request: web.Request) -> web.Response:
        seen = [number for at, number in self._history[request.path] if at <= time.monotonic() - LAG]
        return web.json_response({"n": seen[-1]}, headers={"Cache-Control": "max-age=600"})

    async def _put(self, request: web.Request) -> web.Response:
        if request.path in self.refused:
            return web.Response(status=409)
        self.change(request.path, (await request.json())["n"])
        return web.Response(status=204)


async def written(edge: Edge, path: str, place: dict[str, str], status: int = 204) -> None:
    answer = await edge.put(path, {"n": 1}, headers=place | ANN | {"Prefer": "wait=10"})
    assert answer.status == status


async def test_nothing_stored_is_older_than_the_holdoff_and_the_lag(tmp_path: Path) -> None:
    """As somebody else sees it, through the edge that took the write and another one, memories included."""
    origin = Lagging()
    async with World(tmp_path) as world, running(origin.app) as url:
        edges = [await world.edge(origin=url, cache=Cache(holdoff=HOLDOFF)) for _ in range(2)]
        changes = {
            "/items/landed": (TOKYO, 204), "/items/landed-elsewhere": (SAO_PAULO, 204), "/items/rejected": (TOKYO, 409),
            "/pages/through": (TOKYO, 204), "/pages/through-elsewhere": (SAO_PAULO, 204),
        }  # fmt: skip
        readings = [(edge, path) for edge in edges for path in changes]
        for edge, path in readings:
            await until_hit(edge, path, headers=TOKYO)
        watching = [asyncio.ensure_future(_watch(edge, path)) for edge, path in readings]
        origin.refused.add("/items/rejected")
        origin.change("/items/rejected", 1)  # somebody else was faster
        await asyncio.gather(*(written(edges[0], path, *how) for path, how in changes.items()))
        changed = time.monotonic()
        for (_, path), seen in zip(readings, await asyncio.gather(*watching), strict=True):
            late = {number for asked, number in seen if asked > changed + HOLDOFF + LAG}
            assert late == {1}, path
        for edge, path in readings:
            assert json.loads((await until_hit(edge, path, headers=TOKYO)).body) == {"n": 1}


async def _watch(edge: Edge, path: str) -> list[tuple[float, int]]:
    """Read all the time, until well after the change; gives when each read began, and what it saw."""
    seen: list[tuple[float, int]] = []
    until = time.monotonic() + WATCHED
    while (asked := time.monotonic()) < until:
        answer = await edge.get(path, headers=TOKYO)
        seen.append((asked, json.loads(answer.body)["n"]))
    return seen
