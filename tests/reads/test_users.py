"""Whose answer it is: credentials, cookies, per-user entries (S1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Rule
from tests.reads.apps import serving, until_hit
from tests.support.world import World

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}


def whoami(directives: str) -> web.Application:
    """An application that tells each user who they are."""

    async def handler(request: web.Request) -> web.Response:
        user = request.headers.get("Authorization", "") + request.headers.get("Cookie", "")
        return web.Response(text=user or "nobody", headers={"Cache-Control": directives})

    return serving(me=handler)


@pytest.mark.parametrize("credentials", [ANN, {"Cookie": "session=1"}])
@pytest.mark.parametrize(
    ("directives", "shared"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("max-age=60, must-revalidate", True),
        ("s-maxage=60", True),
        ("public, private, max-age=60", False),
    ],
)
async def test_answers_to_credentials_are_shared_only_by_permission(
    tmp_path: Path, credentials: dict[str, str], directives: str, shared: bool
) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(whoami(directives))
        mine = await edge.get("/me", headers=credentials)
        assert ("stored" in mine.cache_status) is shared
        if shared:
            await until_hit(edge, "/me", headers=BOB)
        else:
            assert (await edge.get("/me", headers=BOB)).body == b"Bearer bob"
            assert (await edge.get("/me")).body == b"nobody"


async def test_cookies_are_no_credentials_where_the_settings_say_so(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(whoami("max-age=60"), cache=Cache(cookies_are_credentials=False))
        assert "stored" in (await edge.get("/me", headers={"Cookie": "theme=dark"})).cache_status


async def test_per_user_entries_are_each_users_own(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(whoami("private, max-age=60"), rules=[Rule("/me", per_user=True)])
        for user in (ANN, BOB, {"Cookie": "session=1"}):
            await edge.get("/me", headers=user)
            hit = await until_hit(edge, "/me", headers=user)
            assert hit.body == next(iter(user.values())).encode()
        assert "; hit" not in (await edge.get("/me")).cache_status
        async with world.servers["ap-northeast-1"].client() as client:
            stored = [str(await client.get(key)) for key in await client.keys("*:e:*")]
        assert len(stored) == 3
        # Headers of the request, credentials above all, are in no entry; here the body repeats them.
        assert "".join(stored).count("Bearer ann") == 1


async def test_per_user_never_stores_what_no_store_forbids(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(whoami("private, no-store, max-age=60"), rules=[Rule("/me", per_user=True)])
        for _ in range(3):
            assert "stored" not in (await edge.get("/me", headers=ANN)).cache_status


async def test_per_user_without_the_named_identity_shares_nothing(tmp_path: Path) -> None:
    """Who has no identity of the named kind is not one user together with all others like that."""
    rule = Rule("/me", per_user=True, principal="header:X-User")
    async with World(tmp_path) as world:
        edge = await world.edge(whoami("private, max-age=60"), rules=[rule])
        for _ in range(3):
            assert "stored" not in (await edge.get("/me", headers=ANN)).cache_status
        assert (await edge.get("/me", headers=BOB)).body == b"Bearer bob"
        named = {"X-User": "ann"} | ANN
        await edge.get("/me", headers=named)
        assert (await until_hit(edge, "/me", headers=named)).body == b"Bearer ann"
        assert (await edge.get("/me", headers={"X-User": "bob"} | BOB)).body == b"Bearer bob"


async def test_a_per_user_entry_is_renewed_after_a_write(tmp_path: Path) -> None:
    async def change(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = whoami("private, max-age=60")
    app.router.add_post("/me", change)
    async with World(tmp_path) as world:
        edge = await world.edge(app, rules=[Rule("/me", per_user=True)])
        for user in (ANN, BOB):
            await edge.get("/me", headers=user)
            await until_hit(edge, "/me", headers=user)
        assert (await edge.ask("POST", "/me", headers=ANN)).status == 204
        for user in (ANN, BOB):
            assert "; hit" not in (await edge.get("/me", headers=user)).cache_status
