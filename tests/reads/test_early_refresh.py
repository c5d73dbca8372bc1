"""Entries that are fetched anew before they are stale (XFetch)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Rule
from aiohttp_regioncache.records import decode_cache_record
from tests.reads.apps import Counted, fresh, serving, until_hit
from tests.support import eventually
from tests.support.world import REGIONS, Edge, World

SURE = 1e10
"""A beta under which every hit refreshes, as the page takes its time."""
ALICE = {"Authorization": "Bearer alice"}


class Page:
    """A handler that says its number, and takes its time; calls after the first wait for `gate`."""

    def __init__(self, status: int = 200) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self._status = status

    async def handle(self, _request: web.Request) -> web.Response:
        self.calls += 1
        number = self.calls
        if number > 1:
            await self.gate.wait()
        await asyncio.sleep(0.01)
        headers = {"Cache-Control": "max-age=60"}
        return web.Response(status=200 if number == 1 else self._status, text=str(number), headers=headers)


async def settled(edge: Edge) -> None:
    await eventually(lambda: not edge.cache._tasks)


@pytest.mark.parametrize("where", ["cache", "rule"])
@pytest.mark.parametrize("memory_seconds", [0, 60])
async def test_a_hit_is_served_and_refreshed_by_one_fetch(tmp_path: Path, where: str, memory_seconds: float) -> None:
    page = Page()
    async with World(tmp_path) as world:
        cache = Cache(early_refresh=SURE if where == "cache" else 0, memory_seconds=memory_seconds)
        rules = [Rule("/page", early_refresh=SURE)] if where == "rule" else []
        edge = await world.edge(serving(page=page.handle), cache=cache, rules=rules)
        await edge.get("/page")
        await settled(edge)
        for _ in range(20):
            reply = await edge.get("/page")
            assert (reply.body, "; hit; ttl=" in reply.cache_status) == (b"1", True)
            assert "memory" not in reply.cache_status  # which could refresh nothing
        await eventually(lambda: page.calls == 2)
        await asyncio.gather(*(edge.get("/page") for _ in range(20)))
        assert page.calls == 2
        page.gate.set()
        await settled(edge)
        assert (await edge.get("/page")).body == b"2"


@pytest.mark.parametrize("rule", [Rule("/page"), Rule("/page", early_refresh=0)])
async def test_nothing_is_refreshed_early_unless_it_is_asked_for(tmp_path: Path, rule: Rule) -> None:
    page = Page()
    async with World(tmp_path) as world:
        cache = Cache(early_refresh=SURE if rule.early_refresh is not None else 0, memory_seconds=0)
        edge = await world.edge(serving(page=page.handle), cache=cache, rules=[rule])
        await edge.get("/page")
        await until_hit(edge, "/page")
        await asyncio.gather(*(edge.get("/page") for _ in range(20)))
        await settled(edge)
        assert page.calls == 1


async def test_who_must_not_fill_the_cache_refreshes_nothing(tmp_path: Path) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(early_refresh=SURE))
        await edge.get("/page")
        await settled(edge)
        assert "; hit" in (await edge.get("/page", headers=ALICE)).cache_status
        assert "; hit" in (await edge.ask("HEAD", "/page")).cache_status
        await settled(edge)
        assert page.calls == 1


@pytest.mark.parametrize("status", [500, 502])
async def test_a_refresh_that_fails_leaves_what_is_there(tmp_path: Path, status: int) -> None:
    page = Page(status)
    page.gate.set()
    async with World(tmp_path) as world:
        cache = Cache(early_refresh=SURE, ttl={status: 60})
        edge = await world.edge(serving(page=page.handle), cache=cache)
        await edge.get("/page")
        await settled(edge)
        for calls in range(2, 5):
            assert (await edge.get("/page")).body == b"1"
            await settled(edge)
            assert page.calls == calls


async def test_what_a_fetch_took_is_stored_with_it(tmp_path: Path) -> None:
    async def page(_request: web.Request) -> web.Response:
        begun = time.monotonic()
        await eventually(lambda: time.monotonic() > begun + 0.2)
        return fresh("slow")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page, other=Counted(lambda _: fresh("fast")).handle))
        for path in ("/page", "/other"):
            await edge.get(path)
            await settled(edge)
        async with world.servers[REGIONS[0]].client() as client:
            stored = [data for key in await client.keys("*:e:*") if isinstance(data := await client.get(key), bytes)]
        records = {record.body: record.cost for data in stored if (record := decode_cache_record(data)) is not None}
        assert 0 < records[b"fast"] < records[b"slow"]
        assert 0.15 <= records[b"slow"] < 10
