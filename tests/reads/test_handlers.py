"""Answers of handlers are seen as they will be sent: what signals add, what is compressed, payloads of every kind."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import Counted, Handler, fresh, serving, until_hit
from tests.support.world import World

NO_MEMORY = Cache(memory_seconds=0)


async def test_what_a_signal_adds_arrives_once_with_every_answer(tmp_path: Path) -> None:
    handler = Counted(lambda _n: fresh("x"))
    app = serving(page=handler.handle)

    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.add("X-Frame-Options", "DENY")

    app.on_response_prepare.append(add)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        assert (await edge.get("/page")).headers.getall("X-Frame-Options") == ["DENY"]
        assert (await until_hit(edge, "/page")).headers.getall("X-Frame-Options") == ["DENY"]
        assert handler.calls == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("Cache-Control", "private"), ("Cache-Control", "no-store"), ("Vary", "*"), ("CDN-Cache-Control", "no-store")],
)
async def test_what_a_signal_forbids_is_not_stored(tmp_path: Path, name: str, value: str) -> None:
    handler = Counted(lambda n: fresh(str(n)))
    app = serving(page=handler.handle)

    async def forbid(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers[name] = value

    app.on_response_prepare.append(forbid)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        assert [(await edge.get("/page")).body for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_cookie_that_a_signal_sets_keeps_an_answer_without_lifetime_out(tmp_path: Path) -> None:
    handler = Counted(lambda n: web.Response(text=str(n), headers={"ETag": f'"{n}"'}))
    app = serving(page=handler.handle)

    async def welcome(_request: web.Request, response: web.StreamResponse) -> None:
        response.set_cookie("session", "x")

    app.on_response_prepare.append(welcome)
    async with World(tmp_path) as world:
        edge = await world.edge(app, cache=Cache(ttl=60))
        assert [(await edge.get("/page")).body for _ in range(2)] == [b"1", b"2"]


async def test_what_a_signal_says_to_vary_on_is_in_the_key(tmp_path: Path) -> None:
    async def greet(request: web.Request) -> web.Response:
        return fresh(request.headers.get("X-Tenant", "none"))

    async def vary(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Vary"] = "X-Tenant"

    app = serving(page=greet)
    app.on_response_prepare.append(vary)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        for _ in range(2):
            for tenant in ("one", "two"):
                assert (await edge.get("/page", headers={"X-Tenant": tenant})).body == tenant.encode()
        assert "; hit" in (await until_hit(edge, "/page", headers={"X-Tenant": "one"})).cache_status


@pytest.mark.parametrize("features", [{}, {"compress": {"codings": ["gzip"]}}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_a_signal_says_to_vary_on_stays_in_the_key_after_a_304(
    tmp_path: Path, method: str, features: dict[str, Any]
) -> None:
    seconds = 0

    async def greet(request: web.Request) -> web.Response:
        tenant = request.headers.get("X-Tenant", "none")
        headers = {"ETag": f'"{tenant}"', "Cache-Control": f"max-age={seconds}"}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(text=tenant, headers=headers)

    async def vary(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Vary"] = "X-Tenant"

    app = serving(page=greet)
    app.on_response_prepare.append(vary)
    async with World(tmp_path) as world:
        edge = await world.edge(app, cache=NO_MEMORY, features=features)
        await edge.get("/page", headers={"X-Tenant": "one"})
        seconds = 60
        await edge.ask(method, "/page", headers={"X-Tenant": "one"})
        assert "; hit" in (await until_hit(edge, "/page", headers={"X-Tenant": "one"})).cache_status
        assert (await edge.get("/page", headers={"X-Tenant": "two"})).body == b"two"


async def test_what_is_for_us_alone_counts_also_where_there_are_signals(tmp_path: Path) -> None:
    handler = Counted(lambda n: web.Response(text=str(n), headers=_FOR_US))
    app = serving(page=handler.handle)

    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.add("X-Frame-Options", "DENY")

    app.on_response_prepare.append(add)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        answers = [await edge.get("/page") for _ in range(2)]
        assert [answer.body for answer in answers] == [b"1", b"2"]
        assert not any("Regioncache-Cache-Control" in answer.headers for answer in answers)


_FOR_US = {"Cache-Control": "max-age=60", "Regioncache-Cache-Control": "no-store"}
TEXT = "compress me " * 3000


@pytest.mark.parametrize("force", [None, web.ContentCoding.gzip])
async def test_what_a_handler_compresses_is_stored_compressed(tmp_path: Path, force: web.ContentCoding | None) -> None:
    def page(_number: int) -> web.Response:
        response = fresh(TEXT)
        response.enable_compression(force)
        return response

    handler = Counted(page)
    async with World(tmp_path) as world, aiohttp.ClientSession(auto_decompress=False) as session:
        edge = await world.edge(serving(page=handler.handle), cache=NO_MEMORY)
        seen = []
        for accepted in ("gzip", "gzip", "gzip, br", "deflate", "deflate", ""):
            headers = {"Accept-Encoding": accepted}
            async with session.get(edge.url + "/page", headers=headers) as answer:
                seen.append((answer.headers.get("Content-Encoding", ""), await answer.read(), len(answer.headers)))
                assert answer.headers.getall("Content-Encoding", []) == ([seen[-1][0]] if seen[-1][0] else [])
        texts = [_decoded(coding, body) for coding, body, _ in seen]
        assert texts == [TEXT] * 6
        if force:
            assert [coding for coding, *_ in seen] == ["gzip"] * 6
        else:
            assert [coding for coding, *_ in seen] == ["gzip", "gzip", "gzip", "deflate", "deflate", ""]
            assert handler.calls == 4  # who accepts more than the origin has been offered may get something better


def _decoded(coding: str, body: bytes) -> str:
    undo: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}
    return undo[coding](body).decode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda: "text", id="text"),
        pytest.param(lambda: bytearray(b"text"), id="bytearray"),
        pytest.param(lambda: io.BytesIO(b"text"), id="in-memory-file"),
        pytest.param(lambda: aiohttp.JsonPayload("text", dumps=str), id="json"),
    ],
)
async def test_payloads_in_memory_are_stored(tmp_path: Path, body: Callable[[], object]) -> None:
    def page(_number: int) -> web.Response:
        return web.Response(body=body(), headers={"Cache-Control": "max-age=60"})

    handler = Counted(page)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=handler.handle))
        first = await edge.get("/page")
        hit = await until_hit(edge, "/page")
        assert first.body == hit.body == b"text"
        assert first.headers["Content-Type"] == hit.headers["Content-Type"]
        assert handler.calls == 1


async def test_what_selects_and_no_line_can_hold_keeps_an_answer_out(tmp_path: Path) -> None:
    @web.middleware
    async def naming(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(headers={**request.headers, "X-Who": "one\x01"}))

    async def page(request: web.Request) -> web.Response:
        return fresh(repr(request.headers["X-Who"]), Vary="X-Who")

    app = serving(page=page)
    app.middlewares.append(naming)
    async with World(tmp_path) as world:
        edge = await world.edge(app, rules=())
        for _ in range(2):
            answer = await edge.get("/page")
            assert (answer.status, answer.body) == (200, rb"'one\x01'")
