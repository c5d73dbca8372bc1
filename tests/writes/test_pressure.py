"""Writes behind that the region cannot take: a full queue, a region that is down."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Connections, Queue, Region, Rule, SettingsError, Sync
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.world import REGIONS, SAO_PAULO, TOKYO, Edge, Reply, World, forwarding_app, one_edge

HERE, AWAY = (f"regioncache/{name}" for name in REGIONS)
THROUGH = [Rule("/items/{id}", write="behind", when_region_down="through")]
NO_MEMORY = Cache(memory_seconds=0)


async def until_new(edge: Edge, path: str, document: Any, **options: Any) -> None:
    async def is_new() -> bool:
        answer = await edge.get(path, **options)
        return answer.status == 200 and json.loads(answer.body) == document

    await eventually(is_new)


def went(answer: Reply, region: str, detail: str) -> bool:
    return answer.cache_status in (f"{region}; detail={detail}", f"{region}; fwd=method; detail={detail}")


# --- a full queue ---


async def test_what_a_full_queue_cannot_take_goes_through_unless_it_would_overtake(tmp_path: Path) -> None:
    caps, still = Queue(max_writes=1), Sync(enabled=False)
    async with one_edge(tmp_path, queue=caps, cache=NO_MEMORY) as (world, edge):
        waiting = await world.edge(queue=caps, sync=still, home_region=REGIONS[0])
        await edge.stop()
        world.origin.documents["/items/2"] = {"n": 0}
        for place in (TOKYO, SAO_PAULO):
            await until_hit(waiting, "/items/2", headers=place)
        assert (await waiting.put("/items/1", {"n": 1})).status == 202
        second = await waiting.put("/items/2", {"n": 2}, headers={"Idempotency-Key": '"k"'})
        assert (second.status, went(second, HERE, "through-full")) == (200, True)
        assert [(effect.path, effect.body) for effect in world.origin.effects] == [("/items/2", b'{"n": 2}')]
        await until_new(waiting, "/items/2", {"n": 2})
        overtaking = await waiting.put("/items/1", {"n": 3})
        assert (overtaking.status, overtaking.headers["Retry-After"]) == (503, "1")
        assert went(overtaking, HERE, "refused-full")
        assert len(world.origin.effects) == 1


async def test_what_goes_past_the_queue_names_a_state_that_the_origin_knows(tmp_path: Path) -> None:
    conditions: list[str | None] = []
    gates = {"/items/1": asyncio.Event(), "/items/2": asyncio.Event()}

    async def put(request: web.Request) -> web.Response:
        conditions.append(request.headers.get("If-Match"))
        await gates[request.path].wait()
        return web.Response(status=204, headers={"ETag": '"of-the-origin"'})

    app = web.Application()
    app.router.add_put("/items/{id}", put)
    async with World(tmp_path) as world, running(app) as origin:
        edge = await world.edge(origin=origin, queue=Queue(max_writes_per_principal=1))
        written = await edge.put("/items/1", {"n": 1})
        pending = (await edge.get("/items/1")).headers["ETag"]
        gates["/items/1"].set()

        async def is_synced() -> bool:
            return b"synced" in (await edge.get(written.headers["Location"])).body

        await eventually(is_synced)
        assert (await edge.put("/items/2", {})).status == 202
        answer = await edge.put("/items/1", {"n": 2}, headers={"If-Match": pending})
        assert went(answer, HERE, "through-full")
        assert pending.startswith('"rc-')
        assert conditions[-1] == '"of-the-origin"'
        gates["/items/2"].set()


async def test_a_write_given_up_that_blocks_is_not_overtaken(tmp_path: Path) -> None:
    rules = [Rule("/items/{id}", methods=("PUT",), write="behind", replay="never")]
    options = {"rules": rules, "queue": Queue(max_writes=1), "cache": Cache(dirty_wait=0.05)}
    async with one_edge(tmp_path, **options) as (world, edge):
        world.origin.lose_answers = 1
        ended = await edge.put("/items/1", {"n": 1}, headers={"Prefer": "wait=10"})
        assert ended.status == 502
        assert (await edge.put("/items/1", {"n": 2})).status == 503
        assert (await edge.ask("POST", "/items/1", data=b"{}")).status == 503
        assert (await edge.put("/items/2", {"n": 3})).status == 200
        assert [effect.path for effect in world.origin.effects] == ["/items/1", "/items/2"]


# --- a region that is down ---


def test_what_must_not_be_repeated_cannot_go_through() -> None:
    """The accept may have got through before the region was lost: then the origin would get it twice."""
    with pytest.raises(SettingsError, match="when_region_down"):
        Rule("/items/{id}", write="behind", when_region_down="through", replay="never")


async def test_other_methods_go_past_a_region_that_is_down_as_its_rules_allow(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, first):
        await first.stop()
        for server in world.servers.values():
            await server.kill()
        choices: list[tuple[Literal["through", "refuse"], int]] = [("through", 200), ("refuse", 503)]
        for choice, status in choices:
            rules = [Rule("/items/{id}", methods=("PUT",), write="behind", when_region_down=choice)]
            edge = await world.edge(rules=rules)
            assert (await edge.ask("POST", "/items/1", data=b"{}")).status == status


async def test_a_rule_lets_writes_go_through_while_the_region_is_down(tmp_path: Path) -> None:
    impatient = Connections(queue_timeout=0.3, timeout=0.1)
    async with one_edge(tmp_path, rules=THROUGH, cache=NO_MEMORY, connections=impatient) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 0}
        for place in (TOKYO, SAO_PAULO):
            await until_hit(edge, "/items/1", headers=place)
        server = world.servers[REGIONS[0]]
        server.pause()
        body, fields = gzip.compress(b'{"n": 1}'), {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        written = await edge.ask("PUT", "/items/1", data=body, headers=TOKYO | fields)
        assert (written.status, json.loads(written.body)) == (200, {"applied": 1})
        assert went(written, HERE, "through-down")
        assert len(world.origin.effects[0].key) == len('"' + "0" * 32 + '"')
        await until_new(edge, "/items/1", {"n": 1}, headers=SAO_PAULO)
        server.resume()
        await until_new(edge, "/items/1", {"n": 1}, headers=TOKYO)
        world.servers[REGIONS[1]].pause()
        world.servers[REGIONS[0]].pause()
        assert (await edge.put("/items/1", {"n": 2})).status == 200
        world.origin.refuse["/items/1"] = 409
        assert (await edge.put("/items/1", {"n": 3})).status == 409


async def test_a_region_that_was_down_from_the_start_is_no_different(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=THROUGH) as (world, first):
        await first.stop()
        await world.servers[REGIONS[0]].kill()
        refusing = [Rule("/items/{id}", write="behind")]
        for rules, status, detail in ((THROUGH, 200, "through-down"), (refusing, 503, "refused-down")):
            edge = await world.edge(rules=rules)
            answer = await edge.put("/items/1", {"n": 1})
            assert (answer.status, went(answer, HERE, detail)) == (status, True)


async def test_a_write_that_was_queued_after_all_is_applied_once(tmp_path: Path) -> None:
    """Every answer of the region is lost, that to the accept too: the write goes through, and later is replayed."""
    async with World(tmp_path) as world, TcpProxy("127.0.0.1", world.servers[REGIONS[0]].port) as proxy:
        urls = {REGIONS[0]: f"redis://127.0.0.1:{proxy.port}", REGIONS[1]: world.servers[REGIONS[1]].url}
        regions = [Region(name, redis=url) for name, url in urls.items()]
        edge = await world.edge(regions=regions, rules=THROUGH, sync=Sync(enabled=False))  # it sends nothing else
        assert (await edge.put("/items/2", {})).status == 202
        proxy.lose_replies(1_000)
        written = await edge.put("/items/1", {"n": 1})
        assert (written.status, went(written, HERE, "through-down")) == (200, True)
        await world.edge()

        def sent() -> list[str]:
            requests = [request for request in world.origin.requests if request.path == "/items/1"]
            return [request.headers["Idempotency-Key"] for request in requests]

        await eventually(lambda: len(sent()) == 2)
        assert len(set(sent())) == 1
        assert sorted(effect.path for effect in world.origin.effects) == ["/items/1", "/items/2"]


@pytest.mark.parametrize("is_read_before", [False, True])
async def test_a_handler_gets_the_whole_request_that_goes_past_the_queue(tmp_path: Path, is_read_before: bool) -> None:
    """Also one whose fields are no UTF-8, and one that an outer middleware has read."""
    got: list[tuple[bytes, str]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((await request.read(), request.headers["X-Odd"]))
        return web.Response(status=204)

    @web.middleware
    async def outer(request: web.Request, handler: Any) -> web.StreamResponse:
        if is_read_before:
            await request.read()
        answer: web.StreamResponse = await handler(request)
        return answer

    app = web.Application(middlewares=[outer])
    app.router.add_put("/items/{id}", take)
    async with World(tmp_path) as world:
        edge = await world.edge(app, rules=THROUGH)
        for server in world.servers.values():
            await server.kill()
        head = b"PUT /items/1 HTTP/1.1\r\nHost: a\r\nX-Odd: caf\xe9\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
        writer.write(head + b"body")
        assert b" 204 " in await reader.readline()
        writer.close()
        assert got == [(b"body", "caf\udce9")]


async def test_what_the_forwarder_gets_past_the_queue_was_read_before(tmp_path: Path) -> None:
    @web.middleware
    async def outer(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        answer: web.StreamResponse = await handler(request)
        return answer

    app = forwarding_app()
    app.middlewares.append(outer)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        assert (await edge.put("/pages/1", {"n": 1})).status == 200
        assert world.origin.documents["/pages/1"] == {"n": 1}
