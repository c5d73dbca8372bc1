"""Attempts to break the promises: C1, C2, W4, A1, A2, A3, over real sockets and with real failures."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from aiohttp_regioncache import Cache, Connections, Rule, Sync
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.world import REGIONS, SAO_PAULO, TOKYO, Edge, World, one_edge

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}
MERGE = {"Content-Type": "application/merge-patch+json"}
PUBLIC = "public, max-age=60"


async def number(edge: Edge, path: str, **headers: str) -> int:
    """The `n` of the document that a read shows."""
    return int(json.loads((await edge.get(path, headers=headers)).body)["n"])


# --- C1: a fill never overwrites newer state ---


@pytest.mark.parametrize("path", ["/items/1", "/pages/1"])
@pytest.mark.parametrize("edges", [1, 2])
async def test_a_fetch_that_began_before_a_write_fills_nothing_old(tmp_path: Path, path: str, edges: int) -> None:
    async with World(tmp_path) as world:
        reading, writing = [await world.edge() for _ in range(edges)] * (3 - edges)
        world.origin.documents[path] = {"n": 1}
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(reading.get(path, headers=BOB))
        shared = asyncio.ensure_future(reading.get(path))
        await eventually(lambda: world.origin.reads[path] == 2)
        written = await writing.put(path, {"n": 2}, headers=ANN | {"Prefer": "wait=10"})
        assert written.status == 200
        world.origin.read_gate.set()
        for answer in await asyncio.gather(slow, shared):
            assert answer.status == 200
        for _ in range(20):
            for headers in (ANN, BOB, {}):
                assert await number(reading, path, **headers) == 2
                assert await number(writing, path, **headers) == 2


async def test_fills_and_invalidations_in_any_order_end_new(tmp_path: Path) -> None:
    """Readers and writes through at random on several keys; when all is quiet nothing old is served."""
    chance = random.Random(7)
    async with World(tmp_path) as world:
        edges = [await world.edge(), await world.edge(home_region=REGIONS[1])]
        paths = [f"/pages/{number}" for number in range(10)]
        for path in paths:
            world.origin.documents[path] = {"n": 0}

        async def read() -> None:
            for _ in range(100):
                await chance.choice(edges).get(chance.choice(paths))

        async def write(base: int) -> None:
            for step in range(25):
                answer = await chance.choice(edges).put(chance.choice(paths), {"n": base + step})
                assert answer.status == 200

        await asyncio.gather(*(read() for _ in range(4)), write(1000), write(2000))
        for path in paths:
            for edge in edges:

                async def is_new(edge: Edge = edge, path: str = path) -> bool:
                    return bool(await number(edge, path) == world.origin.documents[path]["n"])

                await eventually(is_new)


# --- W4: nobody sees anything older than their own acknowledged write ---


class Acknowledged:
    """What a writer has been told, and readers who hold the answers against it."""

    def __init__(self) -> None:
        self.newest = 0
        self.done = False

    async def watch(self, edge: Edge, path: str, **headers: str) -> None:
        while not self.done:
            known = self.newest
            answer = await edge.get(path, headers=headers)
            assert answer.status == 200, answer
            assert json.loads(answer.body)["n"] >= known, (known, answer)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("control", [PUBLIC, "max-age=0", "private"])
async def test_the_writer_never_sees_anything_older_than_the_own_write(
    tmp_path: Path, method: str, control: str
) -> None:
    async with World(tmp_path) as world:
        edges = [await world.edge(), await world.edge()]
        world.origin.documents["/items/1"] = {"n": 0, "other": "stays"}
        world.origin.cache_control = control
        told = Acknowledged()
        watchers = [asyncio.ensure_future(told.watch(edge, "/items/1", **ANN)) for edge in edges]
        others = asyncio.ensure_future(Acknowledged().watch(edges[0], "/items/1", **BOB))
        for step in range(1, 81):
            headers = ANN | (MERGE if method == "PATCH" else {"Content-Type": "application/json"})
            written = await edges[step % 2].ask(method, "/items/1", data=json.dumps({"n": step}), headers=headers)
            assert written.status == 202
            told.newest = step
            assert await number(edges[step % 2], "/items/1", **ANN) == step
            if step % 10 == 0:  # now and then everything lands, so that clean reads are among them
                await eventually(partial(_has_landed, world, step))
        await eventually(partial(_has_landed, world, 80))
        told.done = True
        await asyncio.gather(*watchers)
        assert not others.done()
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
        for edge in edges:
            assert await number(edge, "/items/1", **ANN) == 80
        assert world.origin.overlaps == 0


async def test_a_fetch_during_which_the_own_write_lands_and_is_trimmed_shows_it(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        origin = world.origin
        origin.documents["/items/1"] = {"a": 1}
        origin.gate.clear()
        origin.read_gate.clear()
        assert (await edge.ask("PATCH", "/items/1", data=b'{"n": 2}', headers=ANN | MERGE)).status == 202
        slow = asyncio.ensure_future(number(edge, "/items/1", **ANN))
        await eventually(lambda: origin.reads["/items/1"] == 1)
        slow_gate, origin.read_gate = origin.read_gate, origin.gate
        origin.gate.set()
        await eventually(lambda: bool(origin.effects))
        await until_hit(edge, "/items/1")  # what another one's fetch has stored needs the landed write no more
        slow_gate.set()
        assert await slow == 2


def _has_landed(world: World, newest: int) -> bool:
    return bool(world.origin.documents["/items/1"]["n"] == newest)


class Listing:
    """An origin whose list is made from its items."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {"1": {"n": 0}}
        self.gate = asyncio.Event()
        self.gate.set()

    async def all(self, _request: web.Request) -> web.Response:
        newest = max(item["n"] for item in self.items.values())
        return web.json_response({"n": newest}, headers={"Cache-Control": PUBLIC})

    async def put(self, request: web.Request) -> web.Response:
        await self.gate.wait()
        self.items[request.match_info["id"]] = await request.json()
        return web.Response(status=204)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/items", self.all)
        app.router.add_put("/items/{id}", self.put)
        return app


@pytest_asyncio.fixture
async def listing(tmp_path: Path) -> AsyncIterator[tuple[Listing, Edge]]:
    origin = Listing()
    async with World(tmp_path) as world, running(origin.app()) as url:
        yield origin, await world.edge(origin=url, cache=Cache(dirty_wait=20.0))


async def test_the_writer_never_sees_a_list_older_than_the_own_write(listing: tuple[Listing, Edge]) -> None:
    _, edge = listing
    told = Acknowledged()
    watcher = asyncio.ensure_future(told.watch(edge, "/items", **ANN))
    other = asyncio.ensure_future(told_nothing(edge))
    for step in range(1, 101):
        assert (await edge.put(f"/items/{step % 5}", {"n": step}, headers=ANN)).status == 202
        told.newest = step
        if step % 3 == 0:
            assert await number(edge, "/items", **ANN) >= step
    told.done = True
    await watcher
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert await number(edge, "/items", **ANN) == 100


async def told_nothing(edge: Edge) -> None:
    """Keep filling the entry of all."""
    while True:
        await edge.get("/items")


async def test_a_list_that_lacks_the_own_write_says_so(tmp_path: Path) -> None:
    origin = Listing()
    async with World(tmp_path) as world, running(origin.app()) as url:
        edge = await world.edge(origin=url, cache=Cache(dirty_wait=0.05))
        origin.gate.clear()
        assert (await edge.put("/items/1", {"n": 1}, headers=ANN)).status == 202
        answer = await edge.get("/items", headers=ANN)
        assert json.loads(answer.body) == {"n": 0}
        assert "detail=dirty" in answer.cache_status
        assert "detail=dirty" not in (await edge.get("/items", headers=BOB)).cache_status
        origin.gate.set()


# --- A1, A2: Redis down ---


@pytest.mark.parametrize("way", ["kill", "pause"])
async def test_with_every_redis_down_reads_work_and_writes_behind_are_refused(tmp_path: Path, way: str) -> None:
    hasty = Connections(timeout=0.1, queue_timeout=0.3)
    async with one_edge(tmp_path, cache=Cache(memory_seconds=0), connections=hasty) as (world, edge):
        world.origin.documents |= {"/pages/1": {"n": 1}, "/items/1": {"n": 1}}
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        for server in world.servers.values():
            await server.kill() if way == "kill" else server.pause()
        for path in ("/pages/1", "/items/1"):
            answer = await edge.get(path)
            assert (answer.status, answer.body) == (200, b'{"n": 1}')
            behind = path == "/items/1"  # writes of it may wait in a region that cannot be asked
            detail = "behind-unreachable" if behind else "no-region"
            assert answer.cache_status == f"regioncache; fwd=miss; detail={detail}"
            assert (answer.headers["Cache-Control"] == "private, no-store") is behind
        refused = await edge.put("/items/1", {"n": 2})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert not world.origin.effects
        through = await edge.put("/pages/1", {"n": 2})
        assert through.status == 200
        for server in world.servers.values():
            await server.start() if way == "kill" else server.resume()

        async def is_accepted() -> bool:
            return (await edge.put("/items/1", {"n": 3})).status == 202

        await eventually(is_accepted)
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 3})
        await until_hit(edge, "/items/1")


async def test_with_one_redis_down_the_next_region_serves(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=Cache(memory_seconds=0)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await world.servers[REGIONS[0]].kill()
        await edge.get("/pages/1", headers=TOKYO)
        hit = await until_hit(edge, "/pages/1", headers=TOKYO)
        assert hit.cache_status.startswith(f"regioncache/{REGIONS[1]}; hit")
        assert (await edge.put("/items/1", {}, headers=TOKYO)).status == 503
        assert (await edge.put("/items/1", {}, headers=SAO_PAULO)).status == 202
        await world.servers[REGIONS[0]].start()

        async def is_back() -> bool:
            answer = await edge.get("/pages/1", headers=TOKYO)
            return answer.cache_status.startswith(f"regioncache/{REGIONS[0]}; hit")

        await eventually(is_back)


async def test_an_entry_of_a_former_run_is_revalidated_before_it_is_used(tmp_path: Path) -> None:
    """The server restarted with its entries, and may have forgotten an invalidation."""
    async with World(tmp_path) as world:
        server = world.servers[REGIONS[0]]
        server._config["appendonly"] = "yes"
        await server.restart()
        edge = await world.edge(cache=Cache(memory_seconds=0))
        world.origin.documents["/pages/1"] = {"n": 1}
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        world.origin.documents["/pages/1"] = {"n": 2}
        await server.restart()

        async def is_asked_again() -> bool:
            return await number(edge, "/pages/1") == 2

        await eventually(is_asked_again)
        assert world.origin.requests[-1].headers["Cache-Control"] == "no-cache"


# --- A3: the origin down ---


async def test_with_the_origin_down_reads_are_stale_where_allowed_and_writes_accepted(tmp_path: Path) -> None:
    cache = Cache(stale_if_error=60.0, memory_seconds=0)
    async with one_edge(tmp_path, cache=cache, sync=Sync(retry_base=0.01, breaker_seconds=0.05)) as (world, edge):
        world.origin.cache_control = "max-age=0"
        world.origin.extra_headers = {"ETag": '"1"'}
        world.origin.documents |= {"/pages/1": {"n": 1}, "/items/1": {"n": 1}}
        for path in ("/pages/1", "/items/1"):
            await edge.get(path)
        await eventually(lambda: not len(edge.cache._tasks))
        await world.origin.stop()
        stale = await edge.get("/pages/1")
        assert (stale.status, stale.body) == (200, b'{"n": 1}')
        assert "detail=stale-if-unreachable" in stale.cache_status
        assert (await edge.get("/pages/2")).status == 502
        assert (await edge.put("/items/1", {"n": 2}, headers=ANN)).status == 202
        assert (await edge.ask("PATCH", "/items/1", data=b'{"m":3}', headers=ANN | MERGE)).status == 202
        assert json.loads((await edge.get("/items/1", headers=ANN)).body) == {"n": 2, "m": 3}
        assert json.loads((await edge.get("/items/1", headers=BOB)).body) == {"n": 1}
        await world.origin.start()
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 2, "m": 3})


async def test_a_patch_is_folded_over_what_is_stale_while_the_origin_is_down(tmp_path: Path) -> None:
    cache = Cache(stale_if_error=60.0)
    async with one_edge(tmp_path, cache=cache, rules=[Rule("/items/{id}", write="behind")]) as (world, edge):
        world.origin.cache_control = "max-age=0"
        world.origin.extra_headers = {"ETag": '"1"'}
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await eventually(lambda: not len(edge.cache._tasks))
        await world.origin.stop()
        assert (await edge.ask("PATCH", "/items/1", data=b'{"m":3}', headers=ANN | MERGE)).status == 202
        assert json.loads((await edge.get("/items/1", headers=ANN)).body) == {"n": 1, "m": 3}
        assert json.loads((await edge.get("/items/1", headers=BOB)).body) == {"n": 1}
