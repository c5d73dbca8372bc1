"""The page and its desk, with ways that both lead to a real origin."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from example_app.desk import add_desk
from example_app.origin import make_origin
from example_app.serving import listen, start_server
from example_app.ways import Way
from example_app.world import User

BRAZIL = User("BR", "Brazil", "sa-east-1", 685.0)
READ = {"country": "BR", "way": "edge", "method": "GET", "path": "/items/1"}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    origin = await start_server(make_origin(tmp_path / "origin.sqlite"))
    with listen() as unused:
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with aiohttp.ClientSession(origin.url) as edge, aiohttp.ClientSession(nowhere) as straight:
        server = await start_server(add_desk(web.Application(), {"BR": Way(BRAZIL, edge, straight)}))
        async with aiohttp.ClientSession(server.url) as client:
            yield client
        await server.close()
    await origin.close()


async def send(desk: aiohttp.ClientSession, errand: object) -> tuple[int, dict[str, Any]]:
    async with desk.post("/demo/send", json=errand) as response:
        return response.status, await response.json()


async def test_the_page_needs_nothing_else(desk: aiohttp.ClientSession) -> None:
    async with desk.get("/") as response:
        assert response.content_type == "text/html"
        assert response.headers["Cache-Control"] == "no-store"
        page = await response.text()
    assert "://" not in page


async def test_the_world_lists_the_users(desk: aiohttp.ClientSession) -> None:
    async with desk.get("/demo/world") as response:
        world = await response.json()
    assert world["origin"] == "Tokyo"
    assert [user["country"] for user in world["users"]] == ["BR"]


async def test_an_errand_is_sent_and_measured(desk: aiohttp.ClientSession) -> None:
    status, answer = await send(desk, READ | {"method": "PUT", "body": '{"n":1}'})
    assert (status, answer["status"]) == (200, 200)
    status, answer = await send(desk, READ)
    assert (status, answer["status"], answer["body"]) == (200, 200, '{"n":1}')
    assert answer["milliseconds"] > 0


async def test_no_answer_is_502(desk: aiohttp.ClientSession) -> None:
    status, answer = await send(desk, READ | {"way": "straight"})
    assert status == 502
    assert "no answer" in answer["detail"]


@pytest.mark.parametrize(
    "errand",
    [
        {},
        [],
        READ | {"country": "XX"},
        READ | {"way": "other"},
        READ | {"method": "POST"},
        READ | {"path": "/stats"},
        READ | {"path": "//127.0.0.1/items/1"},
        READ | {"path": "/items/../stats"},
        READ | {"body": 1},
        READ | {"more": 1},
    ],
)
async def test_other_errands_are_refused(desk: aiohttp.ClientSession, errand: object) -> None:
    status, answer = await send(desk, errand)
    assert status == 400
    assert answer["detail"]


async def test_a_form_of_another_site_is_refused(desk: aiohttp.ClientSession) -> None:
    async with desk.post("/demo/send", data=b"{}", headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415
