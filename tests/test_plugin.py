"""The plug-in: setting up, nesting, decorators, start and shutdown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Cache, NotSetUpError, Region, Rule, Settings, SettingsError, Sync
from tests.reads.apps import Counted, fresh, running, serving, until_hit
from tests.support import eventually
from tests.support.servers import ValkeyServer, free_port
from tests.support.world import REGIONS, SECRET, Edge, World, forwarding_app, one_edge

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without the password."""
    if request.headers.get("X-Password") != "open":
        raise web.HTTPForbidden
    return await handler(request)


OPEN = {"X-Password": "open"}


# --- nesting ---


async def test_a_parents_cache_never_answers_a_sub_applications_protected_page(tmp_path: Path) -> None:
    handler = Counted(lambda number: fresh(f"secret {number}"))
    sub = serving(page=handler.handle)
    sub.middlewares.append(guard)
    app = web.Application()
    app.add_subapp("/sub/", sub)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        for number in (1, 2):
            answer = await edge.get("/sub/page", headers=OPEN)
            assert (answer.body, answer.cache_status) == (f"secret {number}".encode(), "")
            assert (await edge.get("/sub/page")).status == 403


async def test_a_sub_application_uses_its_parents_settings_behind_its_own_middlewares(tmp_path: Path) -> None:
    handler = Counted(lambda number: fresh(f"secret {number}"))
    sub = serving(page=handler.handle)
    sub.middlewares.append(guard)
    assert regioncache.setup(sub) is None
    app = web.Application()
    app.add_subapp("/sub/", sub)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        await edge.get("/sub/page", headers=OPEN)
        assert (await until_hit(edge, "/sub/page", headers=OPEN)).body == b"secret 1"
        assert (await edge.get("/sub/page")).status == 403
        assert handler.calls == 1


async def test_an_included_sub_application_is_answered_by_its_parent(tmp_path: Path) -> None:
    handler = Counted(lambda number: fresh(str(number)))
    sub = serving(page=handler.handle)
    app = web.Application()
    app.add_subapp("/sub/", sub)
    async with World(tmp_path) as world:
        regioncache.setup(app, world.settings(), include=[sub])
        async with running(app) as url, aiohttp.ClientSession() as session:

            async def is_hit() -> bool:
                async with session.get(url + "/sub/page") as answer:
                    return "; hit" in answer.headers["Cache-Status"]

            await eventually(is_hit)
    assert handler.calls == 1


async def test_the_rules_and_pages_of_a_nested_plug_in_lie_under_its_prefix(tmp_path: Path) -> None:
    sub = forwarding_app()
    app = web.Application()
    async with World(tmp_path) as world:
        regioncache.setup(sub, world.settings(rules=[Rule("/api/items/{id}", write="behind")]))
        app.add_subapp("/api", sub)
        async with running(app) as url, aiohttp.ClientSession() as session:
            async with session.put(url + "/api/items/1", json={"n": 1}) as written:
                assert written.status == 202
                location = written.headers["Location"]
            assert location.startswith("/api/_regioncache/writes/")
            async with session.get(url + location) as page:
                assert (page.status, (await page.json())["method"]) == (200, "PUT")
            await eventually(lambda: world.origin.documents == {"/api/items/1": {"n": 1}})


# --- middlewares ---


async def test_an_outer_middleware_runs_before_every_hit(tmp_path: Path) -> None:
    app = serving(page=Counted(lambda number: fresh(str(number))).handle)
    app.middlewares.append(guard)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        await edge.get("/page", headers=OPEN)
        await until_hit(edge, "/page", headers=OPEN)
        assert (await edge.get("/page")).status == 403


async def test_the_position_can_be_given(tmp_path: Path) -> None:
    counts = {"inner": 0}

    @web.middleware
    async def inner(request: web.Request, handler: Handler) -> web.StreamResponse:
        counts["inner"] += 1
        return await handler(request)

    app = serving(page=Counted(lambda number: fresh(str(number))).handle)
    app.middlewares.append(inner)
    async with World(tmp_path) as world:
        regioncache.setup(app, world.settings(), middleware_pos=0)
        async with running(app) as url, aiohttp.ClientSession() as session:

            async def is_hit() -> bool:
                async with session.get(url + "/page") as answer:
                    return "; hit" in answer.headers["Cache-Status"]

            await eventually(is_hit)
            before = counts["inner"]
            assert await is_hit()
            assert counts["inner"] == before


async def test_signals_and_middlewares_see_the_headers_of_a_hit(tmp_path: Path) -> None:
    async def sign(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = "1"

    app = serving(page=Counted(lambda number: fresh(str(number))).handle)
    app.on_response_prepare.append(sign)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        await edge.get("/page")
        assert (await until_hit(edge, "/page")).headers.getall("X-Signed") == ["1"]


# --- decorators ---


async def test_decorators_say_what_rules_say(tmp_path: Path) -> None:
    calls = {"page": 0}

    @regioncache.cached(ttl=60)
    async def page(_request: web.Request) -> web.Response:
        calls["page"] += 1
        return web.Response(text="page")

    @regioncache.write_behind(effect="replace", principal="header:X-User")
    async def item(_request: web.Request) -> web.Response:
        raise AssertionError("a write behind is not for the handler of this edge")

    class Thing(web.View):
        @regioncache.cached(ttl=60)
        async def get(self) -> web.Response:
            calls["thing"] = calls.get("thing", 0) + 1
            return web.json_response({"n": 0})

        @regioncache.write_behind()
        async def put(self) -> web.Response:
            raise AssertionError("a write behind is not for the handler of this edge")

        async def post(self) -> web.Response:
            return web.Response(text="through")

    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_put("/items/{id}", item)
    app.router.add_view("/things/{id:[0-9]+}", Thing)
    async with World(tmp_path) as world:
        world.origin.gate.clear()
        edge = await world.edge(app, rules=[])
        await edge.get("/page")
        await until_hit(edge, "/page")
        assert calls["page"] == 1
        assert (await edge.put("/items/1", {"n": 1})).status == 202
        assert (await edge.put("/things/1", {"n": 1})).status == 202
        assert json.loads((await edge.get("/things/1")).body) == {"n": 1}
        await edge.get("/things/2")
        await until_hit(edge, "/things/2")
        world.origin.gate.set()
        assert (await edge.ask("POST", "/things/3")).body == b"through"


async def test_decorators_of_sub_applications_count_under_their_prefix(tmp_path: Path) -> None:
    @regioncache.write_behind()
    async def item(_request: web.Request) -> web.Response:
        raise AssertionError("a write behind is not for the handler of this edge")

    sub = web.Application()
    sub.router.add_put("/items/{id}", item)
    regioncache.setup(sub)
    app = web.Application()
    app.add_subapp("/sub", sub)
    async with World(tmp_path) as world:
        edge = await world.edge(app, rules=[])
        assert (await edge.put("/sub/items/1", {"n": 1})).status == 202
        await eventually(lambda: world.origin.documents == {"/sub/items/1": {"n": 1}})


async def test_a_rule_of_the_settings_goes_before_a_decorator(tmp_path: Path) -> None:
    @regioncache.cached(ttl=60)
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="page")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=[Rule("/page", read="pass")])
        for _ in range(2):
            assert "detail=rule" in (await edge.get("/page")).cache_status


def test_a_mistake_in_a_decorator_shows_where_it_is_made() -> None:
    with pytest.raises(SettingsError, match="effect"):
        regioncache.write_behind(effect="nonsense")
    with pytest.raises(TypeError, match="nonsense"):
        regioncache.cached(nonsense=1)


# --- what is missing or twice ---


async def test_setting_up_twice_is_refused(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        app, sub = web.Application(), web.Application()
        regioncache.setup(app, world.settings())
        regioncache.setup(sub)
        for again, settings in ((app, world.settings()), (app, None), (sub, None), (sub, world.settings())):
            with pytest.raises(RuntimeError, match="already"):
                regioncache.setup(again, settings)
        assert (len(app.middlewares), len(sub.middlewares)) == (1, 1)


async def test_what_is_not_set_up_says_so(tmp_path: Path) -> None:
    app = forwarding_app()
    regioncache.setup(app)  # as a sub-application, but it has no parent
    async with running(app) as url, aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 500
    cache = regioncache.RegionCache(Settings(regions=[Region("home", redis="redis://a", latitude=0, longitude=0)]))
    with pytest.raises(NotSetUpError, match="started"):
        _ = cache.edge
    with pytest.raises(NotSetUpError, match="origin"):
        _ = cache.forwarder


async def test_what_decorators_need_is_demanded_at_start(tmp_path: Path) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response()

    async with World(tmp_path) as world:
        for missing, changes in (("origin", {"origin": None}), ("secrets", {"secrets": ()})):
            made = web.Application()
            made.router.add_put("/items/{id}", regioncache.write_behind()(handler))
            regioncache.setup(made, world.settings(rules=(), **changes))
            runner = web.AppRunner(made)
            with pytest.raises(NotSetUpError, match=missing):
                await runner.setup()
            await runner.cleanup()


async def test_an_edge_without_secrets_or_origin_caches_reads_and_takes_writes_through(tmp_path: Path) -> None:
    async def change(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = serving(page=Counted(lambda number: fresh(str(number))).handle)
    app.router.add_post("/page", change)
    async with World(tmp_path) as world:
        edge = await world.edge(app, origin=None, secrets=(), rules=(), cache=Cache(memory_seconds=0))
        await edge.get("/page")
        assert (await until_hit(edge, "/page")).body == b"1"
        assert (await edge.ask("POST", "/page")).status == 204
        assert (await edge.get("/page")).body == b"2"


# --- start ---


@pytest.mark.parametrize("down", [REGIONS[:1], REGIONS])
async def test_an_edge_starts_while_regions_are_down_and_finds_them_later(
    tmp_path: Path, down: tuple[str, ...]
) -> None:
    async with World(tmp_path) as world:
        for name in down:
            await world.servers[name].kill()
        edge = await world.edge(cache=Cache(memory_seconds=0))
        world.origin.documents["/pages/1"] = {"n": 1}
        assert (await edge.get("/pages/1")).status == 200
        refused = await edge.put("/items/1", {})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        for name in down:
            await world.servers[name].start()

        async def is_accepted() -> bool:
            return (await edge.put("/items/1", {})).status == 202

        await eventually(is_accepted)
        hit = await until_hit(edge, "/pages/1")
        assert hit.cache_status.startswith(f"regioncache/{REGIONS[0]};")


async def test_a_redis_that_may_evict_queued_writes_is_refused_at_start(tmp_path: Path) -> None:
    async with World(tmp_path, regions=REGIONS[:1]) as world:
        async with world.servers[REGIONS[0]].client() as client:
            await client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(regioncache.EvictionPolicyError, match="volatile-lru"):
            await world.edge()
        edge = await world.edge(rules=())
        assert (await edge.get("/pages/1")).status == 404


async def test_an_edge_from_a_file(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        file = tmp_path / "regioncache.toml"
        file.write_text(
            f"""
            origin = "{world.origin.url}"
            secrets = ["{SECRET}"]
            home_region = "{REGIONS[1]}"

            [[regions]]
            name = "{REGIONS[0]}"
            redis = "{world.servers[REGIONS[0]].url}"

            [[regions]]
            name = "{REGIONS[1]}"
            redis = "{world.servers[REGIONS[1]].url}"

            [[rules]]
            path = "/things/{{id}}"
            write = "behind"
            affects = [{{path = "/things", effect = "tests.writes.test_folding:append"}}]

            [cache]
            dirty_wait = 0.05
            """
        )
        settings = regioncache.load(file, {"REGIONCACHE_CACHE__MEMORY_SECONDS": "0"})
        app = forwarding_app()
        regioncache.setup(app, settings)
        world.origin.documents["/things"] = [{"n": 0}]  # type: ignore[assignment]
        world.origin.gate.clear()
        async with running(app) as url, aiohttp.ClientSession() as session:
            async with session.put(url + "/things/1", json={"n": 1}) as written:
                assert written.status == 202
                assert REGIONS[1] in written.headers["Location"]
            async with session.get(url + "/things") as read:
                assert await read.json() == [{"n": 0}, {"n": 1}]
            world.origin.gate.set()


# --- shutdown ---


async def test_nothing_is_left_after_a_shutdown(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        before = asyncio.all_tasks()
        app = forwarding_app()
        regioncache.setup(app, world.settings())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        edge = Edge(app, runner, world.session)
        world.origin.documents["/pages/1"] = {"n": 1}
        for path in ("/pages/1", "/items/1"):
            await edge.get(path)
            assert (await edge.put(path, {"n": 2})).status in (200, 202)
        await edge.stop()
        await eventually(lambda: asyncio.all_tasks() <= before)
        for server in world.servers.values():
            async with server.client() as client:
                clients = await client.client_list()
            assert len(clients) == 1


async def test_what_is_being_fetched_is_stored_before_the_end(tmp_path: Path) -> None:
    """Also when its client has been sent away already."""
    async with World(tmp_path) as world:
        app = forwarding_app()
        regioncache.setup(app, world.settings())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        edge = Edge(app, runner, world.session)
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.read_gate.clear()
        host = {"Host": "one.example"}  # of both edges: it is in the key
        reader = asyncio.ensure_future(edge.get("/pages/1", headers=host))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        stopping = asyncio.ensure_future(edge.stop())
        with pytest.raises(aiohttp.ClientError):
            await reader
        tasks = [courier._task for courier in edge.cache.couriers]
        await eventually(lambda: all(task is None or task.done() for task in tasks))
        world.origin.read_gate.set()
        await stopping
        other = await world.edge()
        assert "; hit" in (await other.get("/pages/1", headers=host)).cache_status


async def test_leases_are_given_back_so_that_another_edge_goes_on_at_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(sync=Sync(lease=60.0, timeout=40.0))
        world.origin.gate.clear()
        for number in range(3):
            assert (await edge.put("/items/1", {"n": number})).status == 202
        await eventually(lambda: bool(world.origin.in_flight["/items/1"]))
        stopping = asyncio.ensure_future(edge.stop())
        await eventually(lambda: all(loop.is_stopping for loop in edge.cache.loops))
        world.origin.gate.set()
        await stopping
        assert [json.loads(effect.body)["n"] for effect in world.origin.effects] == [0]
        await world.edge()
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 2})
        assert [json.loads(effect.body)["n"] for effect in world.origin.effects] == [0, 1, 2]


async def test_an_edge_stops_while_its_regions_are_down(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        before = asyncio.all_tasks()
        edge = await world.edge()
        await edge.put("/items/1", {})
        for server in world.servers.values():
            await server.kill()
        await edge.stop()
        await eventually(lambda: asyncio.all_tasks() <= before)


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    port = free_port()
    async with ValkeyServer(tmp_path / "shared", port=port) as server:
        app = web.Application()
        regions = [Region(name, redis=server.url) for name in REGIONS]  # two regions in one database
        regioncache.setup(app, Settings(regions=regions))
        runner = web.AppRunner(app)
        with pytest.raises(regioncache.LayoutMismatchError):
            await runner.setup()
        await runner.cleanup()
        await eventually(lambda: asyncio.all_tasks() <= before)


async def test_background_work_goes_on_when_a_client_comes_and_goes(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.read_gate.clear()
        reader = asyncio.ensure_future(edge.get("/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        reader.cancel()
        world.origin.read_gate.set()
        await until_hit(edge, "/pages/1")
        assert world.origin.reads["/pages/1"] == 1
