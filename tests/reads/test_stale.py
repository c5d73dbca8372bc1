"""Stale answers: while revalidating, and when the origin fails (RFC 5861)."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import serving, until_hit
from tests.support import eventually
from tests.support.world import World, one_edge

STALE_AT_ONCE = "max-age=0, stale-while-revalidate=60"


async def test_a_stale_answer_goes_out_while_a_new_one_is_fetched(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.cache_control = STALE_AT_ONCE
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        world.origin.documents["/pages/1"] = {"n": 2}
        world.origin.cache_control = "max-age=60"

        async def is_renewed() -> bool:
            return (await edge.get("/pages/1")).body == b'{"n": 2}'

        await eventually(is_renewed)


async def test_one_refresh_runs_for_many_stale_answers(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.cache_control = STALE_AT_ONCE
        await edge.get("/pages/1")

        async def is_stored() -> bool:
            return "stale-while-revalidate" in (await edge.get("/pages/1")).cache_status

        await eventually(is_stored)
        await eventually(lambda: not edge.cache._tasks)
        before = world.origin.reads["/pages/1"]
        world.origin.read_gate.clear()
        for _ in range(20):
            assert "hit" in (await edge.get("/pages/1")).cache_status
        await eventually(lambda: world.origin.reads["/pages/1"] == before + 1)
        world.origin.read_gate.set()


async def test_a_background_refresh_never_writes_to_the_client(tmp_path: Path) -> None:
    calls = 0

    async def page(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            return web.Response(text="whole", headers={"Cache-Control": STALE_AT_ONCE})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a stream that nobody asked for")
        await response.write_eof()
        return response

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        await edge.get("/page")
        first = await until_hit(edge, "/page")
        assert first.body == b"whole"
        await eventually(lambda: calls >= 2)
        await eventually(lambda: not edge.cache._tasks)
        for _ in range(3):  # the same connection, kept alive
            answer = await edge.get("/page")
            assert (answer.status, answer.body) == (200, b"whole")
            await eventually(lambda: not edge.cache._tasks)


@pytest.mark.parametrize("failure", ["status", "exception"])
@pytest.mark.parametrize("allowed", [True, False])
async def test_a_failing_handler_is_covered_by_what_is_stored_where_allowed(
    tmp_path: Path, failure: str, allowed: bool
) -> None:
    fails = False

    async def page(_request: web.Request) -> web.Response:
        if not fails:
            return web.Response(text="text", headers={"Cache-Control": "max-age=0", "ETag": '"1"'})
        if failure == "status":
            return web.Response(status=503, text="down")
        raise RuntimeError("broken")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), cache=Cache(stale_if_error=60.0 if allowed else 0.0))
        assert (await edge.get("/page")).body == b"text"

        async def is_stored() -> bool:
            async with world.servers["ap-northeast-1"].client() as client:
                return bool(await client.keys("*:e:*"))

        await eventually(is_stored)
        fails = True
        answer = await edge.get("/page")
        if allowed:
            assert (answer.status, answer.body) == (200, b"text")
            assert "detail=stale-if-error" in answer.cache_status
        else:
            assert answer.status == (503 if failure == "status" else 500)


async def test_an_exception_without_anything_stored_is_a_500_for_everyone(tmp_path: Path) -> None:
    async def page(_request: web.Request) -> web.Response:
        raise RuntimeError("broken")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        assert [(await edge.get("/page")).status for _ in range(3)] == [500] * 3


async def test_must_revalidate_forbids_stale_answers(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(cache=Cache(stale_if_error=60.0))
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.cache_control = "max-age=0, must-revalidate"
        world.origin.extra_headers = {"ETag": '"1"'}
        await edge.get("/pages/1")
        await world.origin.stop()
        assert (await edge.get("/pages/1")).status == 502
