"""What becomes of a write through whose edge dies before it has told anybody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aiohttp_regioncache import Sync
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.servers import ValkeyServer
from tests.support.world import REGIONS, SAO_PAULO, TOKYO, Edge, World, one_edge


class Committing:
    """An origin that applies a write at once, and answers it when `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.number = 0
        self.app = web.Application()
        self.app.router.add_get("/{path:.*}", self._get)
        self.app.router.add_put("/{path:.*}", self._put)

    async def _get(self, _request: web.Request) -> web.Response:
        return web.json_response({"n": self.number}, headers={"Cache-Control": "max-age=600"})

    async def _put(self, request: web.Request) -> web.Response:
        self.number = (await request.json())["n"]
        await self.gate.wait()
        return web.Response(status=204)


@contextlib.asynccontextmanager
async def edge_process(origin: str, world: World) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    regions = [f"{name}={server.url}" for name, server in world.servers.items()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.writes.worker", origin, *regions, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def noted(server: ValkeyServer, region: str) -> list[tuple[bytes, float]]:
    async with server.client() as client:
        found: Any = await client.zrange(f"{{rc:{region}:0}}:intents", 0, -1, withscores=True)
        return list(found)


async def in_all(world: World) -> int:
    return sum([len(await noted(server, name)) for name, server in world.servers.items()])


async def until_told(edge: Edge, number: int, **headers: str) -> None:
    async def is_new() -> bool:
        return bool(json.loads((await edge.get("/pages/1", headers=headers)).body)["n"] == number)

    await eventually(is_new)


async def test_an_edge_that_dies_after_the_commit_leaves_nothing_old_behind(tmp_path: Path) -> None:
    origin = Committing()
    async with World(tmp_path) as world, running(origin.app) as url, edge_process(url, world) as (process, address):
        edge = await world.edge(origin=url)
        for place in (TOKYO, SAO_PAULO):
            await until_hit(edge, "/pages/1", headers=place)
        put = asyncio.ensure_future(world.session.put(f"{address}/pages/1", json={"n": 1}))
        await eventually(lambda: origin.number == 1)
        process.kill()
        [failure] = await asyncio.gather(put, return_exceptions=True)
        assert isinstance(failure, aiohttp.ClientError)
        for place in (TOKYO, SAO_PAULO):
            await until_told(edge, 1, **place)
        assert await in_all(world) == 0


async def test_what_has_been_answered_leaves_no_intent(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        put = asyncio.ensure_future(edge.put("/pages/1", {"n": 1}))
        await eventually(lambda: world.origin.in_flight.total() == 1)
        assert await in_all(world) == 1
        world.origin.gate.set()
        assert (await put).status == 200
        assert await in_all(world) == 0
        world.origin.refuse["/pages/1"] = 409
        assert (await edge.put("/pages/1", {"n": 2})).status == 409

        async def is_taken_back() -> bool:
            return not await in_all(world)

        await eventually(is_taken_back)
        await edge.put("/items/1", {"n": 1}, headers={"Prefer": "wait=10"})
        assert await in_all(world) == 0


async def test_a_slow_write_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    async with one_edge(tmp_path, sync=Sync(intent_seconds=2.0)) as (world, edge):
        world.origin.gate.clear()
        put = asyncio.ensure_future(edge.put("/pages/1", {"n": 1}))
        server, region = world.servers[REGIONS[0]], REGIONS[0]
        await eventually(lambda: world.origin.in_flight.total() == 1)
        [(_, first)] = await noted(server, region)

        async def is_renewed() -> bool:
            [(_, until)] = await noted(server, region)
            return until > first + 1_500  # more than once

        await eventually(is_renewed)
        assert await edge.cache.sweepers[0].turn() == 0
        world.origin.gate.set()
        assert (await put).status == 200
        assert await in_all(world) == 0


async def test_any_region_takes_the_intent_and_without_one_the_write_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with one_edge(tmp_path) as (world, edge):
        await world.servers[REGIONS[0]].kill()
        world.origin.gate.clear()
        put = asyncio.ensure_future(edge.put("/pages/1", {"n": 1}, headers=TOKYO))
        await eventually(lambda: world.origin.in_flight.total() == 1)
        assert len(await noted(world.servers[REGIONS[1]], REGIONS[1])) == 1
        world.origin.gate.set()
        assert (await put).status == 200
        assert not await noted(world.servers[REGIONS[1]], REGIONS[1])
        await world.servers[REGIONS[1]].kill()
        assert (await edge.put("/pages/1", {"n": 2})).status == 200
        assert "no region notes this write" in caplog.text


async def test_an_intent_that_no_version_wrote_is_dropped(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge), world.servers[REGIONS[0]].client() as client:
        await client.zadd("{rc:ap-northeast-1:0}:intents", {b"\xc1 garbage": 0, b"": 1})

        async def is_gone() -> bool:
            await edge.cache.sweepers[0].turn()
            return not await in_all(world)

        await eventually(is_gone)
