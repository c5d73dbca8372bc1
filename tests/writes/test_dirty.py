"""Answers to a reader with pending writes: folded, or admitted to lack them, and never for other caches."""

import json
from pathlib import Path
from typing import Any

import pytest

from aiohttp_regioncache import Cache, Rule
from tests.reads.apps import until_hit
from tests.support import eventually
from tests.support.world import Edge, World, one_edge

ALICE = {"Authorization": "Bearer alice"}
PATCH = {"Content-Type": "application/merge-patch+json"}


def is_admitted(answer: Any) -> bool:
    return "detail=dirty" in answer.cache_status and answer.headers["Cache-Control"] == "private, no-store"


async def pend(world: World, edge: Edge, *, effect: str = "merge-patch") -> None:
    world.origin.gate.clear()
    fields = PATCH if effect == "merge-patch" else {"Content-Type": "text/plain"}
    answer = await edge.ask("PATCH", "/items/1", data=b'{"n": 2}', headers=fields)
    assert answer.status == 202


@pytest.mark.parametrize("effect", ["merge-patch", "unknown"])
async def test_an_answer_too_large_to_fold_admits_what_it_lacks(tmp_path: Path, effect: str) -> None:
    cache = Cache(max_body=64, dirty_wait=0.0)
    async with one_edge(tmp_path, cache=cache) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1, "text": "x" * 200}
        await pend(world, edge, effect=effect)
        answer = await edge.get("/items/1")
        assert json.loads(answer.body)["n"] == 1
        assert is_admitted(answer)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"If-Match": '"v1"'}},
        {"headers": {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}},
        {"data": b"a body"},
    ],
    ids=["If-Match", "If-Unmodified-Since", "body"],
)
async def test_a_read_that_bypasses_the_cache_admits_what_it_lacks(tmp_path: Path, options: dict[str, Any]) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        assert "fwd=bypass" in (await edge.get("/items/1", **options)).cache_status
        await pend(world, edge)
        assert is_admitted(await edge.get("/items/1", **options))


async def test_an_excluded_path_admits_what_it_lacks(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=Cache(exclude=("/items/**",))) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await pend(world, edge)
        assert is_admitted(await edge.get("/items/1"))


async def test_no_field_lets_a_cache_store_a_dirty_answer(tmp_path: Path) -> None:
    targeted = {"CDN-Cache-Control": "max-age=60", "Surrogate-Control": "max-age=60", "Expires": "0"}
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.extra_headers = targeted
        await pend(world, edge)
        answer = await edge.get("/items/1")
        assert json.loads(answer.body) == {"n": 2}
        assert is_admitted(answer)
        assert not set(targeted) & set(answer.headers)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_is_not_what_it_says_is_refused(tmp_path: Path, coding: str) -> None:
    async with one_edge(tmp_path) as (world, edge):
        fields = {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = await edge.ask("PUT", "/items/1", data=b"garbage", headers=fields)
        assert answer.status == 400
        assert not world.origin.effects


async def test_a_reader_who_cannot_store_renews_nothing(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        assert (await edge.put("/items/1", {"n": 2}, headers=ALICE)).status == 202
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 2})
        reads = world.origin.reads["/items/1"]
        for _ in range(10):
            assert json.loads((await edge.get("/items/1", headers=ALICE)).body) == {"n": 2}
        assert world.origin.reads["/items/1"] == reads


async def test_a_repeated_write_is_told_what_became_of_the_first(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        key = {"Idempotency-Key": "k"}
        first = json.loads((await edge.put("/items/1", {"n": 2}, headers=key)).body)
        assert first["state"] == "pending"

        async def is_synced() -> bool:
            again = await edge.put("/items/1", {"n": 2}, headers=key)
            told = json.loads(again.body)
            assert (again.status, told["id"]) == (202, first["id"])
            return bool(told["state"] == "synced")

        await eventually(is_synced)
        assert len(world.origin.effects) == 1


async def test_a_head_is_answered_stale_when_the_origin_fails(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=[Rule("/**")], cache=Cache(memory_seconds=0)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.cache_control = "max-age=60, stale-if-error=60"
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        await world.origin.stop()
        # The request finds the entry too old, the origin is gone.
        answer = await edge.ask("HEAD", "/pages/1", headers={"Cache-Control": "max-age=0"})
        assert (answer.status, "detail=stale-if-unreachable" in answer.cache_status) == (200, True)


async def test_memory_does_not_go_back_behind_a_reload(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=Cache(memory_seconds=60.0)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await edge.get("/pages/1")

        async def in_memory() -> bool:
            return "detail=memory" in (await edge.get("/pages/1")).cache_status

        await eventually(in_memory)
        world.origin.documents["/pages/1"] = {"n": 2}
        assert (await edge.get("/pages/1", headers={"Cache-Control": "no-cache"})).body == b'{"n": 2}'

        async def is_new() -> bool:
            return (await edge.get("/pages/1")).body == b'{"n": 2}'

        await eventually(is_new)
        await eventually(in_memory)
        assert await is_new()
