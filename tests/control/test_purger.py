"""Purges over real edges in two regions: what is served after them, where, and who hears of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Cache, Purge, PurgeError, PurgeReport, RegionUnavailableError, Rule
from tests.reads.apps import fresh, serving, until_hit
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.world import REGIONS, Edge, World, one_edge

HERE, THERE = REGIONS
LONG = Cache(memory_seconds=60)
NO_MEMORY = Cache(memory_seconds=0)
PAGES: dict[str, dict[str, Any]] = {
    "/urls/1": {"url": "https://any.example/urls/1?x=1"},
    "/pre%66ix/a/1": {"prefix": "/prefix/a"},
    "/tagged/1": {"tag": "one"},
}
"""A path for each way, and the purge that covers it alone."""
OTHERS = ["/urls/2", "/prefix/b", "/tagged/2"]


async def both_edges(world: World, **changes: Any) -> tuple[Edge, Edge]:
    """An edge beside each region."""
    options: dict[str, Any] = {"rules": [], "cache": LONG} | changes
    return await world.edge(home_region=HERE, **options), await world.edge(home_region=THERE, **options)


async def warm(world: World, *edges: Edge) -> None:
    """Store the first version of every page in every region; `/tagged/1` has the tag `one`, the others `two`."""
    for path in (*PAGES, *OTHERS):
        world.origin.documents[path.replace("%66", "f")] = {"n": 1}
        world.origin.extra_headers = {"Cache-Tag": "one, all" if path == "/tagged/1" else "two, all"}
        for edge in edges:
            await until_hit(edge, path)
    for path in world.origin.documents:
        world.origin.documents[path] = {"n": 2}


def shows(edge: Edge, path: str, n: int) -> Callable[[], Awaitable[bool]]:
    """A condition: the edge answers with this version."""

    async def does() -> bool:
        return bool(json.loads((await edge.get(path)).body) == {"n": n})

    return does


async def until_in_memory(edge: Edge, path: str) -> None:
    """Ask until the answer comes from the process's own memory."""

    async def is_there() -> bool:
        return "detail=memory" in (await edge.get(path)).cache_status

    await eventually(is_there)


@pytest.mark.parametrize("everywhere", [True, False])
async def test_what_is_purged_hard_is_not_served_any_more(tmp_path: Path, everywhere: bool) -> None:
    async with World(tmp_path) as world:
        here, there = await both_edges(world)
        await warm(world, here, there)
        expected = PurgeReport((HERE,), (THERE,) if everywhere else ())
        regions = None if everywhere else [HERE]
        for path, covering in PAGES.items():
            assert await here.cache.purge(Purge(**covering), regions=regions) == expected
            answer = await here.get(path)
            assert (json.loads(answer.body), "; fwd=stale" in answer.cache_status) == ({"n": 2}, True)
            await until_hit(here, path)
            assert await shows(here, path, 2)()
            if everywhere:
                await eventually(shows(there, path, 2))
        for path in OTHERS:
            assert await shows(here, path, 1)()
            assert await shows(there, path, 1)()
        await here.cache.purge(Purge(everything=True), regions=regions)
        for path in OTHERS:
            assert await shows(here, path, 2)()
            if everywhere:
                await eventually(shows(there, path, 2))
        if not everywhere:
            for path in (*PAGES, *OTHERS):
                assert await shows(there, path, 1)()


@pytest.mark.parametrize("everywhere", [True, False])
async def test_what_is_purged_softly_is_served_while_it_is_revalidated(tmp_path: Path, everywhere: bool) -> None:
    async with World(tmp_path) as world:
        here, there = await both_edges(world)
        await warm(world, here, there)
        regions = None if everywhere else [HERE]
        for path, covering in PAGES.items():
            await here.cache.purge(Purge(soft=True, **covering), regions=regions)
            answer = await here.get(path)
            assert json.loads(answer.body) == {"n": 1}
            assert "stale-while-revalidate" in answer.cache_status
            await eventually(shows(here, path, 2))
            assert "hit" in (await until_hit(here, path)).cache_status
            if everywhere:
                await eventually(shows(there, path, 2))
            else:
                assert await shows(there, path, 1)()
        for path in OTHERS:
            assert await shows(here, path, 1)()
            assert await shows(there, path, 1)()
        await here.cache.purge(Purge(everything=True, soft=True), regions=regions)
        for path in OTHERS:
            assert await shows(here, path, 1)()
            await eventually(shows(here, path, 2))
            if everywhere:
                await eventually(shows(there, path, 2))


async def test_another_edge_of_the_region_hears_of_a_purge(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        one, two = [await world.edge(home_region=HERE, rules=[], cache=LONG) for _ in range(2)]
        await warm(world, one, two)
        await one.cache.purge(Purge(prefix="/"))
        for path in (*PAGES, *OTHERS):
            await eventually(shows(two, path, 2), within=5.0)  # its memory would keep it for a minute


@pytest.mark.parametrize("regions", [None, [HERE]])
async def test_the_edge_that_purges_needs_no_announcement(tmp_path: Path, regions: list[str] | None) -> None:
    async with World(tmp_path) as world, TcpProxy("127.0.0.1", world.servers[HERE].port) as proxy:
        through_proxy = regioncache.Region(HERE, redis=f"redis://127.0.0.1:{proxy.port}")
        edge = await world.edge(regions=[through_proxy], rules=[], cache=LONG)
        await warm(world, edge)
        proxy.deafen_subscribers()
        await until_in_memory(edge, "/prefix/b")
        await edge.cache.purge(Purge(url="/prefix/b"), regions=regions)
        assert await shows(edge, "/prefix/b", 2)()
        await until_in_memory(edge, "/tagged/1")
        world.origin.refuse = {"/any": 200}
        world.origin.refuse_headers = {"Cache-Group-Invalidation": '"one"'}
        await edge.ask("POST", "/any")
        assert await shows(edge, "/tagged/1", 2)()


@pytest.mark.parametrize("soft", [False, True])
async def test_a_fetch_under_way_stores_what_is_purged(tmp_path: Path, soft: bool) -> None:
    async with one_edge(tmp_path, rules=[], cache=Cache(memory_seconds=0, flight_wait=60)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.read_gate.clear()
        first = asyncio.create_task(edge.get("/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        await edge.cache.purge(Purge(prefix="/pages/", soft=soft))
        world.origin.documents["/pages/1"] = {"n": 2}
        second = asyncio.create_task(edge.get("/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 2)  # it does not wait for the first
        world.origin.read_gate.set()
        answers = [json.loads((await asked).body) for asked in (first, second)]
        assert answers == [{"n": 1}, {"n": 2}]
        await eventually(lambda: not edge.cache._tasks)
        await eventually(shows(edge, "/pages/1", 2))
        assert await shows(edge, "/pages/1", 2)()


async def test_a_url_goes_with_all_its_queries_and_variants(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return fresh(request.headers.get("Accept-Language", ""), Vary="Accept-Language")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=[], cache=LONG)
        asked = [("/page", "de"), ("/page", "ja"), ("/page?a=1", "de")]
        for soft in (False, True):
            for path, language in asked:
                await until_hit(edge, path, headers={"Accept-Language": language})
            await edge.cache.purge(Purge(url="/page?b=2", soft=soft))
            for path, language in asked:
                answer = await edge.get(path, headers={"Accept-Language": language})
                assert ("stale-while-revalidate" if soft else "fwd=stale") in answer.cache_status


@pytest.mark.parametrize("soft", [False, True])
async def test_a_url_that_is_another_resource_for_everyone_goes_for_all_of_them(tmp_path: Path, soft: bool) -> None:
    async def page(request: web.Request) -> web.Response:
        return fresh(request.headers["Authorization"], Cache_Control="private, max-age=60")

    rules = [Rule("/page", methods=("GET", "PUT"), write="behind", per_user=True, order="principal")]
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=rules)
        people = [{"Authorization": f"Bearer {name}"} for name in ("ann", "bob")]
        for person in people:
            await until_hit(edge, "/page", headers=person)
        await edge.cache.purge(Purge(url="/page", soft=soft))
        for person in people:
            answer = await edge.get("/page", headers=person)
            assert ("stale-while-revalidate" if soft else "fwd=stale") in answer.cache_status
            assert answer.body.decode() == person["Authorization"]


@pytest.mark.parametrize("directives", ["max-age=60, must-revalidate", "s-maxage=60"])
async def test_a_soft_purge_serves_nothing_stale_that_must_be_revalidated(tmp_path: Path, directives: str) -> None:
    async with one_edge(tmp_path, rules=[], cache=NO_MEMORY) as (world, edge):
        world.origin.cache_control = directives
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_hit(edge, "/pages/1")
        world.origin.documents["/pages/1"] = {"n": 2}
        await edge.cache.purge(Purge(everything=True, soft=True))
        answer = await edge.get("/pages/1")
        assert (answer.body, "fwd=stale" in answer.cache_status) == (b'{"n": 2}', True)


async def test_soft_purge_seconds_bound_how_long_it_is_served(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=[], cache=Cache(memory_seconds=0, soft_purge_seconds=0)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_hit(edge, "/pages/1")
        world.origin.documents["/pages/1"] = {"n": 2}
        await edge.cache.purge(Purge(url="/pages/1", soft=True))
        assert await shows(edge, "/pages/1", 2)()


@pytest.mark.parametrize(("soft", "served"), [(True, 200), (False, 503)])
async def test_only_what_is_purged_softly_stands_in_for_an_origin_that_fails(
    tmp_path: Path, soft: bool, served: int
) -> None:
    failing = False

    async def page(_request: web.Request) -> web.Response:
        if failing:
            return web.Response(status=503)
        return fresh("text", Cache_Control="max-age=60, stale-if-error=600")

    cache = Cache(memory_seconds=0, soft_purge_seconds=0)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=[], cache=cache)
        await until_hit(edge, "/page")
        failing = True
        await edge.cache.purge(Purge(url="/page", soft=soft))
        assert (await edge.get("/page")).status == served


@pytest.mark.parametrize("soft", [False, True])
async def test_what_is_purged_is_fetched_past_the_origins_own_caches(tmp_path: Path, soft: bool) -> None:
    asked: list[tuple[str | None, str | None]] = []

    async def page(request: web.Request) -> web.Response:
        asked.append((request.headers.get("If-None-Match"), request.headers.get("Cache-Control")))
        return fresh("text", ETag='"v1"')

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=[], cache=NO_MEMORY)
        await until_hit(edge, "/page")
        await edge.cache.purge(Purge(tag="none"))
        await until_hit(edge, "/page")
        assert len(asked) == 1
        await edge.cache.purge(Purge(prefix="/pa", soft=soft))
        await edge.get("/page")
        await eventually(lambda: len(asked) == 2)
        assert asked[1] == ('"v1"', "no-cache")


async def test_a_validation_changes_the_tags(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        if "If-None-Match" in request.headers:
            answer = fresh(Surrogate_Key="new", ETag='"v1"')
            answer.set_status(304)
            return answer
        return fresh("text", Surrogate_Key="old", ETag='"v1"')

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=[], cache=NO_MEMORY)
        await until_hit(edge, "/page")
        await edge.cache.purge(Purge(tag="old"))
        assert "fwd-status=304" in (await edge.get("/page")).cache_status
        await until_hit(edge, "/page")
        await edge.cache.purge(Purge(tag="old"))
        assert "hit" in (await edge.get("/page")).cache_status
        await edge.cache.purge(Purge(tag="new"))
        assert "fwd=stale" in (await edge.get("/page")).cache_status


async def test_a_pending_write_is_folded_over_what_is_fetched_after_a_purge(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=[Rule("/items/{id}", write="behind")]) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1, "m": 1}
        await until_hit(edge, "/items/1")
        world.origin.gate.clear()
        merge = {"Content-Type": "application/merge-patch+json"}
        assert (await edge.ask("PATCH", "/items/1", data=b'{"n": 3}', headers=merge)).status == 202
        assert json.loads((await edge.get("/items/1")).body) == {"n": 3, "m": 1}
        world.origin.documents["/items/1"] = {"n": 2, "m": 2}
        await edge.cache.purge(Purge(everything=True))
        assert json.loads((await edge.get("/items/1")).body) == {"n": 3, "m": 2}


# --- Regions that cannot be reached, and what makes no sense ---


@pytest.mark.parametrize("covering", [{"url": "/pages/1"}, {"everything": True}, {"tag": "a"}])
async def test_a_region_that_could_not_be_reached_hears_of_a_purge_later(
    tmp_path: Path, covering: dict[str, Any]
) -> None:
    async with World(tmp_path) as world, TcpProxy("127.0.0.1", world.servers[THERE].port) as proxy:
        regions = world.settings().regions
        through_proxy = regioncache.Region(THERE, redis=f"redis://127.0.0.1:{proxy.port}")
        here = await world.edge(home_region=HERE, rules=[], regions=[regions[0], through_proxy])
        there = await world.edge(home_region=THERE, rules=[], cache=NO_MEMORY)
        world.origin.extra_headers = {"Cache-Groups": '"a"'}
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_hit(there, "/pages/1")
        world.origin.documents["/pages/1"] = {"n": 2}
        proxy.refuse()
        await proxy.drop_connections()
        assert await here.cache.purge(Purge(**covering)) == PurgeReport((HERE,), (THERE,))
        assert await shows(there, "/pages/1", 1)()
        await proxy.accept()
        await eventually(shows(there, "/pages/1", 2))


async def test_the_next_region_takes_a_purge_and_without_any_it_fails(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        here, _ = await both_edges(world)
        await world.servers[HERE].stop()
        assert await here.cache.purge(Purge(everything=True)) == PurgeReport((THERE,), (HERE,))
        report = await here.cache.purge(Purge(url="/"), regions=[HERE, THERE, THERE])
        assert report == PurgeReport((THERE,), unreached=(HERE,))
        with pytest.raises(RegionUnavailableError, match=HERE):
            await here.cache.purge(Purge(tag="a"), regions=[HERE])
        await world.servers[THERE].stop()
        for regions in (None, [HERE, THERE]):
            with pytest.raises(RegionUnavailableError):
                await here.cache.purge(Purge(tag="a"), regions=regions)


async def test_regions_that_are_none_are_refused(tmp_path: Path) -> None:
    app = web.Application()
    async with World(tmp_path) as world:
        cache = regioncache.setup(app, world.settings())
        assert cache is not None
        with pytest.raises(regioncache.NotSetUpError, match="has not been started"):
            await cache.purge(Purge(everything=True))
        edge = await world.edge()
        with pytest.raises(PurgeError, match=f"'nowhere' is no region; allowed: {HERE}, {THERE}"):
            await edge.cache.purge(Purge(everything=True), regions=[HERE, "nowhere"])
        none: tuple[Sequence[str], ...] = ([], HERE)
        for regions in none:
            with pytest.raises(PurgeError, match="is no list of at least one region"):
                await edge.cache.purge(Purge(everything=True), regions=regions)


# --- The origin purges ---


async def test_an_answer_to_a_write_invalidates_the_groups_that_it_names_in_every_region(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        here, there = await both_edges(world)
        await warm(world, here, there)
        world.origin.refuse = {"/any": 200}
        world.origin.refuse_headers = {"Cache-Group-Invalidation": '"one", "x"'}
        assert (await here.ask("POST", "/any")).status == 200
        assert await shows(here, "/tagged/1", 2)()
        await eventually(shows(there, "/tagged/1", 2))
        for edge in (here, there):
            assert await shows(edge, "/tagged/2", 1)()
        world.origin.refuse = {"/any": 409}
        world.origin.refuse_headers = {"Cache-Group-Invalidation": '"two"'}
        assert (await here.ask("POST", "/any")).status == 409
        assert await shows(here, "/tagged/2", 1)()


async def test_the_answer_to_a_replay_invalidates_the_groups_that_it_names_in_every_region(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        here, there = await both_edges(world, rules=[Rule("/items/{id}", write="behind")])
        await warm(world, here, there)
        world.origin.refuse = {"/items/1": 200}
        world.origin.refuse_headers = {"Cache-Group-Invalidation": '"one"'}
        assert (await here.put("/items/1", {"n": 1}, headers={"Prefer": "wait=10"})).status == 200
        for edge in (here, there):
            await eventually(shows(edge, "/tagged/1", 2))
            assert await shows(edge, "/tagged/2", 1)()


async def test_a_read_invalidates_no_group(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=[]) as (world, edge):
        await warm(world, edge)
        world.origin.extra_headers = {"Cache-Group-Invalidation": '"all"'}
        await edge.get("/any")
        assert await shows(edge, "/tagged/1", 1)()


async def test_tags_of_any_kind_disturb_no_answer(tmp_path: Path) -> None:
    tags = b"caf\xe9 " + b" ".join(b"t%d" % n for n in range(400)) + b" " + b"x" * 1000

    async def origin(request: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        await request.readuntil(b"\r\n\r\n")
        answer.write(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\nConnection: close\r\n"
            b'Cache-Groups: "open\r\nSurrogate-Key: ' + tags + b"\r\n\r\nok"
        )
        await answer.drain()
        answer.close()

    server = await asyncio.start_server(origin, "127.0.0.1", 0)
    async with server, World(tmp_path) as world:
        port = server.sockets[0].getsockname()[1]
        edge = await world.edge(origin=f"http://127.0.0.1:{port}", rules=[], cache=NO_MEMORY)
        assert (await until_hit(edge, "/page")).body == b"ok"
        await edge.cache.purge(Purge(tag="t399"))  # beyond what is kept: any tag covers it
        assert "fwd=stale" in (await edge.get("/page")).cache_status
