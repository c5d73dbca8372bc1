"""Conditional requests: 304 to clients, revalidation at the origin, Vary."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import Counted, fresh, serving, until_hit
from tests.support.world import World

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"


CONDITIONS: list[tuple[dict[str, str], int]] = [
    ({"If-None-Match": '"v1"'}, 304),
    ({"If-None-Match": 'W/"v1", "other"'}, 304),
    ({"If-None-Match": '"v2"'}, 200),
    ({"If-Modified-Since": MODIFIED}, 304),
    ({"If-Modified-Since": "Sun, 06 Nov 1994 08:49:36 GMT"}, 200),
    ({"If-None-Match": '"v2"', "If-Modified-Since": MODIFIED}, 200),
    ({"If-Modified-Since": "no date"}, 200),
]


@pytest.mark.parametrize("stored", [True, False])
async def test_conditions_of_clients_are_answered_here(tmp_path: Path, stored: bool) -> None:
    handler = Counted(lambda _n: fresh("text", ETag='"v1"', Last_Modified=MODIFIED))
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=handler.handle))
        for number, (headers, status) in enumerate(CONDITIONS):
            path = f"/page?{number}"
            if stored:
                await edge.get(path)
                await until_hit(edge, path)
            answer = await edge.get(path, headers=headers)
            assert answer.status == status, headers
            assert answer.body == (b"text" if status == 200 else b"")
            assert answer.headers["ETag"] == '"v1"'
            assert answer.cache_status
            assert ("Content-Type" in answer.headers) is (status == 200)
            assert (await until_hit(edge, path)).body == b"text"
        assert handler.calls == len(CONDITIONS)


async def test_a_stale_entry_is_revalidated_and_the_304_renews_it(tmp_path: Path) -> None:
    asked: list[str | None] = []

    async def page(request: web.Request) -> web.Response:
        asked.append(request.headers.get("If-None-Match"))
        if asked[-1] == '"v1"':
            return web.Response(status=304, headers={"Cache-Control": "max-age=60", "X-New": "1", "ETag": '"v1"'})
        return web.Response(text="text", headers={"Cache-Control": "max-age=0", "ETag": '"v1"'})

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        assert (await edge.get("/page")).body == b"text"
        for _ in range(100):
            answer = await edge.get("/page")
            if "fwd-status=304" in answer.cache_status:
                break
        assert "fwd=stale; fwd-status=304; stored" in answer.cache_status
        assert (answer.status, answer.body, answer.headers["X-New"]) == (200, b"text", "1")
        hit = await until_hit(edge, "/page")
        assert (hit.body, hit.headers["X-New"]) == (b"text", "1")
        # A read that looked just before the fill and asked just after it may revalidate once more.
        assert asked.count('"v1"') <= 2


async def test_an_invalidated_entry_serves_as_a_validator_past_the_origins_own_caches(tmp_path: Path) -> None:
    asked: list[dict[str, str | None]] = []

    async def page(request: web.Request) -> web.Response:
        asked.append({name: request.headers.get(name) for name in ("If-None-Match", "Cache-Control")})
        if request.headers.get("If-None-Match") == '"v1"':
            return web.Response(status=304)
        return fresh("text", ETag='"v1"')

    async def change(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = serving(page=page)
    app.router.add_put("/page", change)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        await edge.get("/page")
        await until_hit(edge, "/page")
        assert (await edge.ask("PUT", "/page")).status == 204
        answer = await edge.get("/page")
        assert (answer.status, answer.body) == (200, b"text")
        assert asked[-1] == {"If-None-Match": '"v1"', "Cache-Control": "no-cache"}
        await until_hit(edge, "/page")


async def test_variants_are_kept_apart_and_all_hit(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return fresh(request.headers.get("Accept-Language", "none"), Vary="Accept-Language, X-Other")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        variants: list[dict[str, str]] = [{"Accept-Language": "de"}, {"Accept-Language": "ja"}, {}]
        for headers in variants:
            assert "; hit" not in (await edge.get("/page", headers=headers)).cache_status
            await until_hit(edge, "/page", headers=headers)
        for headers in variants:
            hit = await until_hit(edge, "/page", headers=headers)
            assert hit.body == headers.get("Accept-Language", "none").encode()
            assert hit.headers["Vary"] == "Accept-Language, X-Other"
        assert "; hit" not in (await edge.get("/page", headers={"X-Other": "1"})).cache_status


async def test_variants_may_start_and_stop_to_exist(tmp_path: Path) -> None:
    vary: list[dict[str, str]] = [{}, {"Vary": "X-Kind"}, {}]

    async def page(request: web.Request) -> web.Response:
        return fresh(request.headers.get("X-Kind", "plain"), **vary[0])

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), cache=Cache(memory_seconds=0))
        reload = {"Cache-Control": "no-cache"}
        while vary:
            for kind in ("a", "b"):
                answer = await edge.get("/page", headers={"X-Kind": kind} | reload)
                assert answer.body == kind.encode()
                hit = await until_hit(edge, "/page", headers={"X-Kind": kind})
                assert hit.body == kind.encode()
            vary.pop(0)


async def test_vary_on_everything_is_never_stored(tmp_path: Path) -> None:
    handler = Counted(lambda number: fresh(str(number), Vary="Accept, *"))
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=handler.handle))
        for number in (b"1", b"2", b"3"):
            assert (await edge.get("/page")).body == number


@pytest.mark.parametrize("is_strong", [True, False])
async def test_a_date_within_the_second_of_its_answer_is_no_validator(tmp_path: Path, is_strong: bool) -> None:
    """Two states of one second have the same Last-Modified (RFC 9110 section 8.8.2.2)."""
    asked: list[str | None] = []
    date = "Sun, 06 Nov 1994 08:49:38 GMT" if is_strong else MODIFIED

    async def page(request: web.Request) -> web.Response:
        asked.append(request.headers.get("If-Modified-Since"))
        return fresh("text", Last_Modified=MODIFIED, Date=date, Cache_Control="max-age=9999999999")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        await edge.get("/page")
        await until_hit(edge, "/page")
        await edge.get("/page", headers={"Cache-Control": "no-cache"})
        assert asked == [None, MODIFIED if is_strong else None]


async def test_what_is_known_of_languages_and_is_out_of_date_leads_nobody_to_another(tmp_path: Path) -> None:
    spoken, go, asked = {"en"}, asyncio.Event(), asyncio.Event()

    async def page(request: web.Request) -> web.Response:
        wanted = [each.split(";")[0].strip() for each in request.headers["Accept-Language"].split(",")]
        language = next((each for each in wanted if each in spoken), "en")
        if language == "fr":
            asked.set()
            await go.wait()
        return fresh(language, Content_Language=language, Vary="Accept-Language")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))

        async def get(languages: str, **options: str) -> bytes:
            return (await edge.get("/page", headers={"Accept-Language": languages} | options)).body

        assert await get("de, en;q=0.5") == b"en"
        assert await get("en") == b"en"
        spoken.update({"de", "fr"})
        slow = asyncio.create_task(get("fr"))  # what it notes is what it has seen before the next one
        await asked.wait()
        assert await get("de, en;q=0.5", **{"Cache-Control": "no-cache"}) == b"de"
        await until_hit(edge, "/page", headers={"Accept-Language": "de"})
        go.set()
        assert await slow == b"fr"
        await until_hit(edge, "/page", headers={"Accept-Language": "fr"})
        for _ in range(3):
            assert await get("en") == b"en"
