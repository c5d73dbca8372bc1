"""Write-through: the origin answers, then no region serves the old state."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Cache, Connections, Region
from aiohttp_regioncache.store.entries import invalidate
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.origin import Origin
from tests.support.proxy import TcpProxy
from tests.support.world import REGIONS, SAO_PAULO, TOKYO, Edge, World, one_edge


async def warm(edge: Edge, *paths: str, **headers: str) -> None:
    for path in paths:
        await edge.get(path, headers=headers)
        await until_hit(edge, path, headers=headers)


def writing(status: int = 200, **headers: str) -> web.Application:
    """An application whose pages are fresh and whose writes answer with `headers`; `X-Fail` raises."""
    app = web.Application()

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="page", headers={"Cache-Control": "max-age=60"})

    async def write(request: web.Request) -> web.Response:
        if "X-Fail" in request.headers:
            raise RuntimeError("after the commit")
        if status == 303:
            raise web.HTTPSeeOther(headers["Location"])
        return web.Response(status=status, headers=headers)

    app.router.add_get("/{path:.*}", page)
    app.router.add_route("*", "/{path:.*}", write)
    return app


async def is_stored(edge: Edge, path: str, **headers: str) -> bool:
    answer = await edge.get(path, headers=headers | {"Cache-Control": "only-if-cached"})
    return answer.status == 200


async def test_a_write_through_is_marked_and_invalidates_its_target(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=Cache(memory_seconds=0)) as (world, edge):
        world.origin.documents |= {"/pages/1": {}, "/pages/2": {}}
        await warm(edge, "/pages/1", "/pages/2")
        written = await edge.put("/pages/1", {"n": 1})
        assert (written.status, json.loads(written.body)) == (200, {"applied": 1})
        assert written.cache_status == "regioncache/ap-northeast-1; fwd=method"
        assert not await is_stored(edge, "/pages/1")
        assert await is_stored(edge, "/pages/2")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
async def test_every_unsafe_method_invalidates(tmp_path: Path, method: str) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(writing(), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/1")
        await edge.ask(method, "/pages/1")
        assert not await is_stored(edge, "/pages/1")


async def test_what_the_answer_names_is_invalidated_too(tmp_path: Path) -> None:
    headers = {"Location": "/other/1?x=1", "Content-Location": "/pages/3"}
    async with World(tmp_path) as world:
        edge = await world.edge(writing(201, **headers), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/1", "/pages/2", "/pages/3", "/other/1")
        assert (await edge.ask("POST", "/pages/1")).status == 201
        assert [await is_stored(edge, path) for path in ("/pages/1", "/pages/2", "/pages/3", "/other/1")] == [
            False, True, False, False,
        ]  # fmt: skip


async def test_another_host_in_the_answer_invalidates_nothing(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(writing(201, Location="http://elsewhere/pages/2"), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/2")
        await edge.ask("POST", "/pages/1")
        assert await is_stored(edge, "/pages/2")


async def test_a_raised_redirect_is_an_answer(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(writing(303, Location="/pages/2"), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/1", "/pages/2")
        answer = await edge.ask("POST", "/pages/1")
        assert (answer.status, answer.headers["Location"]) == (303, "/pages/2")
        assert "fwd=method" in answer.cache_status
        assert not await is_stored(edge, "/pages/1")
        assert not await is_stored(edge, "/pages/2")


@pytest.mark.parametrize("status", [400, 404, 409, 500, 501, 503])
async def test_a_write_that_is_answered_with_an_error_invalidates_nothing(tmp_path: Path, status: int) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(writing(status), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/1")
        assert (await edge.ask("POST", "/pages/1")).status == status
        assert await is_stored(edge, "/pages/1")


@pytest.mark.parametrize("status", [502, 504])
async def test_a_failure_that_tells_nothing_invalidates(tmp_path: Path, status: int) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(writing(status), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/1")
        assert (await edge.ask("POST", "/pages/1")).status == status
        assert not await is_stored(edge, "/pages/1")


async def test_a_handler_that_fails_may_have_written(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(writing(), cache=Cache(memory_seconds=0))
        await warm(edge, "/pages/1")
        assert (await edge.ask("POST", "/pages/1", headers={"X-Fail": "1"})).status == 500
        assert not await is_stored(edge, "/pages/1")


async def test_a_client_that_leaves_may_have_written(tmp_path: Path) -> None:
    committed = asyncio.Event()

    async def write(_request: web.Request) -> web.Response:
        committed.set()
        await asyncio.Event().wait()
        raise AssertionError("cancelled above")

    app = web.Application()
    app.router.add_post("/pages/1", write)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="page", headers={"Cache-Control": "max-age=60"})

    app.router.add_get("/pages/1", page)
    async with World(tmp_path) as world:
        regioncache.setup(app, world.settings(cache=Cache(memory_seconds=0)))
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        edge = Edge(app, runner, world.session)
        try:
            await warm(edge, "/pages/1")
            asked = asyncio.ensure_future(edge.ask("POST", "/pages/1"))
            await committed.wait()
            asked.cancel()

            async def is_invalidated() -> bool:
                return not await is_stored(edge, "/pages/1")

            await eventually(is_invalidated)
        finally:
            await edge.stop()


async def test_the_answer_is_not_there_before_the_old_state_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a forwarding handler: whoever has the answer reads what they wrote (W4)."""

    async def slowly(*arguments: Any, **options: Any) -> None:
        await asyncio.sleep(0.1)
        await invalidate(*arguments, **options)

    monkeypatch.setattr("aiohttp_regioncache.writes.through.invalidate", slowly)
    async with one_edge(tmp_path, rules=[]) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await warm(edge, "/pages/1")
        elsewhere = {"Connection": "close"}  # one connection answers its requests one after the other
        assert (await edge.put("/pages/1", {"n": 2}, headers=elsewhere)).status == 200
        assert (await edge.get("/pages/1")).body == b'{"n": 2}'


async def test_a_streamed_answer_is_marked_and_invalidates(tmp_path: Path) -> None:
    async def write(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"written")
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_post("/pages/1", write)
    async with World(tmp_path) as world, running(app) as origin:
        edge = await world.edge(origin=origin)
        answer = await edge.ask("POST", "/pages/1")
        assert (answer.body, answer.cache_status) == (b"written", "regioncache/ap-northeast-1; fwd=method")


async def test_every_region_stops_serving_the_old_state(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        for place in (TOKYO, SAO_PAULO):
            await warm(edge, "/pages/1", **place)
        await edge.put("/pages/1", {"n": 2}, headers=SAO_PAULO)
        for place in (TOKYO, SAO_PAULO):

            async def is_new(place: dict[str, str] = place) -> bool:
                return (await edge.get("/pages/1", headers=place)).body == b'{"n": 2}'

            await eventually(is_new)


async def test_a_region_that_was_down_hears_of_it_when_it_is_back(tmp_path: Path) -> None:
    """Also the one that the write would have gone to: another tells it."""
    async with one_edge(tmp_path, cache=Cache(memory_seconds=0)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        for place in (TOKYO, SAO_PAULO):
            await warm(edge, "/pages/1", **place)
        server = world.servers[REGIONS[0]]
        server.pause()
        written = await edge.put("/pages/1", {"n": 2}, headers=TOKYO)
        assert written.status == 200
        server.resume()

        async def is_new() -> bool:
            return (await edge.get("/pages/1", headers=TOKYO)).body == b'{"n": 2}'

        await eventually(is_new)


# --- past writes behind ---


async def test_a_write_through_waits_for_the_writes_behind_before_it(tmp_path: Path) -> None:
    rules = [regioncache.Rule("/items/{id}", methods=("PUT",), write="behind")]
    async with one_edge(tmp_path, rules=rules, cache=Cache(dirty_wait=30)) as (world, edge):
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": 1})
        through = asyncio.ensure_future(edge.ask("POST", "/items/1", data=b"{}"))
        await eventually(lambda: bool(world.origin.in_flight["/items/1"]))
        assert not through.done()
        world.origin.gate.set()
        assert (await through).status == 200
        assert [effect.method for effect in world.origin.effects] == ["PUT", "POST"]
        assert world.origin.overlaps == 0


async def test_a_write_through_does_not_overtake(tmp_path: Path) -> None:
    rules = [regioncache.Rule("/items/{id}", methods=("PUT",), write="behind")]
    async with one_edge(tmp_path, rules=rules, cache=Cache(dirty_wait=0.05)) as (world, edge):
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": 1})
        refused = await edge.ask("POST", "/items/1", data=b"{}")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.cache_status
        for server in world.servers.values():
            await server.kill()
        unknown = await edge.ask("POST", "/items/1", data=b"{}")
        assert (unknown.status, unknown.headers["Retry-After"]) == (503, "1")


async def test_a_change_that_no_region_could_be_told_of_is_told_when_one_is_back(tmp_path: Path) -> None:
    async with World(tmp_path) as world, TcpProxy("127.0.0.1", world.servers[REGIONS[0]].port) as proxy:
        region = Region(REGIONS[0], redis=f"redis://127.0.0.1:{proxy.port}")
        away = await world.edge(regions=[region], connections=Connections(breaker_failures=1000))
        stays = await world.edge(
            regions=[Region(REGIONS[0], redis=world.servers[REGIONS[0]].url)], cache=Cache(memory_seconds=0)
        )
        host = {"Host": "shop.example"}
        world.origin.documents["/pages/1"] = {"n": 1}
        for edge in (stays, away):
            await until_hit(edge, "/pages/1", headers=host)
        proxy.refuse()
        await proxy.drop_connections()
        assert (await away.put("/pages/1", {"n": 2}, headers=host)).status == 200
        assert json.loads((await stays.get("/pages/1", headers=host)).body) == {"n": 1}
        await proxy.accept()
        # Who has answered the write knows better until then.
        assert json.loads((await away.get("/pages/1", headers=host)).body) == {"n": 2}

        async def is_new() -> bool:
            return bool(json.loads((await stays.get("/pages/1", headers=host)).body) == {"n": 2})

        await eventually(is_new)
        await until_hit(away, "/pages/1", headers=host)


async def test_when_too_many_changes_wait_to_be_told_everything_is_invalidated(tmp_path: Path) -> None:
    origin = Origin(idempotent=False)
    async with World(tmp_path, origin=origin) as world, TcpProxy("127.0.0.1", world.servers[REGIONS[0]].port) as proxy:
        region = Region(REGIONS[0], redis=f"redis://127.0.0.1:{proxy.port}")
        edge = await world.edge(
            regions=[region], connections=Connections(breaker_failures=1000), cache=Cache(memory_seconds=0)
        )
        (store,) = edge.cache.stores.values()
        edge.cache._tasks._limit = 3
        for path in ("/pages/1", "/other"):
            world.origin.documents[path] = {"n": 1}
            await until_hit(edge, path)
        proxy.refuse()
        await proxy.drop_connections()
        for number in range(20):
            assert (await edge.put(f"/pages/{number}", {"n": 2})).status == 200
        assert len(store.untold) <= 3 + 1
        await proxy.accept()
        assert json.loads((await edge.get("/pages/1")).body) == {"n": 2}
        await eventually(lambda: not len(store.untold))
        assert "hit" not in (await edge.get("/other")).cache_status  # it may have changed, too
        await until_hit(edge, "/other")
