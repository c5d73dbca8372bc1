"""Plans of misses in an application: whoever answers sees and says what it would without."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Cache, Rule
from aiohttp_regioncache.exchange import ASKER, SERVED_SITE
from aiohttp_regioncache.reads.misses import Misses, MissPlan
from aiohttp_regioncache.store.entries import Remembered
from tests.reads.apps import Counted, fresh, serving, until_hit
from tests.support import eventually
from tests.support.world import Edge, Reply, World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MISS = "regioncache/ap-northeast-1; fwd=miss"


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the plans of misses that were found did."""
    found: list[bool] = []
    follow = Misses.follow

    async def following(misses: Misses, plan: MissPlan, *arguments: Any) -> web.StreamResponse | None:
        answer = await follow(misses, plan, *arguments)
        found.append(answer is not None)
        return answer

    monkeypatch.setattr(Misses, "follow", following)
    return found


@contextlib.asynccontextmanager
async def edge_of(tmp_path: Path, app: web.Application, **settings: Any) -> AsyncIterator[Edge]:
    async with World(tmp_path) as world:
        yield await world.edge(app, **{"rules": [], **settings})


async def until_followed(edge: Edge, followed: list[bool], path: str = "/page", **options: Any) -> Reply:
    """Ask until the plan of a miss is followed."""
    replies: list[Reply] = []

    async def is_followed() -> bool:
        followed.clear()
        replies.append(await edge.get(path, **options))
        return followed == [True]

    await eventually(is_followed)
    followed.clear()
    return replies[-1]


def never(number: int) -> web.Response:
    return web.Response(text=f"{number}", headers={"Cache-Control": "no-store"})


async def test_a_handler_is_called_each_time_with_the_same(tmp_path: Path, followed: list[bool]) -> None:
    seen: list[Any] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(
            (request[SERVED_SITE], request[ASKER], request.match_info.route, request.app, list(request.headers))
        )
        return never(len(seen))

    async with edge_of(tmp_path, serving(page=page)) as edge:
        await edge.get("/page")
        await until_followed(edge, followed)
        count = len(seen)
        answers = [await edge.get("/page") for _ in range(3)]
        assert [answer.body for answer in answers] == [b"%d" % (count + number) for number in (1, 2, 3)]
        assert {answer.cache_status for answer in answers} == {MISS}
        assert followed == [True] * 3
        assert all(each == seen[0] for each in seen)


async def test_inner_middlewares_and_signals_have_their_word(tmp_path: Path, followed: list[bool]) -> None:
    told: list[str | None] = []

    @web.middleware
    async def inner(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.headers["X-Inner"] = "1"
        return response

    async def prepared(_: web.Request, response: web.StreamResponse) -> None:
        told.append(response.headers.get("Cache-Status"))  # without it: of a trial, for what may be stored
        response.headers["X-Prepared"] = "1"

    app = serving(page=Counted(never).handle)
    app.on_response_prepare.append(prepared)
    async with World(tmp_path) as world:
        regioncache.setup(app, world.settings(rules=[]))
        app.middlewares.append(inner)
        async with _started(world, app) as edge:
            answer = await until_followed(edge, followed)
            assert (answer.headers["X-Inner"], answer.headers["X-Prepared"]) == ("1", "1")
            assert set(told) == {MISS, None}


@contextlib.asynccontextmanager
async def _started(world: World, app: web.Application) -> AsyncIterator[Edge]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Edge(app, runner, world.session)
    finally:
        await runner.cleanup()


async def test_a_signal_may_make_an_answer_storable(tmp_path: Path, followed: list[bool]) -> None:
    is_public = False

    async def prepared(_: web.Request, response: web.StreamResponse) -> None:
        if is_public:
            response.headers["Cache-Control"] = "max-age=60"

    app = serving(page=Counted(never).handle)
    app.on_response_prepare.append(prepared)
    async with edge_of(tmp_path, app) as edge:
        await until_followed(edge, followed)
        is_public = True
        assert (await edge.get("/page")).cache_status == f"{MISS}; stored"
        await until_hit(edge, "/page")


async def test_what_may_be_stored_by_now_is_stored_at_once(tmp_path: Path, followed: list[bool]) -> None:
    is_fresh = False
    page = Counted(lambda number: fresh(f"{number}") if is_fresh else never(number))
    async with edge_of(tmp_path, serving(page=page.handle)) as edge:
        await until_followed(edge, followed)
        is_fresh = True
        calls = page.calls
        first = await edge.get("/page")
        assert followed == [True]
        assert first.cache_status == f"{MISS}; stored"
        hit = await until_hit(edge, "/page")
        assert hit.body == first.body
        assert page.calls == calls + 1
        assert followed == [True]  # the plan has gone with it


async def test_what_changes_while_the_handler_is_at_work_is_not_stored(tmp_path: Path, followed: list[bool]) -> None:
    is_fresh, begun, go_on = False, asyncio.Event(), asyncio.Event()
    calls = 0

    async def page(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if not is_fresh:
            return never(calls)
        begun.set()
        await go_on.wait()
        return fresh(f"{calls}")

    async def change(_: web.Request) -> web.Response:
        return web.Response(status=204)

    app = serving(page=page)
    app.router.add_put("/page", change)
    async with edge_of(tmp_path, app) as edge:
        await until_followed(edge, followed)
        is_fresh = True
        asked = asyncio.ensure_future(edge.get("/page"))
        await begun.wait()
        await edge.put("/page", {})  # through, which invalidates
        go_on.set()
        first = await asked
        assert followed == [True]
        again = await edge.get("/page")
        assert first.body != again.body  # C1: the first does not outlive the write


async def test_what_a_handler_raises_is_answered_as_ever(tmp_path: Path, followed: list[bool]) -> None:
    raised: list[Exception] = []

    async def page(_: web.Request) -> web.Response:
        if raised:
            raise raised[0]
        return never(1)

    async with edge_of(tmp_path, serving(page=page)) as edge:
        await until_followed(edge, followed)
        raised.append(web.HTTPNotFound(text="gone", headers={"Cache-Control": "no-store"}))
        answer = await edge.get("/page")
        assert (answer.status, answer.body, answer.cache_status) == (404, b"gone", MISS)
        raised[0] = ValueError("a fault of the handler")
        assert (await edge.get("/page")).status == 500
        raised[0] = UnicodeEncodeError("utf-8", "", 0, 1, "cannot be sent")
        assert (await edge.get("/page")).status == 500
        assert followed == [False]  # what it raises is given to nobody; of what cannot be sent on others have a word


async def test_streams_go_out_as_they_come(tmp_path: Path, followed: list[bool]) -> None:
    is_stream = False

    async def page(request: web.Request) -> web.StreamResponse:
        if not is_stream:
            return never(1)
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        await response.prepare(request)
        await response.write(b"abc")
        await response.write_eof()
        return response

    async with edge_of(tmp_path, serving(page=page)) as edge:
        await until_followed(edge, followed)
        is_stream = True
        answer = await edge.get("/page")
        assert (answer.body, answer.cache_status) == (b"abc", f"{MISS}; detail=stream")
        assert followed == [True]


async def test_what_is_too_long_to_be_looked_at_is_marked_too(tmp_path: Path, followed: list[bool]) -> None:
    length = 1
    page = Counted(lambda _: web.Response(text="x" * length, headers={"Cache-Control": "no-store"}))
    async with edge_of(tmp_path, serving(page=page.handle), cache=Cache(max_body=10)) as edge:
        await until_followed(edge, followed)
        length = 11
        answer = await edge.get("/page")
        assert (len(answer.body), answer.cache_status) == (11, MISS)
        assert followed == [True]


@pytest.mark.parametrize(
    ("rules", "settings", "options"),
    [
        ([Rule("/page", write="behind")], {}, {}),
        ([Rule("/page", principal=lambda request: request.headers.get("X-User"))], {}, {}),
        ([], {"cache": Cache(holdoff=0.5)}, {}),
        ([], {}, {"headers": {"Cache-Control": "no-cache"}}),
        ([], {}, {"headers": {"Range": "bytes=0-1"}}),
        ([], {}, {"headers": {"If-None-Match": '"a"'}}),
        ([], {}, {"headers": {"Regioncache-Pin": "a"}}),
        ([], {}, {"headers": {"X-Long": "x" * 5000}}),
    ],
    ids=["behind", "callable", "holdoff", "no-cache", "range", "condition", "pin", "long"],
)
async def test_no_plan_is_made_of_what_may_go_another_way(
    tmp_path: Path, followed: list[bool], rules: list[Rule], settings: dict[str, Any], options: dict[str, Any]
) -> None:
    async with edge_of(tmp_path, serving(page=Counted(never).handle), rules=rules, **settings) as edge:
        for _ in range(5):
            await edge.get("/page", **options)
        assert followed == []


async def test_no_plan_is_made_where_fields_select(tmp_path: Path, followed: list[bool]) -> None:
    async def page(request: web.Request) -> web.Response:
        language = request.headers["Accept-Language"]
        answer = fresh(language, Vary="Accept-Language") if language == "de" else never(1)
        answer.headers["Vary"] = "Accept-Language"
        return answer

    async with edge_of(tmp_path, serving(page=page)) as edge:
        await until_hit(edge, "/page", headers={"Accept-Language": "de"})
        for _ in range(5):
            await edge.get("/page", headers={"Accept-Language": "en"})
        assert followed == []


async def test_a_sub_application_sees_its_own(tmp_path: Path, followed: list[bool]) -> None:
    seen: list[tuple[web.Application, tuple[web.Application, ...]]] = []

    async def page(request: web.Request) -> web.Response:
        seen.append((request.app, request.match_info.apps))
        return never(len(seen))

    sub = serving(page=page)
    regioncache.setup(sub)
    app = web.Application()
    app.add_subapp("/sub/", sub)
    async with edge_of(tmp_path, app) as edge:
        await until_followed(edge, followed, "/sub/page")
        await edge.get("/sub/page")
        assert {apps for _, apps in seen} == {(app, sub)}
        assert {own for own, _ in seen} == {sub}


async def test_a_sub_application_s_middlewares_come_first(tmp_path: Path, followed: list[bool]) -> None:
    seen: list[web.Application] = []

    @web.middleware
    async def inner(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request.app)
        return await handler(request)

    sub = serving(page=Counted(never).handle)
    sub.middlewares.append(inner)
    app = web.Application()
    async with World(tmp_path) as world:
        regioncache.setup(app, world.settings(rules=[]), include=[sub])
        app.add_subapp("/sub/", sub)
        async with _started(world, app) as edge:
            await until_followed(edge, followed, "/sub/page")
            seen.clear()
            await edge.get("/sub/page")
            assert seen == [sub]
            assert followed == [True]


async def test_requests_at_once_each_have_their_own(tmp_path: Path, followed: list[bool]) -> None:
    async def page(request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.Response(text=request.headers["Cookie"], headers={"Cache-Control": "private, max-age=60"})

    async with edge_of(tmp_path, serving(page=page)) as edge:
        users = [f"user={number}" for number in range(20)]
        for user in users:
            await until_followed(edge, followed, headers={"Cookie": user})
        answers = await asyncio.gather(*(edge.get("/page", headers={"Cookie": user}) for user in users * 3))
        assert [answer.body.decode() for answer in answers] == users * 3
        assert followed == [True] * 60


async def test_what_is_being_stored_is_waited_for(tmp_path: Path, followed: list[bool]) -> None:
    is_fresh, private = False, {"Authorization": "Basic YTpi"}
    page = Counted(lambda number: fresh(f"{number}", Cache_Control="public, max-age=60") if is_fresh else never(number))
    async with edge_of(tmp_path, serving(page=page.handle)) as edge:
        for each in "ab":
            await until_followed(edge, followed, headers={**private, "X-Other": each})
        store = edge.cache.stores["ap-northeast-1"]
        go_on = asyncio.Event()
        run = store.fills.run

        async def run_later(*arguments: Any) -> Any:
            await go_on.wait()
            return await run(*arguments)

        vars(store.fills)["run"] = run_later
        is_fresh, calls = True, page.calls
        first = await edge.get("/page", headers={**private, "X-Other": "a"})
        second = asyncio.ensure_future(edge.get("/page", headers={**private, "X-Other": "b"}))
        await eventually(lambda: followed == [True, False])
        go_on.set()
        assert (await second).body == first.body
        assert page.calls == calls + 1


@pytest.mark.parametrize(
    ("entry", "state", "purge", "is_untold", "is_plain"),
    [
        (None, b"%b1|0|7|0|0", b"5", False, True),
        (b"x", b"%b1|0|7|0|0", b"5", False, False),
        (None, None, b"5", False, False),
        (None, b"other|0|7|0|0", b"5", False, False),
        (None, b"%b1|0|7|1|9", b"5", False, False),
        (None, b"%b1|0|7|0", b"5", False, False),
        (None, b"%b1|0|7|0|0", None, False, False),
        (None, b"%b1|0|7|0|0", b"5", True, False),
    ],
    ids=["plain", "stored", "unknown", "other run", "pending", "broken", "no purges known", "untold"],
)
async def test_what_a_region_says_of_a_plain_miss(
    tmp_path: Path,
    followed: list[bool],
    entry: bytes | None,
    state: bytes | None,
    purge: bytes | None,
    is_untold: bool,
    is_plain: bool,
) -> None:
    async with edge_of(tmp_path, serving(page=Counted(never).handle)) as edge:
        await until_followed(edge, followed)
        (plan,) = (plan for plan, _ in edge.cache.edge.plans._exact._values.values())
        assert isinstance(plan, MissPlan)
        run = plan.store.run
        if is_untold:
            plan.store.untold.take([plan.inquiry.resource.digest])
        values = (entry, state and state.replace(b"%b", run.encode()), purge)
        remembered = plan.remembered(values)
        assert remembered == (Remembered(f"{run}1", 7, 5) if is_plain else None)


async def test_a_handler_may_change_its_match(tmp_path: Path) -> None:
    """The route's parameters are the request's own: a handler that takes one out finds it in the next request."""

    async def page(request: web.Request) -> web.Response:
        name = request.match_info.pop("name")
        return web.Response(text=name, headers={"Cache-Control": "no-store"})

    app = web.Application()
    app.router.add_get("/pages/{name}", page)
    async with edge_of(tmp_path, app) as edge:
        assert [(await edge.get("/pages/a")).status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("control", ["no-store", "private, max-age=60", "public, max-age=60"])
async def test_what_is_compressed_says_that_it_varies(tmp_path: Path, followed: list[bool], control: str) -> None:
    now = "no-store"

    async def page(_: web.Request) -> web.Response:
        response = web.Response(text="x" * 1000, headers={"Cache-Control": now, "ETag": '"a"'})
        response.enable_compression()
        return response

    gzip = {"Accept-Encoding": "gzip"}
    async with edge_of(tmp_path, serving(page=page)) as edge:
        first = await edge.get("/page", headers=gzip)
        await until_followed(edge, followed, headers=gzip)
        now = control
        answer = await edge.get("/page", headers=gzip)
        assert followed == [True]
        assert [answer.headers[name] for name in ("Vary", "Content-Encoding")] == ["Accept-Encoding", "gzip"]
        assert answer.headers.keys() == first.headers.keys()
        assert answer.body == b"x" * 1000
