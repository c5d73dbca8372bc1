"""The status page of a write."""

from __future__ import annotations

import json
from pathlib import Path

from aiohttp_regioncache import Rule
from tests.support import eventually
from tests.support.world import REGIONS, one_edge

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}


async def test_a_page_for_programs_and_one_for_people(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        page = (await edge.put("/items/1?q=<b>", {"n": 1}, headers=ANN)).headers["Location"]
        pending = await edge.get(page, headers=ANN)
        document = json.loads(pending.body)
        assert pending.headers["Retry-After"] == "1"
        assert (document["state"], document["method"], document["tries"]) == ("pending", "PUT", 0)
        shown = await edge.get(page, headers=ANN | {"Accept": "text/html,application/xhtml+xml"})
        assert shown.headers["Content-Type"].startswith("text/html")
        assert b"This write is pending" in shown.body
        assert b"<b>" not in shown.body
        assert (await edge.ask("HEAD", page, headers=ANN)).body == b""
        world.origin.gate.set()

        async def is_synced() -> bool:
            return bool(json.loads((await edge.get(page, headers=ANN)).body)["state"] == "synced")

        await eventually(is_synced)
        synced = await edge.get(page, headers=ANN)
        document = json.loads(synced.body)
        assert document["answer"]["status"] == 200
        assert document["settled"] >= document["accepted"]
        assert synced.headers["Cache-Control"] == "no-store"
        assert "Retry-After" not in synced.headers
        assert b"This write is synced" in (await edge.get(page, headers=ANN | {"Accept": "text/html"})).body


async def test_nobody_else_can_see_it(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        page = (await edge.put("/items/1", {}, headers=ANN)).headers["Location"]
        assert [(await edge.get(page, headers=headers)).status for headers in (ANN, BOB, {})] == [200, 404, 404]


async def test_who_writes_under_a_named_identity_can_see_it(tmp_path: Path) -> None:
    rule = Rule("/items/{id}", write="behind", principal="header:X-User")
    async with one_edge(tmp_path, rules=[rule]) as (_, edge):
        page = (await edge.put("/items/1", {}, headers={"X-User": "ann"})).headers["Location"]
        assert (await edge.get(page, headers={"X-User": "ann"})).status == 200
        assert (await edge.get(page, headers={"X-User": "bob"})).status == 404


GARBAGE = [
    "writes/", "writes/x", "writes/" + "x" * 500, f"writes/{REGIONS[0]}-0-00", f"writes/{REGIONS[0]}-9-00",
    f"writes/{REGIONS[0]}-²-00", f"writes/{REGIONS[0]}-99999999999999999999-00", "writes/nowhere-0-00", "", "other",
    f"writes/{REGIONS[0]}--1-00", f"writes/{REGIONS[0]}-0-00/more", "writes/{rc:x}",
]  # fmt: skip


async def test_ids_that_are_none_are_not_found(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        for page in GARBAGE:
            answer = await edge.get(f"/_regioncache/{page}")
            assert answer.status == 404, page
            assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_other_methods_are_refused(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        page = (await edge.put("/items/1", {})).headers["Location"]
        answer = await edge.ask("DELETE", page)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_why_a_write_was_refused(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.refuse["/items/1"] = 403
        page = (await edge.put("/items/1", {})).headers["Location"]

        async def is_rejected() -> bool:
            return bool(json.loads((await edge.get(page)).body)["state"] == "rejected")

        await eventually(is_rejected)
        assert json.loads((await edge.get(page)).body)["reason"] == "auth"


async def test_where_the_origin_has_put_what_was_created(tmp_path: Path) -> None:
    rule = Rule("/items", methods=("POST",), write="behind", affects=())
    async with one_edge(tmp_path, rules=[rule]) as (world, edge):
        world.origin.refuse["/items"] = 201
        world.origin.refuse_headers = {"Location": "/items/7"}
        accepted = await edge.ask("POST", "/items", json={}, headers=ANN)
        assert accepted.status == 202
        page = accepted.headers["Location"]

        async def has_location() -> bool:
            return bool(json.loads((await edge.get(page, headers=ANN)).body).get("location") == "/items/7")

        await eventually(has_location)


async def test_a_region_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        page = (await edge.put("/items/1", {})).headers["Location"]
        await world.servers[REGIONS[0]].kill()
        answer = await edge.get(page)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
