"""What POST is answered with is stored for GET where it is a representation of the target (RFC 9110 section 9.3.3)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Rule
from tests.support import eventually
from tests.support.world import SAO_PAULO, TOKYO, World

NO_MEMORY = Cache(memory_seconds=0)


class Desk:
    """A handler that answers every method with its name; `headers` of its answers to POST, which `gate` holds back."""

    def __init__(self, **headers: str) -> None:
        self.headers = {"Cache-Control": "max-age=60"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        self.calls: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.Response:
        self.calls[request.method] += 1
        if request.method == "POST":
            await self.gate.wait()
            return web.Response(text="posted", headers=self.headers)
        return web.Response(text=request.method, headers={"Cache-Control": "max-age=60"})

    @property
    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


async def test_an_answer_that_represents_its_target_is_found_by_get_in_its_region(tmp_path: Path) -> None:
    desk = Desk(Content_Location="/desk?q=1")
    async with World(tmp_path) as world:
        edge = await world.edge(desk.app, rules=[], cache=NO_MEMORY)
        await edge.get("/desk?q=1", headers=TOKYO)
        posted = await edge.ask("POST", "/desk?q=1", data=b"x", headers=TOKYO)
        assert posted.body == b"posted"
        hit = await edge.get("/desk?q=1", headers=TOKYO)
        assert ("; hit" in hit.cache_status, hit.body) == (True, b"posted")
        assert (await edge.get("/desk?q=1", headers=SAO_PAULO)).body == b"GET"


@pytest.mark.parametrize(
    ("headers", "rules"),
    [
        pytest.param({}, [], id="no-content-location"),
        pytest.param({"Content_Location": "/elsewhere"}, [], id="another-resource"),
        pytest.param({"Content_Location": "/desk", "Cache_Control": "no-store"}, [], id="no-store"),
        pytest.param({"Content_Location": "/desk", "Cache_Control": "public"}, [], id="no-explicit-lifetime"),
        pytest.param({"Content_Location": "/desk"}, [Rule("/desk", read="pass")], id="reads-pass"),
        pytest.param({"Content_Location": "/desk"}, [Rule("/desk", methods=["GET"], ttl=5)], id="another-rule-for-get"),
    ],
)
async def test_other_answers_are_not_stored(tmp_path: Path, headers: dict[str, str], rules: list[Rule]) -> None:
    desk = Desk(**headers)
    async with World(tmp_path) as world:
        edge = await world.edge(desk.app, rules=rules, cache=NO_MEMORY)
        assert (await edge.ask("POST", "/desk", data=b"x")).body == b"posted"
        assert (await edge.get("/desk")).body == b"GET"


async def test_a_change_during_the_request_keeps_its_answer_out(tmp_path: Path) -> None:
    desk = Desk(Content_Location="/desk")
    desk.gate.clear()
    async with World(tmp_path) as world:
        edge = await world.edge(desk.app, rules=[], cache=NO_MEMORY)
        posting = asyncio.create_task(edge.ask("POST", "/desk", data=b"x"))
        await eventually(lambda: desk.calls["POST"] == 1)
        await edge.put("/desk", {})
        desk.gate.set()
        assert (await posting).body == b"posted"
        assert (await edge.get("/desk")).body == b"GET"


async def test_credentials_keep_an_answer_out_as_they_do_for_get(tmp_path: Path) -> None:
    desk = Desk(Content_Location="/desk")
    async with World(tmp_path) as world:
        edge = await world.edge(desk.app, rules=[], cache=NO_MEMORY)
        await edge.ask("POST", "/desk", data=b"x", headers={"Authorization": "Basic eDp5"})
        assert (await edge.get("/desk")).body == b"GET"


@pytest.mark.parametrize(
    "headers", [{"Cookie": "preview=1"}, {"X-Preview": "1"}, {"X-Kind": "a", "Connection": "x-kind"}]
)
async def test_what_keeps_a_get_off_the_cache_keeps_an_answer_out(tmp_path: Path, headers: dict[str, str]) -> None:
    desk = Desk(Content_Location="/desk", Cache_Control="public, max-age=60")
    async with World(tmp_path) as world:
        rules = [Rule("/desk", bypass_cookies=["preview"], bypass_headers=["X-Preview"])]
        edge = await world.edge(desk.app, rules=rules, cache=NO_MEMORY)
        await edge.ask("POST", "/desk", data=b"x", headers=headers)
        assert (await edge.get("/desk")).body == b"GET"
        await edge.ask("POST", "/desk", data=b"x", headers={"Cookie": "a=b"})
        assert (await edge.get("/desk")).body == b"posted"


async def test_a_lagging_origin_is_not_believed(tmp_path: Path) -> None:
    desk = Desk(Content_Location="/desk")
    async with World(tmp_path) as world:
        edge = await world.edge(desk.app, rules=[], cache=Cache(memory_seconds=0, holdoff=60))
        await edge.ask("POST", "/desk", data=b"x")
        assert (await edge.get("/desk")).body == b"GET"


async def test_with_every_region_down_a_post_works(tmp_path: Path) -> None:
    desk = Desk(Content_Location="/desk")
    async with World(tmp_path) as world:
        edge = await world.edge(desk.app, rules=[], cache=NO_MEMORY)
        for server in world.servers.values():
            await server.kill()
        assert (await edge.ask("POST", "/desk", data=b"x")).body == b"posted"
