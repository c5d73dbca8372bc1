"""Answers before the router: they are those of the normal way to the octet, and come only where nobody can tell."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_urldispatcher import AbstractRuleMatching, MatchedSubAppResource

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Cache, Rule, Sync, shortcut
from aiohttp_regioncache.middleware import Edge
from aiohttp_regioncache.pin import PIN_COOKIE
from aiohttp_regioncache.plugin import REGION_CACHE
from tests.reads.apps import Counted, fresh, running, serving
from tests.support import eventually
from tests.support.world import World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CHANGES = re.compile(
    rb"\r\n(Date|Age): [^\r]*|ttl=[0-9]+|[0-9a-f]{32}|\r\n(Regioncache-Pin|Set-Cookie): [^\r]*(?=\r\n)"
)
"""What is another one from one answer to the next."""
ITEM = Rule("/items/{id}", write="behind", affects=("/items",))


class Resolved:
    """Counts the requests that the router sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        resolve = web.UrlDispatcher.resolve

        async def resolving(router: web.UrlDispatcher, request: web.Request) -> Any:
            self.count += 1
            return await resolve(router, request)

        monkeypatch.setattr(web.UrlDispatcher, "resolve", resolving)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> Resolved:
    return Resolved(monkeypatch)


async def _read(request: web.Request) -> web.Response:
    return web.Response(text=f"{len(await request.read())}")


def _app(**options: Any) -> web.Application:
    app = serving(page=Counted(lambda number: fresh("the page " * 100, ETag='"a"')).handle)
    app.router.add_put("/items/{id}", _read)
    for middleware in options.get("middlewares", ()):
        app.middlewares.append(middleware)
    return app


@contextlib.asynccontextmanager
async def served(world: World, app: web.Application, **options: Any) -> AsyncIterator[int]:
    """Serve an application with the cache; gives its port."""
    changes: dict[str, Any] = {"rules": [ITEM], "sync": Sync(enabled=False), **options.pop("settings", {})}
    regioncache.setup(app, world.settings(**changes), **options.pop("setup", {}))
    runner = web.AppRunner(app, shutdown_timeout=0.1, **{"access_log": None, **options})
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def sent(port: int, *pieces: bytes) -> bytes:
    """Send octets on a connection of their own, and what ends it; gives all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in (*pieces, b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    came = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return _CHANGES.sub(b"", came)


def get(fields: str = "", *, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} /page HTTP/{version}\r\nHost: a\r\n{fields}\r\n".encode()


def put(body: bytes, fields: str = "", number: int = 1) -> bytes:
    return f"PUT /items/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


async def is_hit(port: int) -> bool:
    """Whether the page is there."""
    return b"; hit" in await sent(port, get())


async def until_planned(port: int, resolved: Resolved, *octets: bytes) -> None:
    """Send requests until the router sees none of them."""

    async def is_planned() -> bool:
        before = resolved.count
        await sent(port, *octets)
        return resolved.count == before + 1  # what ends the connection

    await eventually(is_planned)


async def test_hits_and_planned_writes_come_before_the_router(tmp_path: Path, resolved: Resolved) -> None:
    async with World(tmp_path) as world:
        app = _app()
        async with served(world, app) as port:
            await until_planned(port, resolved, get())
            await until_planned(port, resolved, put(b"{}"))
            answers = await sent(port, get() + put(b"{}", number=1))
            assert [answers.count(line) for line in (b"HTTP/1.1 200 OK", b"HTTP/1.1 202 Accepted")] == [1, 1]
        assert "_handle" not in vars(app)


REQUESTS = (
    get(),
    get(version="1.0"),
    get("Connection: keep-alive\r\n", version="1.0"),
    get("Connection: close\r\n"),
    get(method="HEAD"),
    get("Range: bytes=0-9\r\n"),
    get('If-None-Match: "a"\r\n'),
    get("Cache-Control: no-cache\r\n"),
    get("Accept-Encoding: gzip\r\n"),
    get("Expect: 100-continue\r\n"),
    get("X-A: b\r\n") + get() + get(),
    put(b"{}"),
    put(b""),
    put(b"x" * 100_000),
    put(b"{}") + put(b"[]") + get(),
    put(b"{}", "Connection: close\r\n"),
    put(b"{}", "Expect: 100-continue\r\n"),
    put(b"{}", "Content-Encoding: gzip\r\n"),
    b"PUT /items/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
)


@pytest.mark.parametrize("memory", [60.0, 0.0])
async def test_answers_are_the_same_to_the_octet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: float
) -> None:
    resolved = Resolved(monkeypatch)
    settings = {"cache": Cache(memory_seconds=memory)}
    async with World(tmp_path) as world, contextlib.AsyncExitStack() as stack:
        fast = await stack.enter_async_context(served(world, _app(), settings=settings))
        monkeypatch.setattr(shortcut, "FINGERPRINT", "another")
        slow = await stack.enter_async_context(served(world, _app(), settings=settings))
        await until_planned(fast, resolved, get())
        await until_planned(fast, resolved, put(b"{}", number=2))

        kind = b"detail=memory" if memory else b"; hit"

        async def is_stored() -> bool:
            answers = [await sent(port, get()) for port in (slow, fast)]
            return all(kind in answer for answer in answers)

        for octets, cut in itertools.product(REQUESTS, (None, 1, -1)):
            pieces = [octets] if cut is None else [octets[:cut], octets[cut:]]
            for _ in range(2):
                await eventually(is_stored)  # some requests have it stored anew
                expected = await sent(slow, *pieces)
                await eventually(is_stored)
                assert await sent(fast, *pieces) == expected, octets[:200]
        await eventually(is_stored)
        before = resolved.count
        await sent(fast, get())
        await sent(slow, get())
        assert resolved.count == before + 3  # the fast one was fast


async def test_whoever_comes_before_the_cache_still_does(tmp_path: Path, resolved: Resolved) -> None:
    seen: list[str] = []

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request.path)
        return await handler(request)

    async with World(tmp_path) as world, served(world, _app(middlewares=[outer])) as port:
        await eventually(lambda: is_hit(port))
        await sent(port, put(b"{}"))
        seen.clear()
        before = resolved.count
        answers = await sent(port, get(), put(b"{}"))
        assert seen == ["/page", "/items/1", "/none"]
        assert resolved.count == before + 3
        assert b"; hit" in answers


async def test_who_sends_or_logs_an_answer_finds_the_route(tmp_path: Path, resolved: Resolved) -> None:
    logged: list[tuple[str, Any]] = []
    heard: list[tuple[str, Any]] = []

    class Logger(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            assert isinstance(request, web.Request)
            info = request.match_info.get_info()
            logged.append((str(response.status), info.get("formatter") or info.get("path")))

    async def hear(request: web.Request, response: web.StreamResponse) -> None:
        heard.append((str(response.status), request.match_info.handler))
        response.headers["X-Heard"] = "1"

    app = _app()
    app.on_response_prepare.append(hear)
    log: Any = logging.getLogger("tests.shortcut")
    log.setLevel(logging.INFO)
    async with (
        World(tmp_path) as world,
        served(world, app, access_log=log, access_log_class=Logger) as port,
    ):
        await until_planned(port, resolved, get())
        await until_planned(port, resolved, put(b"{}"))
        logged.clear()
        heard.clear()
        answers = await sent(port, get(), put(b"{}"))
        assert logged[:2] == [("200", "/page"), ("202", "/items/{id}")]
        assert [status for status, _ in heard[:2]] == ["200", "202"]
        assert heard[1][1] is _read
        assert answers.count(b"X-Heard: 1") == 3


async def test_who_watches_the_handling_of_requests_sees_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[str] = []
    handle = web.Application._handle

    async def watched(app: web.Application, request: web.Request) -> web.StreamResponse:
        handled.append(request.path)
        return await handle(app, request)

    monkeypatch.setattr(web.Application, "_handle", watched)
    async with World(tmp_path) as world, served(world, _app()) as port:
        assert "somebody has changed its handling" in caplog.text
        for number in range(1, 4):
            await sent(port, get())
            assert handled == ["/page", "/none"] * number


async def test_another_aiohttp_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, resolved: Resolved
) -> None:
    monkeypatch.setattr(shortcut, "FINGERPRINT", "another")
    async with World(tmp_path) as world:
        app = _app()
        async with served(world, app) as port:
            assert "behind the application's router" in caplog.text
            assert app[REGION_CACHE].edge is not None
            assert "_handle" not in vars(app)
            for number in range(1, 4):
                await sent(port, get())
                assert resolved.count == 2 * number


# --- what was bypassed or lost once ---


async def test_plans_are_followed_behind_another_middleware_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[str] = []
    follow = Edge.follow

    def following(edge: Edge, plan: Any, request: web.Request, handler: Handler) -> Any:
        followed.append(request.method)
        return follow(edge, plan, request, handler)

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request)

    looked_for: list[str] = []
    find = Edge.find

    def finding(edge: Edge, request: web.Request) -> Any:
        looked_for.append(request.method)
        return find(edge, request)

    monkeypatch.setattr(Edge, "follow", following)
    monkeypatch.setattr(Edge, "find", finding)
    async with World(tmp_path) as world, served(world, _app(middlewares=[outer])) as port:

        async def are_followed() -> bool:
            followed.clear()
            looked_for.clear()
            await sent(port, get(), put(b"{}"))
            return followed == ["GET", "PUT", "GET"]  # a hit, a write, and a miss, which ends the connection

        await eventually(are_followed)
        assert looked_for == followed  # each once


async def test_the_middlewares_of_a_sub_application_come_before_its_plans(tmp_path: Path) -> None:
    seen: list[str] = []

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request.path)
        return await handler(request)

    sub = serving(page=Counted(lambda number: fresh(str(number))).handle)
    sub.middlewares.append(guard)
    regioncache.setup(sub)
    app = web.Application()
    app.add_subapp("/sub/", sub)
    async with World(tmp_path) as world, served(world, app) as port:
        octets = get().replace(b"/page", b"/sub/page")

        async def is_kept() -> bool:
            return b"; hit" in await sent(port, octets)

        await eventually(is_kept)
        seen.clear()
        for number in range(1, 4):
            assert await is_kept()
            assert seen == ["/sub/page"] * number


async def test_a_cookie_of_an_outer_middleware_takes_nobodys_place(tmp_path: Path, resolved: Resolved) -> None:
    @web.middleware
    async def session(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.set_cookie("session", "1")
        return response

    root = web.Application(middlewares=[session])
    app = _app()
    async with World(tmp_path) as world:
        regioncache.setup(
            app, world.settings(rules=[Rule("/api/items/{id}", write="behind")], sync=Sync(enabled=False))
        )
        root.add_subapp("/api", app)
        async with running(root) as url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            for _ in range(3):
                async with client.put(f"{url}/api/items/1", data=b"{}") as answer:
                    assert (answer.status, set(answer.cookies)) == (202, {"session", PIN_COOKIE})


class _Phones(AbstractRuleMatching):
    """Matches by a field on which no hit depends."""

    async def match(self, request: web.Request) -> bool:
        return "phone" in request.headers.get("User-Agent", "")

    def get_info(self) -> Any:
        return {}

    @property
    def canonical(self) -> str:
        return "phones"


async def test_a_route_that_more_than_the_target_decides_is_looked_for(tmp_path: Path) -> None:
    phones = serving(page=Counted(lambda _: web.Response(text="for phones")).handle)
    app = web.Application()
    app.router.register_resource(MatchedSubAppResource(_Phones(), phones))
    phones.pre_freeze()
    app._subapps.append(phones)
    app.router.add_get("/page", Counted(lambda _: fresh("for others")).handle)
    async with World(tmp_path) as world, served(world, app) as port:
        await eventually(lambda: is_hit(port))
        for _ in range(3):
            assert b"for phones" in await sent(port, get("User-Agent: phone\r\n"))
            assert b"for others" in await sent(port, get())


async def test_who_comes_late_to_watch_sees_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[str] = []
    handle = web.Application._handle

    async def watched(app: web.Application, request: web.Request) -> web.StreamResponse:
        handled.append(request.path)
        return await handle(app, request)

    async with World(tmp_path) as world, served(world, _app()) as port:
        await eventually(lambda: is_hit(port))
        await sent(port, get())
        monkeypatch.setattr(web.Application, "_handle", watched)
        for number in range(1, 4):
            await sent(port, get())
            assert handled == ["/page", "/none"] * number
        monkeypatch.undo()


async def test_a_planned_write_that_is_cut_off_is_logged_with_its_route(tmp_path: Path, resolved: Resolved) -> None:
    logged: list[Any] = []

    class Logger(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            assert isinstance(request, web.Request)
            logged.append(request.match_info["id"])
            request.match_info["id"] = "changed"

    app = web.Application()
    app.router.add_put("/items/{id}", _read)
    log: Any = logging.getLogger("tests.shortcut")
    async with (
        World(tmp_path) as world,
        served(world, app, access_log=log, access_log_class=Logger) as port,
    ):

        async def is_planned() -> bool:
            before = resolved.count
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            count = len(logged)
            writer.write(put(b"{}"))
            await eventually(lambda: len(logged) > count)
            writer.close()
            return resolved.count == before

        await eventually(is_planned)
        count = len(logged)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(put(b"{}" * 10)[:-5])
        await writer.drain()
        writer.close()
        await eventually(lambda: len(logged) > count)
        assert set(logged) == {"1"}
