"""Accepting a write: its answers, its idempotency key, what is refused."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Queue, Rule, Sync
from tests.reads.apps import running
from tests.support import eventually
from tests.support.world import SAO_PAULO, SECRET, Edge, Reply, World, forwarding_app, one_edge

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}


def behind(**options: Any) -> list[Rule]:
    return [Rule("/items/{id}", write="behind", **options)]


async def state_of(edge: Edge, written: Reply, **headers: str) -> str:
    """The state that a write's page tells."""
    return str(json.loads((await edge.get(written.headers["Location"], headers=headers)).body)["state"])


# --- answers ---


async def test_an_accepted_write_tells_where_to_follow_it(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        written = await edge.put("/items/1", {"n": 1}, headers=SAO_PAULO)
        assert written.status == 202
        document = json.loads(written.body)
        assert document["state"] == "pending"
        assert document["status"] == written.headers["Location"] == f"/_regioncache/writes/{document['id']}"
        assert written.headers["Cache-Control"] == "no-store"
        assert written.cache_status == "regioncache/sa-east-1; detail=write-behind"
        assert await state_of(edge, written) == "pending"
        world.origin.gate.set()

        async def is_synced() -> bool:
            return await state_of(edge, written) == "synced"

        await eventually(is_synced)
        assert [effect.body for effect in world.origin.effects] == [b'{"n": 1}']


async def test_a_write_reaches_the_origin_as_it_was_sent(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        headers = {
            "Authorization": "Bearer ann",
            "Cookie": "a=1",
            "X-Special": "yes",
            "Content-Type": "application/json",
        }
        target = "/items/a%20b%2Fc?x=1&y=%C3%A9"
        await edge.ask("PUT", target, data=b'{"n": 1}', headers=headers)
        await eventually(lambda: bool(world.origin.effects))
        request = world.origin.requests[-1]
        assert request.rel_url.raw_path_qs == target
        assert {name: request.headers[name] for name in headers} == headers
        assert request.headers["Idempotency-Key"].startswith('"')
        assert request.headers["Host"] == world.origin.url.removeprefix("http://")


@pytest.mark.parametrize("refused", [None, 409])
async def test_who_waits_gets_the_origins_own_answer(tmp_path: Path, refused: int | None) -> None:
    async with one_edge(tmp_path) as (world, edge):
        if refused:
            world.origin.refuse["/items/1"] = refused
        answer = await edge.put("/items/1", {"n": 1}, headers={"Prefer": "wait=10"})
        assert answer.status == (refused or 200)
        assert answer.headers["Preference-Applied"] == "wait"
        if not refused:
            assert json.loads(answer.body) == {"applied": 1}
            assert answer.headers["Content-Type"].startswith("application/json")


async def test_who_waits_too_short_gets_the_status_page(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        for wish in ("wait=0", "wait=1"):
            answer = await edge.put("/items/1", {"n": 1}, headers={"Prefer": wish})
            assert answer.status == 202
            assert answer.headers["Preference-Applied"] == wish
        at_once = await edge.put("/items/1", {"n": 1}, headers={"Prefer": "respond-async, wait=60"})
        assert (at_once.status, at_once.headers["Preference-Applied"]) == (202, "respond-async")


async def test_a_large_answer_of_the_origin_is_not_cut_short(tmp_path: Path) -> None:
    text = "x" * 60_000

    async def slowly(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for start in range(0, len(text), 10_000):
            await response.write(text[start : start + 10_000].encode())
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_put("/items/1", slowly)
    async with World(tmp_path) as world, running(app) as origin:
        edge = await world.edge(origin=origin)
        answer = await edge.put("/items/1", {}, headers={"Prefer": "wait=10"})
        assert answer.body.decode() == text


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        ("PUT", "application/json", 200),
        ("DELETE", "", 204),
        ("PATCH", "application/merge-patch+json", 204),
        ("POST", "application/json", 202),
        ("PATCH", "application/json-patch+json", 202),
    ],
)
async def test_a_rule_may_answer_with_what_the_origin_is_expected_to_say(
    tmp_path: Path, method: str, content_type: str, status: int
) -> None:
    async with one_edge(tmp_path, rules=behind(answer="optimistic")) as (world, edge):
        world.origin.gate.clear()
        data = b'{"n":1}' if method != "DELETE" else None
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await edge.ask(method, "/items/1", data=data, headers=headers)
        assert answer.status == status
        assert answer.headers["Location"].startswith("/_regioncache/writes/")
        if status == 200:
            assert (answer.body, answer.headers["Content-Type"]) == (data, content_type)


# --- the client's idempotency key ---


async def test_the_same_key_and_payload_is_the_same_write(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        key = {"Idempotency-Key": '"k1"'}
        one = await edge.put("/items/1", {"n": 1}, headers=key)
        two = await edge.put("/items/1", {"n": 1}, headers=key)
        assert one.headers["Location"] == two.headers["Location"]
        other = await edge.put("/items/1", {"n": 2}, headers=key)
        assert other.status == 422
        assert other.headers["Content-Type"].startswith("application/problem+json")
        elsewhere = await edge.put("/items/2", {"n": 2}, headers=key)
        assert elsewhere.status == 202
        world.origin.gate.set()
        await eventually(lambda: len(world.origin.effects) == 2)
        again = await edge.put("/items/1", {"n": 1}, headers=key | {"Prefer": "wait=10"})
        assert (again.status, json.loads(again.body)) in [(200, {"applied": 1}), (200, {"applied": 2})]
        assert len(world.origin.effects) == 2


async def test_a_request_that_is_repeated_while_the_first_is_under_way_is_the_same_write(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        other = await world.edge()
        world.origin.gate.clear()
        options = {"json": {"n": 1}, "headers": {"Idempotency-Key": '"k1"', "Host": "shop.example"}}
        answers = await asyncio.gather(*(each.ask("POST", "/items/1", **options) for each in (edge, other) * 8))
        assert {answer.status for answer in answers} == {202}
        assert len({answer.headers["Location"] for answer in answers}) == 1
        world.origin.gate.set()
        await edge.put("/items/1", {}, headers={"Prefer": "wait=10"})
        assert [effect.method for effect in world.origin.effects] == ["POST", "PUT"]


async def test_a_key_is_the_same_on_edges_that_have_a_newer_secret_already(tmp_path: Path) -> None:
    async with one_edge(tmp_path, sync=Sync(enabled=False)) as (world, edge):
        ahead = await world.edge(sync=Sync(enabled=False), secrets=["the new secret of sixteen characters", SECRET])
        options = {"json": {"n": 1}, "headers": ANN | {"Idempotency-Key": '"k1"', "Host": "shop.example"}}
        answers = [await each.ask("POST", "/items/1", **options) for each in (edge, ahead, edge)]
        assert {answer.status for answer in answers} == {202}
        assert len({answer.headers["Location"] for answer in answers}) == 1


async def test_two_users_with_the_same_key_never_meet(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        key = {"Idempotency-Key": '"k1"'}
        ann = await edge.put("/items/1", {"who": "ann"}, headers=key | ANN)
        bob = await edge.put("/items/1", {"who": "bob"}, headers=key | BOB)
        assert (ann.status, bob.status) == (202, 202)
        assert ann.headers["Location"] != bob.headers["Location"]
        await eventually(lambda: len(world.origin.effects) == 2)
        assert len({effect.key for effect in world.origin.effects}) == 2


async def test_two_keys_are_refused(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        keys = [("Idempotency-Key", '"k1"'), ("Idempotency-Key", '"k2"')]
        assert (await edge.put("/items/1", {"n": 1}, headers=keys)).status == 400
        assert world.origin.effects == []


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_an_impossible_key_is_refused(tmp_path: Path, key: str) -> None:
    async with one_edge(tmp_path) as (_, edge):
        assert (await edge.put("/items/1", {}, headers={"Idempotency-Key": key})).status == 400


# --- a credential of our own ---


async def test_what_is_replayed_as_a_service_holds_nobodys_credentials(tmp_path: Path) -> None:
    sync = Sync(enabled=False, authorization="Bearer service")
    async with one_edge(tmp_path, rules=behind(authorized=True), sync=sync) as (world, edge):
        written = await edge.put("/items/1", {"n": 1}, headers=ANN | {"Cookie": "session=ann"})
        async with world.servers["ap-northeast-1"].client() as client:
            [queue] = [key async for key in client.scan_iter(match="*:q:*")]
            [stored] = await client.zrange(queue, 0, -1)
        assert b'{"n": 1}' in stored
        assert not [word for word in (b"ann", b"session", b"Authorization", b"Cookie") if word in stored]
        assert await state_of(edge, written, **ANN, Cookie="session=ann") == "pending"
        assert (await edge.get(written.headers["Location"], headers=BOB)).status == 404


# --- what is refused ---


@pytest.mark.parametrize("allowed", [True, False])
async def test_authorize_decides_before_anything_is_queued(tmp_path: Path, allowed: bool) -> None:
    seen: list[bytes] = []

    async def authorize(request: web.Request) -> bool:
        seen.append(await request.read())
        return allowed

    async with one_edge(tmp_path, rules=behind(authorize=authorize)) as (world, edge):
        answer = await edge.put("/items/1", {"n": 1})
        assert answer.status == (202 if allowed else 403)
        assert seen == [b'{"n": 1}']
        assert answer.cache_status
        if allowed:
            await eventually(lambda: [effect.body for effect in world.origin.effects] == seen)
        else:
            assert (await edge.get("/items/1")).status == 404
            assert not world.origin.effects


async def test_a_body_beside_the_record_is_folded_and_replayed(tmp_path: Path) -> None:
    body = json.dumps({"text": "x" * 20_000}).encode()
    async with one_edge(tmp_path) as (world, edge):
        world.origin.gate.clear()
        headers = {"Content-Type": "application/json"}
        assert (await edge.ask("PUT", "/items/1", data=body, headers=headers)).status == 202
        assert (await edge.get("/items/1")).body == body
        world.origin.gate.set()
        await eventually(lambda: [effect.body for effect in world.origin.effects] == [body])

        async def is_trimmed() -> bool:
            answer = await edge.get("/items/1")
            assert json.loads(answer.body) == json.loads(body)
            return "dirty" not in answer.cache_status

        await eventually(is_trimmed)


async def test_the_limit_is_the_queues_and_not_that_of_aiohttp(tmp_path: Path) -> None:
    body = bytes(3 * 1024 * 1024)
    received: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response()

    app = web.Application(client_max_size=len(body))
    app.router.add_put("/items/1", take)
    async with World(tmp_path) as world, running(app) as origin:
        edge = await world.edge(origin=origin)
        assert (await edge.ask("PUT", "/items/1", data=io.BytesIO(body))).status == 202
        await eventually(lambda: received == [body])


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with one_edge(tmp_path, queue=Queue(max_body=1000)) as (_, edge):
        for size, status in ((1000, 202), (1001, 413)):
            answer = await edge.ask("PUT", "/items/1", data=b"x" * size)
            assert answer.status == status
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert answer.cache_status


async def test_a_body_that_an_outer_middleware_has_read_is_taken_all_the_same(tmp_path: Path) -> None:
    @web.middleware
    async def check_signature(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        response: web.StreamResponse = await handler(request)
        return response

    app = forwarding_app()
    app.middlewares.append(check_signature)
    async with World(tmp_path) as world:
        edge = await world.edge(app, queue=Queue(max_body=1000))
        assert (await edge.put("/items/1", {"n": 1})).status == 202
        assert (await edge.ask("PUT", "/items/1", data=b"x" * 1001)).status == 413
        await eventually(lambda: [effect.body for effect in world.origin.effects] == [b'{"n": 1}'])


@pytest.mark.parametrize(
    "caps",
    [
        Queue(max_writes=2), Queue(max_bytes=400), Queue(max_writes_per_resource=2), Queue(max_writes_per_principal=2),
    ],
)  # fmt: skip
async def test_a_full_queue_says_when_to_come_back(tmp_path: Path, caps: Queue) -> None:
    async with one_edge(tmp_path, queue=caps) as (world, edge):
        world.origin.gate.clear()
        answers = [await edge.put("/items/1", {"n": n}) for n in range(4)]
        assert answers[0].status == 202
        assert (answers[-1].status, answers[-1].headers["Retry-After"]) == (503, "1")
        assert answers[-1].cache_status
        world.origin.gate.set()

        async def is_accepted() -> bool:
            return (await edge.put("/items/1", {"n": 9})).status == 202

        await eventually(is_accepted)


async def test_the_caps_of_one_user_are_not_anothers(tmp_path: Path) -> None:
    async with one_edge(tmp_path, queue=Queue(max_writes_per_principal=1)) as (world, edge):
        world.origin.gate.clear()
        assert [(await edge.put("/items/1", {}, headers=ANN)).status for _ in range(2)] == [202, 503]
        assert (await edge.put("/items/1", {}, headers=BOB)).status == 202


async def test_methods_outside_the_rule_go_through(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=behind(methods=("PUT",))) as (world, edge):
        assert (await edge.put("/items/1", {})).status == 202
        await eventually(lambda: bool(world.origin.effects))
        answer = await edge.ask("POST", "/items/1", data=b"{}")
        assert (answer.status, "fwd=method" in answer.cache_status) == (200, True)


async def test_a_client_that_leaves_does_not_cut_an_accept_in_half(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        asked = [asyncio.ensure_future(edge.put(f"/items/{n}", {"n": n})) for n in range(30)]
        await eventually(lambda: bool(world.origin.effects))
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

        async def is_drained() -> bool:
            async with world.servers["ap-northeast-1"].client() as client:
                return not await client.zcard("{rc:ap-northeast-1:0}:queue")

        await eventually(is_drained)
        assert (await edge.put("/items/1", {"n": "last"}, headers={"Prefer": "wait=10"})).status == 200
