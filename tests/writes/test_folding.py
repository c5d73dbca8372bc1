"""What readers see of writes that are on their way: effects, principals, what a folded answer looks like."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from aiohttp_regioncache import UNKNOWN, Affect, Cache, Connections, Representation, Rule, Write
from aiohttp_regioncache.effects import Unknown
from tests.reads.apps import serving, until_hit
from tests.support import eventually
from tests.support.world import SAO_PAULO, Edge, World, one_edge

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}
MERGE = {"Content-Type": "application/merge-patch+json"}
BRIEF = Cache(dirty_wait=0.05)
PATIENT = Cache(dirty_wait=30.0)


def behind(**options: Any) -> list[Rule]:
    return [Rule("/items/{id}", write="behind", **options)]


async def patch(edge: Edge, path: str, document: Any, **headers: str) -> int:
    """Send a merge patch; the status of the answer."""
    return (await edge.ask("PATCH", path, data=json.dumps(document), headers=MERGE | headers)).status


async def seen(edge: Edge, path: str, **options: Any) -> Any:
    """The document that a read shows."""
    return json.loads((await edge.get(path, **options)).body)


# --- effects ---


@pytest.mark.parametrize("stored", [True, False])
async def test_a_merge_patch_is_folded_over_what_is_stored_or_over_the_origins_answer(
    tmp_path: Path, stored: bool
) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"a": 1, "b": 2}
        if stored:
            await edge.get("/items/1")
            await until_hit(edge, "/items/1")
        world.origin.gate.clear()
        assert await patch(edge, "/items/1", {"b": None, "c": 3}) == 202
        answer = await edge.get("/items/1")
        assert json.loads(answer.body) == {"a": 1, "c": 3}
        way = "hit" if stored else "fwd=miss"
        assert answer.cache_status == f"regioncache/ap-northeast-1; {way}; detail=dirty"


async def test_a_row_of_writes_is_folded_in_its_order(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        await edge.put("/items/1", {"a": 1})
        await patch(edge, "/items/1", {"b": 2})
        assert await seen(edge, "/items/1") == {"a": 1, "b": 2}
        assert (await edge.ask("DELETE", "/items/1")).status == 202
        gone = await edge.get("/items/1")
        assert (gone.status, gone.headers["Cache-Control"]) == (404, "private, no-store")
        await edge.put("/items/1", {"c": 3})
        assert await seen(edge, "/items/1") == {"c": 3}


async def test_an_unknown_write_is_waited_for_and_then_seen(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=PATIENT) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        world.origin.gate.clear()
        assert (await edge.ask("POST", "/items/1", data=b"{}")).status == 202
        reader = asyncio.ensure_future(edge.get("/items/1"))
        await eventually(lambda: bool(world.origin.in_flight["/items/1"]))
        assert not reader.done()
        world.origin.documents["/items/1"] = {"n": 2}
        world.origin.gate.set()
        answer = await reader
        assert json.loads(answer.body) == {"n": 2}
        assert "dirty" not in answer.cache_status


async def test_an_unknown_write_that_does_not_land_is_admitted(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=BRIEF) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        assert (await edge.ask("POST", "/items/1", data=b"{}")).status == 202
        answer = await edge.get("/items/1")
        assert json.loads(answer.body) == {"n": 1}
        assert "fwd=stale; detail=dirty" in answer.cache_status
        assert answer.headers["Cache-Control"] == "private, no-store"


async def test_a_patch_over_something_that_is_no_json_is_waited_for(tmp_path: Path) -> None:
    """Only the origin's answer shows that the effect is unknown here."""
    text = ["old"]

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=text[0], headers={"Cache-Control": "max-age=60"})

    app = web.Application()
    app.router.add_get("/items/1", page)
    async with World(tmp_path) as world:
        edge = await world.edge(app, cache=PATIENT)
        world.origin.documents["/items/1"] = {}
        world.origin.gate.clear()
        assert await patch(edge, "/items/1", {"n": 1}) == 202
        reader = asyncio.ensure_future(edge.get("/items/1"))
        await eventually(lambda: bool(world.origin.in_flight["/items/1"]))
        text[0] = "new"
        world.origin.gate.set()
        answer = await reader
        assert answer.body == b"new"
        assert "dirty" not in answer.cache_status


def append(base: Representation | None, write: Write) -> Representation | Unknown:
    """Put the written document into the list, once."""
    if base is None:
        return UNKNOWN
    listed = msgspec.json.decode(base.body)
    new = msgspec.json.decode(write.body)
    return Representation(msgspec.json.encode([*(item for item in listed if item != new), new]), base.content_type)


async def test_a_function_says_what_a_write_does_to_another_resource(tmp_path: Path) -> None:
    rules = behind(affects=[Affect("/items", effect=append)])
    async with one_edge(tmp_path, rules=rules, cache=BRIEF) as (world, edge):
        world.origin.documents["/items"] = [{"n": 0}]  # type: ignore[assignment]
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": 1}, headers=ANN)
        assert await seen(edge, "/items", headers=ANN) == [{"n": 0}, {"n": 1}]
        await edge.put("/items/2", {"n": 2}, headers=ANN)
        assert await seen(edge, "/items", headers=ANN) == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert await seen(edge, "/items", headers=BOB) == [{"n": 0}]


async def test_the_parent_is_dirty_for_the_writer_alone(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=BRIEF) as (world, edge):
        world.origin.documents["/items"] = {"list": []}
        await edge.get("/items")
        await until_hit(edge, "/items")
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": 1}, headers=ANN)
        assert "detail=dirty" in (await edge.get("/items", headers=ANN)).cache_status
        assert "; hit; ttl" in (await edge.get("/items", headers=BOB)).cache_status


async def test_another_query_of_the_target_is_of_unknown_effect(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=BRIEF) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": 2})
        other = await edge.get("/items/1?view=short")
        assert json.loads(other.body) == {"n": 1}
        assert "fwd=stale; detail=dirty" in other.cache_status


async def test_a_coded_base_is_not_folded_over(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=BRIEF) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.extra_headers = {"Content-Encoding": "x-special"}
        world.origin.gate.clear()
        await patch(edge, "/items/1", {"n": 2})
        answer = await edge.get("/items/1")
        assert json.loads(answer.body) == {"n": 1}
        assert "detail=dirty" in answer.cache_status


@pytest.mark.parametrize("field", [{"Content-Range": "bytes 0-3/100"}, {"Content-Encoding": "x-special"}])
async def test_a_part_or_a_coded_form_replaces_nothing_that_the_write_affects(
    tmp_path: Path, field: dict[str, str]
) -> None:
    rules = behind(affects=[Affect("/items/{id}/copy", effect="replace")])
    async with one_edge(tmp_path, rules=rules, cache=BRIEF) as (world, edge):
        world.origin.documents["/items/1/copy"] = {"whole": True}
        world.origin.gate.clear()
        written = await edge.ask("PUT", "/items/1", data=b"part", headers={"Content-Type": "text/plain", **field})
        assert written.status == 202
        answer = await edge.get("/items/1/copy")
        assert json.loads(answer.body) == {"whole": True}
        assert "detail=dirty" in answer.cache_status


# --- what a folded answer looks like ---


async def test_a_folded_answer_has_validators_of_its_own(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.extra_headers = {
            "ETag": '"origin"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT", "Content-Digest": "x", "X-Kept": "1",
        }  # fmt: skip
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        world.origin.gate.clear()
        await patch(edge, "/items/1", {"n": 2})
        answer = await edge.get("/items/1")
        etag = answer.headers["ETag"]
        assert etag not in ('"origin"', "")
        assert "Last-Modified" not in answer.headers
        assert "Content-Digest" not in answer.headers
        assert answer.headers["X-Kept"] == "1"
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["Content-Type"].startswith("application/json")
        assert (await edge.get("/items/1")).headers["ETag"] == etag
        same = await edge.get("/items/1", headers={"If-None-Match": etag})
        assert (same.status, same.body) == (304, b"")
        head = await edge.ask("HEAD", "/items/1")
        assert (head.headers["ETag"], head.headers["Content-Length"]) == (etag, str(len(answer.body)))


@pytest.mark.parametrize("headers", [{"Cache-Control": "no-store"}, {"Cache-Control": "no-cache"}])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_ways_around_the_cache_are_no_ways_around_ones_own_writes(
    tmp_path: Path, headers: dict[str, str], method: str
) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        written = await edge.ask(method, "/items/1", data=b'{"n":2}', headers=MERGE if method == "PATCH" else JSON)
        assert written.status == 202
        answer = await edge.get("/items/1", headers=headers)
        assert (answer.status, json.loads(answer.body)) == (200, {"n": 2})


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_range_is_cut_from_ones_own_view(tmp_path: Path, method: str) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        await edge.ask(method, "/items/1", data=b'{"n":2}', headers=MERGE if method == "PATCH" else JSON)
        part = await edge.get("/items/1", headers={"Range": "bytes=1-"})
        whole = await edge.get("/items/1")
        assert json.loads(whole.body) == {"n": 2}
        assert (part.status, part.body) == (206, whole.body[1:])
        assert part.headers["Content-Range"] == f"bytes 1-{len(whole.body) - 1}/{len(whole.body)}"
        assert part.headers["ETag"] == whole.headers["ETag"]
        assert part.headers["Cache-Control"] == "private, no-store"


JSON = {"Content-Type": "application/json"}


async def test_a_head_that_cannot_be_folded_for_admits_it(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        await patch(edge, "/items/1", {"n": 2})
        head = await edge.ask("HEAD", "/items/1")
        assert "detail=dirty" in head.cache_status
        assert head.headers["Cache-Control"] == "private, no-store"


async def test_what_has_landed_is_no_excuse_not_to_ask_the_origin(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        assert (await edge.put("/items/1", {"n": 2}, headers={"Prefer": "wait=10"})).status == 200
        world.origin.documents["/items/1"] = {"n": 3}
        assert await seen(edge, "/items/1", headers={"Cache-Control": "no-cache"}) == {"n": 3}


async def test_a_base_that_lacks_landed_writes_is_renewed(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        assert (await edge.put("/items/1", {"n": 2}, headers={"Prefer": "wait=10"})).status == 200

        async def is_clean() -> bool:
            answer = await edge.get("/items/1")
            assert json.loads(answer.body) == {"n": 2}
            return "dirty" not in answer.cache_status

        await eventually(is_clean)
        assert world.origin.reads["/items/1"] == 2


# --- whose writes (W6, S1) ---


async def test_nobody_sees_anothers_pending_write(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        await edge.put("/items/1", {"n": "ann"}, headers=ANN)
        await edge.put("/items/1", {"n": "bob"}, headers=BOB)
        for headers, shown in ((ANN, "ann"), (BOB, "bob"), ({}, 1), ({"Cookie": "a=1"}, 1)):
            assert await seen(edge, "/items/1", headers=headers) == {"n": shown}


async def test_a_shared_write_shows_to_all_of_the_region_once_authorised(tmp_path: Path) -> None:
    async def authorize(request: web.Request) -> bool:
        return request.headers.get("Authorization") == ANN["Authorization"]

    async with one_edge(tmp_path, rules=behind(shared=True, authorize=authorize)) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        assert (await edge.put("/items/1", {"n": "forged"}, headers=BOB)).status == 403
        assert (await edge.put("/items/1", {"n": 2}, headers=ANN)).status == 202
        for headers in (ANN, BOB, {}):
            assert await seen(edge, "/items/1", headers=headers) == {"n": 2}
        assert await seen(edge, "/items/1", headers=SAO_PAULO) == {"n": 1}


async def test_a_private_answer_is_nobody_elses_base(tmp_path: Path) -> None:
    gate = asyncio.Event()
    calls: list[str] = []

    async def page(request: web.Request) -> web.Response:
        who = request.headers["X-Who"]
        calls.append(who)
        await gate.wait()
        return web.json_response({"who": who}, headers={"Cache-Control": "private"})

    app = web.Application()
    app.router.add_get("/items/1", page)
    async with World(tmp_path) as world:
        edge = await world.edge(app, connections=Connections(timeout=5.0))  # not one whose region is slow
        world.origin.gate.clear()
        assert await patch(edge, "/items/1", {"n": 2}) == 202
        names = [str(number) for number in range(5)]
        readers = [asyncio.ensure_future(seen(edge, "/items/1", headers={"X-Who": name})) for name in names]
        await eventually(lambda: bool(calls))
        gate.set()
        assert await asyncio.gather(*readers) == [{"who": name, "n": 2} for name in names]


async def test_an_answer_that_varies_is_nobody_elses_base(tmp_path: Path) -> None:
    """A landed write of one user over what another one sees would show it to the other."""

    async def page(request: web.Request) -> web.Response:
        return web.json_response({}, headers={"Cache-Control": "max-age=60", "Vary": "Authorization"})

    app = web.Application()
    app.router.add_get("/items/1", page)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        assert (await edge.put("/items/1", {"n": "ann's"}, headers=ANN | {"Prefer": "wait=10"})).status == 200
        for headers in ({}, BOB):
            assert await seen(edge, "/items/1", headers=headers) == {}


# --- W5 ---


async def test_a_rejected_write_vanishes_and_the_later_ones_stay(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        world.origin.gate.clear()
        bad = await edge.ask("PATCH", "/items/1", data=b'{"bad":true}', headers=MERGE)
        await patch(edge, "/items/1", {"good": True})
        assert await seen(edge, "/items/1") == {"n": 1, "bad": True, "good": True}
        world.origin.refuse["/items/1"] = 422
        await eventually(lambda: bool(world.origin.in_flight["/items/1"]))
        world.origin.gate.set()  # lets the one through that waits there
        world.origin.gate.clear()

        async def is_rejected() -> bool:
            return bool((await seen(edge, bad.headers["Location"]))["state"] == "rejected")

        await eventually(is_rejected)
        del world.origin.refuse["/items/1"]

        async def is_gone() -> bool:
            return bool(await seen(edge, "/items/1") == {"n": 1, "good": True})

        await eventually(is_gone)
        world.origin.gate.set()
        await eventually(lambda: world.origin.documents["/items/1"] == {"n": 1, "good": True})
        assert await seen(edge, "/items/1") == {"n": 1, "good": True}


async def test_anothers_fill_does_not_bring_a_rejected_write_back(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.refuse["/items/1"] = 403
        refused = await edge.put("/items/1", {"n": 2}, headers=ANN | {"Prefer": "wait=10"})
        assert refused.status == 403
        for headers in (ANN, BOB, {}):
            assert await seen(edge, "/items/1", headers=headers) == {"n": 1}


async def test_serving_is_not_needed_for_reads_of_handlers(tmp_path: Path) -> None:
    """A handler of the application is the origin of reads, an address that of writes."""

    async def item(_request: web.Request) -> web.Response:
        return web.json_response({"from": "handler"}, headers={"Cache-Control": "max-age=60"})

    async with World(tmp_path) as world:
        edge = await world.edge(serving(**{"items/1": item}))
        world.origin.gate.clear()
        assert await patch(edge, "/items/1", {"n": 1}) == 202
        assert await seen(edge, "/items/1") == {"from": "handler", "n": 1}
        assert not world.origin.reads
