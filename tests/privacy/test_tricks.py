"""Requests made to get at what is not theirs, or to hand others what is not for them (S1, S2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from multidict import CIMultiDict

from aiohttp_regioncache import Rule, Sync
from tests.reads.apps import serving, until_hit
from tests.support import eventually
from tests.support.world import World

Fields = Sequence[tuple[str, str]]

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}


def telling(**fields: str) -> web.Application:
    """An application whose one page tells all that the handler can see of the user."""

    async def page(request: web.Request) -> web.Response:
        seen = [request.headers.get(name, "") for name in ("Authorization", "Cookie", "X-User", "Accept-Language")]
        return web.Response(text="/".join([*seen, request.cookies.get("session", "")]), headers=fields)

    return serving(page=page)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path, regions=["ap-northeast-1"]) as world:
        yield world


@pytest.mark.parametrize(
    "fields",
    [
        [("Authorization", "")],
        [("Authorization", "Bearer ann"), ("Connection", "keep-alive, authorization")],
        [("Cookie", "session=ann"), ("Connection", "keep-alive, cookie")],
        [("Cookie", "theme=dark"), ("Cookie", "session=ann")],
        [("Cookie", "regioncache-pin=1; session=ann")],
        [("Cookie", "regioncache-pin=1;session=ann")],
        [("Cookie", "not a cookie")],
        [("Cookie", "=ann")],
        [("Cookie", "regioncache-pin=1 session=ann")],
    ],
    ids=str,
)
async def test_credentials_in_disguise_are_credentials(world: World, fields: Fields) -> None:
    edge = await world.edge(telling(**{"Cache-Control": "max-age=60"}))
    for _ in range(3):
        assert "stored" not in (await edge.get("/page", headers=CIMultiDict(fields))).cache_status
    assert (await edge.get("/page")).body == b"////"


@pytest.mark.parametrize("name", ["Accept-Language", "Cookie", "X-User"])
async def test_a_field_named_by_connection_selects_all_the_same(world: World, name: str) -> None:
    edge = await world.edge(telling(**{"Cache-Control": "public, max-age=60", "Vary": name}))
    for _ in range(3):
        await edge.get("/page", headers={name: "session=evil", "Connection": f"keep-alive, {name}"})
    for _ in range(3):
        assert b"evil" not in (await edge.get("/page")).body


@pytest.mark.parametrize(
    "identity",
    [
        None,
        "header:X-User",
        "cookie:session",
        lambda request: request.headers.get("X-User", ""),
        lambda request: request.headers.get("X-User"),
    ],
    ids=["default", "header", "cookie", "function-empty", "function-none"],
)
async def test_nobody_in_particular_is_not_one_user(world: World, identity: object) -> None:
    rule = Rule("/page", per_user=True, principal=identity)  # type: ignore[arg-type]
    edge = await world.edge(telling(**{"Cache-Control": "private, max-age=60"}), rules=[rule])
    await edge.get("/page", headers={"X-Else": "1"} | ANN)
    for _ in range(3):
        assert b"ann" not in (await edge.get("/page", headers=BOB)).body
        assert b"ann" not in (await edge.get("/page")).body


@pytest.mark.parametrize(
    "lines",
    [
        ["bob", "ann"],
        ["ann, bob"],
        ["ann", "bob"],
    ],
    ids=str,
)
async def test_two_names_are_neither_of_the_two(world: World, lines: list[str]) -> None:
    """A proxy that adds the name to what the client sent: which of the lines is the proxy's, nobody can tell."""
    rule = Rule("/page", per_user=True, principal="header:X-User")
    edge = await world.edge(telling(**{"Cache-Control": "private, max-age=60"}), rules=[rule])
    own = {"X-User": "ann"} | ANN
    await edge.get("/page", headers=own)
    await until_hit(edge, "/page", headers=own)
    both = CIMultiDict([*(("X-User", line) for line in lines), *BOB.items()])
    assert b"Bearer ann" not in (await edge.get("/page", headers=both)).body


@pytest.mark.parametrize("writer", [ANN, {"Cookie": "session=ann"}], ids=str)
async def test_what_has_landed_is_shown_to_others_by_the_origin_alone(world: World, writer: dict[str, str]) -> None:
    """The origin shows a part of what Ann writes to others: a write without `shared` says nothing of their view."""
    edge = await world.edge(sync=Sync(poll=0.05))
    world.origin.documents["/items/1"] = {"title": "x"}
    await edge.get("/items/1")
    await until_hit(edge, "/items/1")
    world.origin.gate.clear()
    assert (await edge.put("/items/1", {"title": "y", "note": "Ann's own"}, headers=writer)).status == 202
    world.origin.gate.set()
    await eventually(lambda: bool(world.origin.effects))
    world.origin.documents["/items/1"] = {"title": "y"}

    async def shows_y() -> bool:
        answer = await edge.get("/items/1")
        assert b"Ann's own" not in answer.body
        return b'"y"' in answer.body

    await eventually(shows_y)
