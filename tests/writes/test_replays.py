"""An origin that runs the plug-in too: replays pass, forged ones do not, loops end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Region, Rule, Settings
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.replays import Replay, cdn_id, sign_replay
from tests.reads.apps import until_hit
from tests.support import eventually
from tests.support.servers import free_port
from tests.support.world import REGIONS, SECRET, Edge, World, forwarding_app, one_edge


class Items:
    """The handlers of an origin that keeps one text."""

    def __init__(self) -> None:
        self.text = "old"
        self.puts: list[web.Request] = []

    async def get(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.text, headers={"Cache-Control": "max-age=60"})

    async def put(self, request: web.Request) -> web.Response:
        self.puts.append(request)
        self.text = await request.text()
        return web.Response(status=204)

    def app(self, prefix: str = "") -> web.Application:
        app = web.Application()
        app.router.add_get(prefix + "/items/1", self.get)
        app.router.add_put(prefix + "/items/1", self.put)
        return app


@contextlib.asynccontextmanager
async def at(world: World, port: int, app: web.Application, settings: Settings) -> AsyncIterator[Edge]:
    """Run an application with the plug-in on a port."""
    regioncache.setup(app, settings)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield Edge(app, runner, world.session)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("prefix", ["", "/base"])
async def test_an_origin_with_the_same_settings_takes_reads_and_replays(tmp_path: Path, prefix: str) -> None:
    items, port = Items(), free_port()
    rules: Any = [Rule(prefix + "/items/{id}", write="behind"), Rule("/items/{id}", write="behind")]
    async with World(tmp_path) as world:
        settings = world.settings(origin=f"http://127.0.0.1:{port}{prefix}", rules=rules)
        async with at(world, port, items.app(prefix), settings) as origin:
            edge = await world.edge(origin=settings.origin, rules=rules, home_region=REGIONS[1])
            assert (await edge.get("/items/1")).body == b"old"
            await until_hit(origin, prefix + "/items/1")
            written = await edge.ask("PUT", "/items/1", data=b"new", headers={"Prefer": "wait=10"})
            assert written.status == 204
            assert len(items.puts) == 1
            assert items.puts[0].headers["CDN-Loop"] == cdn_id(REGIONS, settings.origin)
            assert (await origin.get(prefix + "/items/1")).body == b"new"

            async def is_new() -> bool:
                return (await edge.get("/items/1")).body == b"new"

            await eventually(is_new)
            assert len(items.puts) == 1


def marks() -> list[str]:
    """Marks that no edge of this deployment would accept for a PUT of /items/1 now."""
    own, other = Signer([SECRET]), Signer(["another secret of some length"])
    now = int(time.time())
    return [
        "garbage",
        ";;;;",
        "1;2;3;4;5",
        sign_replay(other, Replay("id", 1, "fence", now), "PUT", "/items/1"),
        sign_replay(own, Replay("id", 1, "fence", now - 3600), "PUT", "/items/1"),
        sign_replay(own, Replay("id", 1, "fence", now), "PUT", "/items/2"),
        sign_replay(own, Replay("id", 1, "fence", now), "POST", "/items/1"),
    ]


async def test_a_forged_mark_is_a_write_like_any_other(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        for number, mark in enumerate(marks(), 1):
            answer = await edge.put("/items/1", {"n": number}, headers={"Regioncache-Replay": mark})
            assert answer.status == 202, mark
        await eventually(lambda: len(world.origin.effects) == len(marks()))
        sent = [request.headers.getall("Regioncache-Replay") for request in world.origin.requests]
        assert all(len(field) == 1 and field[0] not in marks() for field in sent)


async def test_a_true_mark_passes(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        mark = sign_replay(Signer([SECRET]), Replay("id", 1, "fence", int(time.time())), "PUT", "/items/1")
        assert (await edge.put("/items/1", {"n": 1}, headers={"Regioncache-Replay": mark})).status == 200


async def test_a_request_that_comes_round_again_is_a_loop(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        name = cdn_id(REGIONS, world.origin.url)
        for value, status in ((name, 508), (f"other, {name};x=1", 508), ("other", 404)):
            answer = await edge.get(f"/pages/{status}", headers={"CDN-Loop": value})
            assert answer.status == status
        assert (await edge.put("/pages/1", {}, headers={"CDN-Loop": name})).status == 508


async def test_a_gateway_whose_origin_is_itself_ends_in_508(tmp_path: Path) -> None:
    port = free_port()
    async with World(tmp_path) as world:
        settings = world.settings(origin=f"http://127.0.0.1:{port}", rules=[])
        async with at(world, port, forwarding_app(), settings) as edge:
            assert (await edge.get("/pages/1")).status == 508
            assert (await edge.put("/pages/1", {})).status == 508


async def test_a_write_behind_to_a_gateway_whose_origin_is_itself_is_sent_once_at_a_time(tmp_path: Path) -> None:
    port = free_port()
    async with World(tmp_path) as world:
        sync = regioncache.Sync(max_tries=2, retry_base=0.01)
        settings = world.settings(origin=f"http://127.0.0.1:{port}", sync=sync)
        async with at(world, port, forwarding_app(), settings) as edge:
            answer = await edge.put("/items/1", {}, headers={"Prefer": "wait=10"})
            assert answer.status == 508
            page = json.loads((await edge.get(f"/_regioncache/writes/{await only_write(world)}")).body)
            assert (page["state"], page["reason"], page["tries"]) == ("dead", "too-many-tries", 2)


async def only_write(world: World) -> str:
    """The id of the one write that the first region knows."""
    async with world.servers[REGIONS[0]].client() as client:
        keys = [key async for key in client.scan_iter("*:w:*")]
    assert len(keys) == 1
    return str(keys[0], "ascii").rpartition(":")[2]


async def test_regions_are_named_in_the_loop_mark(tmp_path: Path) -> None:
    origin = "http://127.0.0.1:1"
    assert cdn_id(["a", "b"], origin) == cdn_id(["b", "a"], origin) != cdn_id(["a"], origin)
    assert Region(REGIONS[0], redis="redis://a").name in REGIONS
