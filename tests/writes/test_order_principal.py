"""Paths like `/me`: another resource for everyone, with an order, a queue and entries of its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from aiohttp_regioncache import Affect, Cache, Rule, Sync
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.world import SECRET, Edge, World

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}
ME = [Rule("/me", methods=("GET", "PUT"), write="behind", per_user=True, order="principal")]
QUICK = Sync(retry_base=0.05, retry_cap=0.2)


class Profiles:
    """An origin whose `/me` is another document for every `Authorization`; `refuse` maps one to a status."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.refuse: dict[str, int] = {}
        self.tried: Counter[str] = Counter()
        self.app = web.Application()
        self.app.router.add_get("/me", self._get)
        self.app.router.add_route("*", "/{path:.*}", self._write)

    async def _get(self, request: web.Request) -> web.Response:
        document = self.documents.get(request.headers.get("Authorization", ""))
        headers = {"Cache-Control": "private, max-age=600"}
        return web.json_response(document, headers=headers, status=200 if document else 404)

    async def _write(self, request: web.Request) -> web.Response:
        who, document = request.headers.get("Authorization", ""), await request.json()
        self.tried[who] += 1
        if who in self.refuse:
            return web.Response(status=self.refuse[who])
        self.documents[who] = {**self.documents.get(who, {}), **document}
        return web.Response(status=204)


async def me(edge: Edge, **headers: str) -> Any:
    answer = await edge.get("/me", headers=headers)
    return json.loads(answer.body) if answer.status == 200 else None


async def test_one_users_retrying_write_holds_up_nobody_else(tmp_path: Path) -> None:
    origin = Profiles()
    origin.refuse[ANN["Authorization"]] = 503
    async with World(tmp_path) as world, running(origin.app) as url:
        edge = await world.edge(origin=url, rules=ME, sync=QUICK)
        await edge.put("/me", {"n": 1}, headers=ANN)
        await eventually(lambda: origin.tried[ANN["Authorization"]] > 1)
        answer = await edge.put("/me", {"n": 2}, headers=BOB | {"Prefer": "wait=10"})
        assert answer.status == 204
        assert [await me(edge, **who) for who in (ANN, BOB, {})] == [{"n": 1}, {"n": 2}, None]
        origin.refuse.clear()
        await eventually(lambda: origin.documents.get(ANN["Authorization"]) == {"n": 1})


async def test_one_users_blocked_queue_blocks_nobody_else(tmp_path: Path) -> None:
    origin = Profiles()
    origin.refuse[ANN["Authorization"]] = 301
    rules = [Rule("/me", write="behind", per_user=True, order="principal", on_dead="block")]
    async with World(tmp_path) as world, running(origin.app) as url:
        edge = await world.edge(origin=url, rules=rules, sync=QUICK)
        assert (await edge.put("/me", {"n": 1}, headers=ANN | {"Prefer": "wait=10"})).status == 301
        assert (await edge.put("/me", {"n": 2}, headers=ANN | {"Prefer": "wait=1"})).status == 202
        assert (await edge.put("/me", {"n": 3}, headers=BOB | {"Prefer": "wait=10"})).status == 204
        assert origin.tried == {ANN["Authorization"]: 1, BOB["Authorization"]: 1}


async def test_a_write_through_lets_go_of_its_own_writers_entry_alone(tmp_path: Path) -> None:
    origin = Profiles()
    async with World(tmp_path) as world, running(origin.app) as url:
        origin.documents |= {who["Authorization"]: {"n": 0} for who in (ANN, BOB)}
        edge = await world.edge(origin=url, rules=ME, cache=Cache(memory_seconds=0))
        for who in (ANN, BOB):
            await until_hit(edge, "/me", headers=who)
        assert (await edge.ask("POST", "/me", json={"n": 1}, headers=ANN)).status == 204
        cached = {"Cache-Control": "only-if-cached"}
        assert [(await edge.get("/me", headers=who | cached)).status for who in (ANN, BOB)] == [504, 200]


async def test_what_a_write_affects_is_its_writers_own(tmp_path: Path) -> None:
    origin = Profiles()
    name = Rule("/me/name", write="behind", effect="unknown", affects=[Affect("/me", effect="merge-patch")])
    async with World(tmp_path) as world, running(origin.app) as url:
        origin.documents |= {who["Authorization"]: {"n": 0} for who in (ANN, BOB)}
        edge = await world.edge(origin=url, rules=[*ME, name], sync=Sync(enabled=False))
        for who in (ANN, BOB):
            await until_hit(edge, "/me", headers=who)
        fields = ANN | {"Content-Type": "application/merge-patch+json"}
        assert (await edge.ask("PATCH", "/me/name", data=b'{"name": "Ann"}', headers=fields)).status == 202
        assert [await me(edge, **who) for who in (ANN, BOB)] == [{"n": 0, "name": "Ann"}, {"n": 0}]
        assert "dirty" not in (await edge.get("/me", headers=BOB)).cache_status


async def test_a_rotation_of_secrets_keeps_queue_and_order(tmp_path: Path) -> None:
    origin = Profiles()
    async with World(tmp_path) as world, running(origin.app) as url:
        before = await world.edge(origin=url, rules=ME, sync=Sync(enabled=False))
        site = {"Host": "shop.example"}
        assert (await before.put("/me", {"n": 1}, headers=ANN | site)).status == 202
        rotated = ["the new secret of sixteen characters", SECRET]
        after = await world.edge(origin=url, rules=ME, sync=Sync(enabled=False), secrets=rotated)
        assert await me(after, **ANN, **site) == {"n": 1}
        assert (await after.put("/me", {"m": 2}, headers=ANN | site)).status == 202
        async with world.servers["ap-northeast-1"].client() as client:
            assert await client.zcard("{rc:ap-northeast-1:0}:due") == 1
            assert await client.zcard("{rc:ap-northeast-1:0}:queue") == 2
