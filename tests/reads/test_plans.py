"""Plans: what was a plain hit is answered again without finding out everything anew, and only while it is one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Purge, Rule
from aiohttp_regioncache.reads import plans
from aiohttp_regioncache.reads.plans import MAX_OCTETS
from aiohttp_regioncache.responses import ReadyResponse
from tests.reads.apps import serving, until_hit
from tests.sites.world import tenants
from tests.support import eventually
from tests.support.world import Edge, Reply, World

MEMORY = pytest.mark.parametrize("memory_seconds", [3600, 0])
FRESH = {"Cache-Control": "public, max-age=300", "Content-Type": "text/plain"}


class Page:
    """A handler that answers with the number of its call and the request's field `said`, under `headers`."""

    def __init__(self, said: str = "User-Agent", **headers: str) -> None:
        self.calls = 0
        self.said = said
        self.headers = FRESH | {name.replace("_", "-"): value for name, value in headers.items()}

    async def handle(self, request: web.Request) -> web.Response:
        self.calls += 1
        said = f"{self.calls} {request.headers.get(self.said, '')}"
        return web.Response(text=said, headers={k: v for k, v in self.headers.items() if k != "Content-Type"})


class Counted:
    """Counts the answers that went out by a plan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        made = ReadyResponse.__init__

        def counting(response: ReadyResponse, *arguments: Any) -> None:
            self.count += 1
            made(response, *arguments)

        monkeypatch.setattr(ReadyResponse, "__init__", counting)


@pytest.fixture(autouse=True)
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything remembered that can be, at once."""
    monkeypatch.setattr(plans, "SAMPLE", 1)


@pytest.fixture
def by_plan(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


async def _twice(edge: Edge, path: str, **options: Any) -> Reply:
    """Have a plan made for a request, and answer by it."""
    await until_hit(edge, path, **options)
    await edge.get(path, **options)
    return await edge.get(path, **options)


def _at(edge: Edge, seconds: float) -> None:
    """Move the clocks of the edge's regions."""
    for store in edge.cache.stores.values():
        store._clock_offset += seconds


@MEMORY
async def test_the_same_request_is_answered_by_its_plan(
    tmp_path: Path, memory_seconds: float, by_plan: Counted
) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        first = await _twice(edge, "/page", headers={"User-Agent": "a"})
        before = by_plan.count
        other = await edge.get("/page", headers={"User-Agent": "b", "Referer": "c"})
        assert by_plan.count == before + 1  # a field on which nothing depends makes no other request of it
        assert (page.calls, first.body, other.body) == (1, b"1 a", b"1 a")
        assert ("memory" in other.cache_status) == bool(memory_seconds)


@MEMORY
async def test_a_plan_ends_with_the_freshness_of_what_it_found(
    tmp_path: Path, memory_seconds: float, by_plan: Counted
) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        await _twice(edge, "/page")
        _at(edge, 299)
        assert (await edge.get("/page")).headers["Age"] == "299"
        before = by_plan.count
        _at(edge, 2)
        assert "fwd=stale" in (await edge.get("/page")).cache_status
        assert by_plan.count == before


@MEMORY
async def test_what_a_request_asks_of_caches_is_looked_at_each_time(tmp_path: Path, memory_seconds: float) -> None:
    page = Page()
    young = {"Cache-Control": "max-age=100"}
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        assert "; hit" in (await _twice(edge, "/page", headers=young)).cache_status
        _at(edge, 101)
        assert "; hit" not in (await edge.get("/page", headers=young)).cache_status
        assert "; hit" in (await edge.get("/page")).cache_status


PURGES = [Purge(url="/page"), Purge(prefix="/"), Purge(everything=True), Purge(url="/page", soft=True)]


@MEMORY
@pytest.mark.parametrize("purge", PURGES)
async def test_a_purge_is_seen_at_once(tmp_path: Path, memory_seconds: float, purge: Purge) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        await _twice(edge, "/page")
        await edge.cache.purge(purge)
        assert "hit; ttl=2" not in (await edge.get("/page")).cache_status  # as it was: 299 or so
        assert "; hit" in (await until_hit(edge, "/page")).cache_status


@MEMORY
async def test_another_purge_leaves_it_a_plain_hit(tmp_path: Path, memory_seconds: float, by_plan: Counted) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        await _twice(edge, "/page")
        await edge.cache.purge(Purge(url="/other"))
        await edge.get("/page")  # reads the list of purges
        before = by_plan.count
        assert "; hit" in (await edge.get("/page")).cache_status
        assert by_plan.count == before + 1


@MEMORY
async def test_a_write_through_another_edge_is_seen(tmp_path: Path, memory_seconds: float) -> None:
    async with World(tmp_path) as world:
        world.origin.documents["/pages/1"] = {"n": 1}
        edges = [await world.edge(cache=Cache(memory_seconds=memory_seconds), rules=()) for _ in range(2)]
        await eventually(lambda: all(s.events.is_connected for e in edges for s in e.cache.stores.values()))
        for edge in edges:
            assert (await _twice(edge, "/pages/1")).body == b'{"n": 1}'
        assert (await edges[0].put("/pages/1", {"n": 2})).status == 200
        assert (await edges[0].get("/pages/1")).body == b'{"n": 2}'

        async def is_new() -> bool:
            return (await edges[1].get("/pages/1")).body == b'{"n": 2}'

        await eventually(is_new)


async def test_what_writes_behind_touch_gets_no_plan(tmp_path: Path, by_plan: Counted) -> None:
    async with World(tmp_path) as world:
        world.origin.documents["/items/1"] = {"n": 1}
        edge = await world.edge()
        await _twice(edge, "/items/1")
        assert by_plan.count == 0


@MEMORY
@pytest.mark.parametrize(
    "rule",
    [
        Rule("/page", key=("header:User-Agent",)),
        Rule("/page", bypass_headers=("Referer",)),
        Rule("/page", principal="header:X-Request-Id", per_user=True),
    ],
)
async def test_fields_that_a_rule_names_keep_requests_apart(tmp_path: Path, memory_seconds: float, rule: Rule) -> None:
    page = Page()
    one = {"User-Agent": "one", "X-Request-Id": "one"}
    two = {"User-Agent": "two", "X-Request-Id": "two", "Referer": "x"}
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=[rule])
        await _twice(edge, "/page", headers=one)
        assert (await edge.get("/page", headers=two)).body == b"2 two"
        assert (await edge.get("/page", headers=one)).body == b"1 one"


@MEMORY
@pytest.mark.parametrize("name", ["User-Agent", "Accept-Language", "X-Other"])
async def test_fields_that_select_keep_requests_apart(
    tmp_path: Path, memory_seconds: float, name: str, by_plan: Counted
) -> None:
    page = Page(said=name, Vary=name)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        for value in ("de", "en", "de", "en"):
            reply = await _twice(edge, "/page", headers={name: value})
            assert reply.body.split()[1] == value.encode()
        assert page.calls == 2
        assert by_plan.count >= 6


@MEMORY
async def test_what_begins_to_vary_and_ends_is_seen(tmp_path: Path, memory_seconds: float, by_plan: Counted) -> None:
    page = Page(said="Accept-Language")
    de, en = ({"Accept-Language": language} for language in ("de", "en"))
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        assert (await _twice(edge, "/page", headers=de)).body == b"1 de"
        for _ in range(2):
            assert (await edge.get("/page", headers=en)).body == b"1 de"
        page.headers["Vary"] = "Accept-Language"
        await edge.cache.purge(Purge(url="/page"))
        assert (await _twice(edge, "/page", headers=de)).body == b"2 de"
        assert (await _twice(edge, "/page", headers=en)).body == b"3 en"
        assert (await edge.get("/page", headers=de)).body == b"2 de"
        del page.headers["Vary"]
        await edge.cache.purge(Purge(url="/page"))
        assert (await _twice(edge, "/page", headers=en)).body == b"4 en"
        before = by_plan.count
        assert (await edge.get("/page", headers=en)).body == b"4 en"
        assert by_plan.count == before + 1


@MEMORY
async def test_an_entry_of_one_user_goes_to_nobody_else(tmp_path: Path, memory_seconds: float) -> None:
    page = Page(Cache_Control="private, max-age=300")
    rule = Rule("/page", per_user=True)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=[rule])
        alice, bob = ({"Authorization": f"Bearer {name}", "User-Agent": name} for name in ("alice", "bob"))
        assert (await _twice(edge, "/page", headers=alice)).body == b"1 alice"
        assert (await edge.get("/page", headers=bob)).body == b"2 bob"
        assert (await edge.get("/page", headers={"User-Agent": "none"})).body == b"3 none"
        assert (await edge.get("/page", headers=alice)).body == b"1 alice"


async def test_a_site_that_changes_takes_its_plans_along(tmp_path: Path, by_plan: Counted) -> None:
    async with tenants(tmp_path) as place:
        place.world.origin.documents["/pages/1"] = {"n": 1}
        await place.put("shop.example")

        async def is_by_plan() -> bool:  # what an edge hears of the new site may come between
            reply = await place.ask("shop.example")
            return by_plan.count > 0 and "; hit" in reply.cache_status

        await eventually(is_by_plan)
        before = by_plan.count
        await place.put("shop.example", enabled=False)

        async def is_disabled() -> bool:
            return (await place.ask("shop.example")).status == 503

        await eventually(is_disabled)
        assert by_plan.count - before < 50
        assert (await place.ask("shop.example")).status == 503


async def test_a_request_whose_head_is_long_gets_no_plan(tmp_path: Path, by_plan: Counted) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), rules=())
        await _twice(edge, "/page", headers={"X-Long": "x" * MAX_OCTETS})
        assert by_plan.count == 0


async def test_what_a_region_says_is_an_answer_even_if_nobody_understands_it(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=Page().handle), cache=Cache(memory_seconds=0), rules=())
        await _twice(edge, "/page")
        for store in edge.cache.stores.values():
            await store.reads.command("SET", store.partitions[0].purge, "9" * 5000)
        assert (await asyncio.wait_for(edge.get("/page"), 5)).status == 500


@MEMORY
async def test_what_selects_no_more_is_looked_at_no_more(
    tmp_path: Path, memory_seconds: float, by_plan: Counted
) -> None:
    page, german = Page(Vary="Accept-Language"), {"Accept-Language": "de"}
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=memory_seconds), rules=())
        await _twice(edge, "/page", headers=german)
        del page.headers["Vary"]
        await edge.cache.purge(Purge(url="/page"))
        first = await _twice(edge, "/page", headers=german)
        before = by_plan.count
        assert (await edge.get("/page", headers=german)).body == first.body
        assert page.calls == 2
        assert by_plan.count == before + 1


@MEMORY
async def test_a_head_is_kept_apart_by_what_the_rule_of_its_get_names(tmp_path: Path, memory_seconds: float) -> None:
    async def page(request: web.Request) -> web.Response:
        mobile = request.headers.get("Sec-CH-UA-Mobile", "")
        return web.Response(text=mobile, headers={"Cache-Control": "max-age=300", "X-Mobile": mobile})

    rules = [Rule("/page", methods=("HEAD",)), Rule("/page", key=("header:sec-ch-ua-mobile",))]
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), cache=Cache(memory_seconds=memory_seconds), rules=rules)
        for mobile in ("?0", "?1"):
            await until_hit(edge, "/page", headers={"Sec-CH-UA-Mobile": mobile})
        for mobile in ("?0", "?0", "?1", "?1"):
            answer = await edge.ask("HEAD", "/page", headers={"Sec-CH-UA-Mobile": mobile})
            assert answer.headers["X-Mobile"] == mobile
