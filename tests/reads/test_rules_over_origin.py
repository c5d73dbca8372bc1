"""What an operator says over the origin's word, on real edges: lifetimes, grace, keys, bypasses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Cache, Rule
from tests.reads.apps import Counted, fresh, running, serving, until_hit
from tests.support import eventually
from tests.support.world import Edge, Reply, World, one_edge

ALICE = {"Authorization": "Bearer alice"}
BOB = {"Authorization": "Bearer bob"}


async def settled(edge: Edge) -> None:
    """Wait until every answer is stored."""
    await eventually(lambda: not edge.cache._tasks)


async def asked_twice(edge: Edge, path: str, **options: Any) -> Reply:
    """The second answer to the same question, when the first is stored if it is stored at all."""
    await edge.get(path, **options)
    await settled(edge)
    return await edge.get(path, **options)


def answering(status: int, **headers: str) -> Counted:
    """A handler that says its number, with `headers` with underscores for hyphens."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Counted(lambda number: web.Response(status=status, text=str(number), headers=fields))


def failing_later(status: int) -> Counted:
    """A handler that says its number, and fails with `status` from the second call on."""
    headers = {"Cache-Control": "max-age=0"}
    return Counted(
        lambda number: web.Response(status=200 if number == 1 else status, text=str(number), headers=headers)
    )


# --- lifetimes and grace ---


@pytest.mark.parametrize(
    ("rule", "status", "headers", "ttl"),
    [
        ({"ttl": 60}, 200, {}, 60),
        ({"ttl": {"404": 5, "any": 60}}, 404, {}, 5),
        ({"ttl": {404: 5, "any": 60}}, 200, {}, 60),
        ({"ttl": {"502": 5}}, 502, {}, 5),
        ({"ttl": {"5xx": 5}}, 503, {}, 5),
        ({"ttl": 60}, 502, {}, None),
        ({"ttl": {"404": 5}}, 200, {}, None),
        ({"ttl": 60}, 200, {"Cache_Control": "max-age=7"}, 7),
        ({"force_ttl": 60}, 200, {"Cache_Control": "max-age=7"}, 60),
        ({"force_ttl": {"4xx": 60}}, 404, {"Cache_Control": "max-age=7"}, 60),
        ({"force_ttl": {"4xx": 60}}, 200, {"Cache_Control": "max-age=7"}, 7),
        ({"force_ttl": 60}, 200, {"Cache_Control": "no-store"}, None),
        ({"force_ttl": 60}, 200, {"Cache_Control": "private"}, None),
        ({"force_ttl": 60}, 200, {"Set_Cookie": "a=b"}, None),
        ({"force_ttl": 60}, 200, {"Cache_Control": "no-cache", "ETag": '"1"'}, None),
        ({"force_ttl": 0}, 200, {"Cache_Control": "max-age=7"}, None),
    ],
)
async def test_lifetimes(
    tmp_path: Path, rule: dict[str, Any], status: int, headers: dict[str, str], ttl: int | None
) -> None:
    page = answering(status, **headers)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), rules=[Rule("/page", **rule)])
        second = await asked_twice(edge, "/page")
        assert second.status == status
        assert page.calls == (2 if ttl is None else 1)
        if ttl is not None:
            assert f"; hit; ttl={ttl}" in second.cache_status or f"; hit; ttl={ttl - 1}" in second.cache_status


async def test_lifetimes_of_all_paths_and_of_one(tmp_path: Path) -> None:
    page, other = answering(404), answering(404)
    async with World(tmp_path) as world:
        app = serving(page=page.handle, other=other.handle)
        edge = await world.edge(app, cache=Cache(ttl={404: 60}), rules=[Rule("/page", ttl={200: 60})])
        assert "; hit" in (await asked_twice(edge, "/other")).cache_status
        assert "; hit" not in (await asked_twice(edge, "/page")).cache_status


async def test_a_forced_lifetime_makes_no_answer_to_credentials_shared(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=[Rule("/pages/*", force_ttl=60, key=["header:Authorization"])]) as (
        world,
        edge,
    ):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.cache_control = "max-age=60"
        for reads in (1, 2):
            await asked_twice(edge, "/pages/1", headers=ALICE)
            assert world.origin.reads["/pages/1"] == 2 * reads


@pytest.mark.parametrize("kind", ["stale_while_revalidate", "stale_if_error"])
async def test_grace_of_one_path(tmp_path: Path, kind: str) -> None:
    def answer(number: int) -> web.Response:
        return web.Response(
            status=200 if number == 1 else 503, text=str(number), headers={"Cache-Control": "max-age=0"}
        )

    page, other = Counted(answer), Counted(answer)
    async with World(tmp_path) as world:
        app = serving(page=page.handle, other=other.handle)
        options: dict[str, Any] = {kind: 60}
        edge = await world.edge(app, rules=[Rule("/page", **options)])
        stale = await asked_twice(edge, "/page")
        assert (stale.status, stale.body) == (200, b"1")
        assert f"detail={kind.replace('_', '-')}" in stale.cache_status
        assert (await asked_twice(edge, "/other")).status == 503


async def test_a_rule_takes_grace_away(tmp_path: Path) -> None:
    page = answering(200, Cache_Control="max-age=0")
    async with World(tmp_path) as world:
        cache = Cache(stale_while_revalidate=60, stale_if_error=60)
        rules = [Rule("/page", stale_while_revalidate=0, stale_if_error=0)]
        edge = await world.edge(serving(page=page.handle), cache=cache, rules=rules)
        assert "; hit" not in (await asked_twice(edge, "/page")).cache_status


async def test_a_failure_that_may_be_stored_takes_no_place_of_what_may_stand_in_for_it(tmp_path: Path) -> None:
    def answer(number: int) -> web.Response:
        return web.Response(
            status=200 if number == 1 else 502, text=str(number), headers={"Cache-Control": "max-age=0"}
        )

    page = Counted(answer)
    async with World(tmp_path) as world:
        rules = [Rule("/page", force_ttl={"502": 60}, stale_if_error=60)]
        edge = await world.edge(serving(page=page.handle), rules=rules)
        for _ in range(3):
            stale = await asked_twice(edge, "/page")
            assert (stale.status, stale.body) == (200, b"1")
        assert page.calls > 2


async def test_rules_by_decorator(tmp_path: Path) -> None:
    page = answering(404)

    @regioncache.cached(ttl={"404": 60}, ignore_query=["utm_*"])
    async def decorated(request: web.Request) -> web.StreamResponse:
        return await page.handle(request)

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=decorated))
        await edge.get("/page?utm_source=a")
        assert (await until_hit(edge, "/page?utm_source=b")).body == b"1"
    with pytest.raises(regioncache.SettingsError, match=r"ttl\[40x\]"):
        regioncache.cached(ttl={"40x": 5})


# --- the query ---


def saying_its_query() -> web.Application:
    async def page(request: web.Request) -> web.Response:
        return fresh(request.rel_url.raw_query_string)

    return serving(page=page)


@pytest.mark.parametrize(
    ("options", "first", "second", "same"),
    [
        ({"ignore_query": ["utm_*", "fbclid"]}, "a=1&utm_source=x", "a=1&fbclid=2", True),
        ({"ignore_query": ["utm_*"]}, "", "utm_source=x", True),
        ({"ignore_query": ["é"]}, "%C3%A9=1", "", True),
        ({"ignore_query": ["utm_*"]}, "a=1", "a=2", False),
        ({"ignore_query": ["utm_*"]}, "a=1&b=2", "b=2&a=1", False),
        ({"ignore_query": ["x"]}, "x=1;a=2", "x=1", False),
        ({"sort_query": True}, "b=2&a=1", "a=1&b=2", True),
        ({"sort_query": True}, "a=1&a=2", "a=2&a=1", False),
        ({"ignore_query": ["*"], "key": ["query:page"]}, "page=1&x=1", "y=2&page=1", True),
        ({"ignore_query": ["*"], "key": ["query:page"]}, "page=1", "page=2", False),
    ],
)
@pytest.mark.parametrize("where", ["rule", "cache"])
async def test_queries(
    tmp_path: Path, options: dict[str, Any], first: str, second: str, same: bool, where: str
) -> None:
    key = options.get("key", ())
    said = {name: value for name, value in options.items() if name != "key"}
    rule = Rule("/page", key=key, **(said if where == "rule" else {}))
    async with World(tmp_path) as world:
        cache = Cache(**(said if where == "cache" else {}))
        edge = await world.edge(saying_its_query(), cache=cache, rules=[rule])
        # The origin sees the query as it came.
        assert (await edge.get(f"/page?{first}")).body.decode() == first
        await settled(edge)
        reply = await edge.get(f"/page?{second}")
        assert ("; hit" in reply.cache_status, reply.body.decode()) == (same, first if same else second)


async def test_a_rule_lets_every_parameter_count_again(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        cache = Cache(ignore_query=["*"], sort_query=True)
        edge = await world.edge(
            saying_its_query(), cache=cache, rules=[Rule("/page", ignore_query=[], sort_query=False)]
        )
        await edge.get("/page?a=1&b=2")
        await settled(edge)
        assert (await edge.get("/page?b=2&a=1")).body == b"b=2&a=1"


WRITTEN = [
    Rule("/items/{id}", methods=["PUT"], write="behind"),
    Rule("/items/{id}", methods=["GET"], ignore_query=["utm_*"], sort_query=True),
]


@pytest.mark.parametrize("query", ["", "?utm_source=x", "?b=1&a=2&utm_source=x"])
@pytest.mark.parametrize("asked", ["", "?utm_source=x&utm_medium=y", "?a=2&b=1"])
@pytest.mark.parametrize("is_stored", [True, False])
async def test_ones_own_write_shows_under_every_query_that_means_the_same(
    tmp_path: Path, query: str, asked: str, is_stored: bool
) -> None:
    """Before the origin has it and after (W4)."""
    same = ("a=" in query) == ("a=" in asked)
    async with one_edge(tmp_path, rules=WRITTEN, cache=Cache(dirty_wait=0)) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        if is_stored:
            await until_hit(edge, f"/items/1{asked}")
        world.origin.gate.clear()
        assert (await edge.put(f"/items/1{query}", {"n": 2}, headers=ALICE)).status == 202
        reply = await edge.get(f"/items/1{asked}", headers=ALICE)
        assert "detail=dirty" in reply.cache_status
        assert (reply.body == b'{"n": 2}') is same
        assert (await edge.get(f"/items/1{asked}", headers=BOB)).body == b'{"n": 1}'
        world.origin.gate.set()
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 2})
        await eventually_reads(edge, f"/items/1{asked}", b'{"n": 2}')


async def eventually_reads(edge: Edge, path: str, body: bytes) -> None:
    async def is_there() -> bool:
        return (await edge.get(path, headers=BOB)).body == body

    await eventually(is_there)


async def test_a_write_reaches_the_origin_with_its_query_as_it_came(tmp_path: Path) -> None:
    seen: list[str] = []

    async def item(request: web.Request) -> web.Response:
        seen.append(request.rel_url.raw_query_string)
        return web.Response(status=204)

    origin = web.Application()
    origin.router.add_put("/items/{id}", item)

    async with World(tmp_path) as world, running(origin) as address:
        edge = await world.edge(origin=address, rules=WRITTEN)
        await edge.put("/items/1?utm_source=x&b=1&a=2", {"n": 2})
        await eventually(lambda: seen == ["utm_source=x&b=1&a=2"])


# --- further parts of the key ---


async def _kinds(request: web.Request) -> web.Response:
    parts = (request.headers.get("X-Kind", "-"), request.cookies.get("lang", "-"), request.headers.get("CF-IPCountry"))
    return fresh(" ".join(map(str, parts)), Cache_Control="public, max-age=60")


async def test_what_a_rule_adds_to_the_key_tells_entries_apart(tmp_path: Path) -> None:
    questions = [
        {},
        {"X-Kind": "a"},
        {"X-Kind": "b"},
        {"X-Kind": "a" * 300},
        {"X-Kind": "a" * 301},
        {"Cookie": "lang=de"},
        {"Cookie": "lang=fr"},
        {"Cookie": "x lang=es"},  # aiohttp finds a cookie in this
        {"Cookie": "lang=de", "X-Kind": "a"},
        {"CF-IPCountry": "JP"},
        {"CF-IPCountry": "BR"},
        {"CF-IPCountry": "T1"},
    ]
    async with World(tmp_path) as world:
        rules = [Rule("/page", key=["header:X-Kind", "cookie:lang", "country"])]
        edge = await world.edge(serving(page=_kinds), rules=rules)
        answers = [(await until_hit(edge, "/page", headers=question)).body for question in questions]
        assert len(set(answers)) == len(questions)
        for question, answer in zip(questions, answers, strict=True):
            reply = await edge.get("/page", headers=question)
            assert (reply.body, "; hit" in reply.cache_status) == (answer, True)


async def test_what_a_rule_does_not_add_shares_an_entry(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=_kinds), rules=[Rule("/page", key=["header:X-Kind"])])
        await until_hit(edge, "/page", headers={"X-Kind": "a"})
        reply = await edge.get("/page", headers={"X-Kind": "a", "X-Other": "b", "Cookie": "theme=dark"})
        assert "; hit" in reply.cache_status


async def test_who_is_not_trusted_chooses_no_countrys_entry(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        rules = [Rule("/page", key=["country"])]
        trusting = await world.edge(serving(page=_kinds), rules=rules)
        wary = await world.edge(serving(page=_kinds), rules=rules, trusted_proxies=[])
        await until_hit(trusting, "/page", headers={"CF-IPCountry": "JP"})
        assert "; hit" not in (await wary.get("/page", headers={"CF-IPCountry": "JP"})).cache_status
        await settled(wary)
        # Nor does what a handler made of the claim go to those who claim nothing.
        reply = await wary.get("/page")
        assert ("; hit" in reply.cache_status, reply.body) == (False, b"- - None")


async def test_a_cookie_in_the_key_is_a_credential_all_the_same(tmp_path: Path) -> None:
    page = answering(200, Cache_Control="max-age=60")
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), rules=[Rule("/page", key=["cookie:lang"])])
        await asked_twice(edge, "/page", headers={"Cookie": "lang=de"})
        assert page.calls == 2


async def test_a_write_of_another_is_not_folded_over_an_entry_of_another_kind(tmp_path: Path) -> None:
    """What landed under one key says nothing about the representation under another."""
    rules = [Rule("/items/{id}", write="behind", key=["header:X-Kind"])]
    async with one_edge(tmp_path, rules=rules) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await until_hit(edge, "/items/1", headers={"X-Kind": "a"})
        reads = world.origin.reads["/items/1"]
        assert (await edge.put("/items/1", {"n": 2}, headers=ALICE | {"X-Kind": "b"})).status == 202
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 2})

        async def is_new() -> bool:
            return (await edge.get("/items/1", headers={"X-Kind": "a"})).body == b'{"n": 2}'

        await eventually(is_new)
        assert world.origin.reads["/items/1"] > reads  # asked of the origin, not folded


async def test_a_crowd_of_two_kinds_makes_two_fetches(tmp_path: Path) -> None:
    gate = asyncio.Event()
    calls: list[str] = []

    async def page(request: web.Request) -> web.Response:
        calls.append(request.headers["X-Kind"])
        await gate.wait()
        return fresh(request.headers["X-Kind"])

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), rules=[Rule("/page", key=["header:X-Kind"])])
        kinds = ["a", "b"] * 10
        crowd = [asyncio.ensure_future(edge.get("/page", headers={"X-Kind": kind})) for kind in kinds]
        await eventually(lambda: len(calls) == 2)
        gate.set()
        assert [reply.body.decode() for reply in await asyncio.gather(*crowd)] == kinds
        assert sorted(calls) == ["a", "b"]


# --- bypasses ---


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"Cookie": "a=b; preview=1"}, "cookie"),
        ({"Cookie": "preview"}, "cookie"),
        ({"Cookie": "a b preview=1"}, "cookie"),
        ({"X-Preview": ""}, "header"),
        ({"x-preview": "1", "Range": "bytes=0-1"}, "header"),
        ({"x-preview": "1", "Connection": "x-preview"}, "connection"),
    ],
)
async def test_bypasses(tmp_path: Path, headers: dict[str, str], detail: str) -> None:
    page = answering(200, Cache_Control="public, max-age=60")
    async with World(tmp_path) as world:
        rules = [Rule("/page", bypass_cookies=["preview"], bypass_headers=["X-Preview"])]
        edge = await world.edge(serving(page=page.handle), rules=rules)
        reply = await asked_twice(edge, "/page", headers=headers)
        assert f"fwd=bypass; detail={detail}" in reply.cache_status
        assert page.calls == 2
        stored = await asked_twice(edge, "/page", headers={"Cookie": "xpreview=1"})
        assert ("; hit" in stored.cache_status, stored.body) == (True, b"3")
        assert (await edge.get("/page", headers=headers)).body == b"4"


async def test_a_bypass_admits_that_it_lacks_ones_own_write(tmp_path: Path) -> None:
    rules = [Rule("/items/{id}", write="behind", bypass_headers=["X-Preview"])]
    async with one_edge(tmp_path, rules=rules) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": 2})
        reply = await edge.get("/items/1", headers={"X-Preview": "1", "Range": "bytes=0-"})
        assert reply.body == b'{"n": 1}'
        assert "detail=dirty" in reply.cache_status
        assert reply.headers["Cache-Control"] == "private, no-store"
