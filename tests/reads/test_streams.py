"""Streams, files and large bodies: they pass as they come and are not stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Rule
from tests.reads.apps import Handler, running, serving, until_hit
from tests.support import eventually
from tests.support.world import World, forwarding_app

LARGE = b"0123456789" * 1000


class Ticker:
    """A handler that sends an event, and the next one each time `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.open = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "max-age=60"})
        await response.prepare(request)
        self.open += 1
        try:
            await response.write(b"data: first\n\n")
            while True:
                await self.go.wait()
                await response.write(b"data: next\n\n")
                await asyncio.sleep(0)
        finally:
            self.open -= 1


@pytest.mark.parametrize("forwarded", [True, False])
async def test_server_sent_events_arrive_as_they_are_sent_for_every_client(tmp_path: Path, forwarded: bool) -> None:
    ticker = Ticker()
    async with World(tmp_path) as world, running(serving(events=ticker.handle)) as origin:
        edge = await (world.edge(origin=origin) if forwarded else world.edge(serving(events=ticker.handle)))
        async with world.session.get(edge.url + "/events") as one, world.session.get(edge.url + "/events") as two:
            for answer in (one, two):
                assert await answer.content.readuntil(b"\n\n") == b"data: first\n\n"
                assert "detail=stream" in answer.headers["Cache-Status"]
            assert ticker.open == 2
            ticker.go.set()
            assert await two.content.readuntil(b"\n\n") == b"data: next\n\n"
            one.close()
            two.close()
        await eventually(lambda: ticker.open == 0)


async def test_a_stream_that_ends_is_marked_and_not_stored(tmp_path: Path) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "max-age=60"})
        await response.prepare(request)
        for piece in (b"one ", b"two"):
            await response.write(piece)
        await response.write_eof()
        return response

    async with World(tmp_path) as world:
        edge = await world.edge(serving(stream=stream))
        for _ in range(2):
            answer = await edge.get("/stream")
            assert answer.body == b"one two"
            assert answer.headers.getall("Cache-Status") == ["regioncache/ap-northeast-1; fwd=miss; detail=stream"]


async def test_files_are_sent_by_aiohttp_itself(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(LARGE)

    async def handler(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(file, headers={"Cache-Control": "max-age=60"})

    app = serving(file=handler)
    app.router.add_static("/static", tmp_path)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        for path in ("/file", "/static/file.txt"):
            for _ in range(2):
                answer = await edge.get(path)
                assert answer.body == LARGE
                assert "fwd=miss" in answer.cache_status
            part = await edge.get(path, headers={"Range": "bytes=10-19"})
            assert (part.status, part.body) == (206, LARGE[10:20])
            unchanged = await edge.get(path, headers={"If-None-Match": answer.headers["ETag"]})
            assert unchanged.status == 304


async def large(_request: web.Request) -> web.Response:
    return web.Response(body=LARGE, headers={"Cache-Control": "max-age=60"})


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "max-age=60"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for start in range(0, len(LARGE), 1000):
        await response.write(LARGE[start : start + 1000])
    await response.write_eof()
    return response


@pytest.mark.parametrize("handler", [large, chunked])
@pytest.mark.parametrize("fits", [True, False])
async def test_answers_of_the_origin_are_stored_up_to_a_size(tmp_path: Path, handler: Handler, fits: bool) -> None:
    cache = Cache(max_body=len(LARGE) if fits else len(LARGE) - 1)
    async with World(tmp_path) as world, running(serving(page=handler)) as origin:
        edge = await world.edge(origin=origin, cache=cache)
        first = await edge.get("/page")
        assert first.body == LARGE
        if fits:
            assert (await until_hit(edge, "/page")).body == LARGE
        else:
            assert "detail=stream" in first.cache_status
            assert "; hit" not in (await edge.get("/page")).cache_status


async def test_a_large_answer_of_a_handler_passes_unstored(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=large), cache=Cache(max_body=100))
        for _ in range(3):
            answer = await edge.get("/page")
            assert answer.body == LARGE
            assert answer.cache_status == "regioncache/ap-northeast-1; fwd=miss"


async def test_an_origin_that_breaks_off_breaks_the_answer_off(tmp_path: Path) -> None:
    """What has begun cannot become a 502; a whole answer must not be pretended."""

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2 * len(LARGE))})
        await response.prepare(request)
        await response.write(LARGE)
        assert request.transport is not None
        request.transport.close()
        return response

    async with World(tmp_path) as world, running(serving(page=broken)) as origin:
        edge = await world.edge(origin=origin, cache=Cache(max_body=100))
        with pytest.raises(aiohttp.ClientPayloadError):
            await edge.get("/page")
        small = await world.edge(origin=origin)
        assert (await small.get("/page")).status == 502


async def test_a_stream_admits_that_a_region_cannot_be_reached_where_writes_may_be_waiting(tmp_path: Path) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "max-age=60"})
        await response.prepare(request)
        await response.write(b"as it comes")
        return response

    app = serving(items=stream, other=stream)
    async with World(tmp_path) as world:
        edge = await world.edge(app, rules=[Rule("/items", write="behind")])
        assert "detail=stream" in (await edge.get("/items")).cache_status
        await world.servers["ap-northeast-1"].kill()
        for _ in range(2):  # from the region that is left; the breaker is closed, then open
            answer = await edge.get("/items")
            assert answer.cache_status == "regioncache/sa-east-1; fwd=miss; detail=behind-unreachable"
            assert answer.headers["Cache-Control"] == "private, no-store"
        assert "detail=stream" in (await edge.get("/other")).cache_status
        await world.servers["sa-east-1"].kill()
        answer = await edge.get("/items")
        assert answer.cache_status == "regioncache; fwd=miss; detail=behind-unreachable"
        past = await edge.get("/items", headers={"Range": "bytes=0-1"})
        assert past.cache_status == "regioncache; fwd=miss; detail=behind-unreachable"


async def test_a_renewal_that_streams_leaves_no_trace_on_the_answer_before_it(tmp_path: Path) -> None:
    streamed, answers = asyncio.Event(), 0

    async def page(request: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        if answers == 1:
            return web.Response(text="text", headers={"Cache-Control": "max-age=0, stale-while-revalidate=60"})
        response = web.StreamResponse()
        try:
            await response.prepare(request)
        finally:
            streamed.set()
        return response

    @web.middleware
    async def slow(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if "stale-while-revalidate" in response.headers["Cache-Status"]:
            await streamed.wait()
        return response

    app = serving(page=page)
    app.middlewares.append(slow)
    async with World(tmp_path) as world:
        edge = await world.edge(app, cache=Cache(memory_seconds=0))
        await edge.get("/page")
        for _ in range(2):
            answer = await edge.get("/page")
            assert (answer.body, answer.headers["Content-Length"]) == (b"text", "4")
        assert answers > 1


async def test_a_client_that_leaves_in_the_middle_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(LARGE)
                await asyncio.sleep(0)
        gone.set()
        return response

    async with World(tmp_path) as world, running(serving(page=endless)) as origin:
        edge = await world.edge(origin=origin, rules=[], cache=Cache(max_body=100))
        async with world.session.get(edge.url + "/page") as answer:
            assert (await answer.content.readexactly(len(LARGE))) == LARGE
            answer.close()
        await gone.wait()
        await edge.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_completion_that_breaks_off_breaks_the_answer_off(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        headers = {"ETag": '"1"', "Cache-Control": "max-age=60"}
        if "If-Range" not in request.headers:
            return web.Response(status=206, body=b"01", headers=headers | {"Content-Range": "bytes 0-1/10"})
        response = web.StreamResponse(headers=headers | {"ETag": '"2"', "Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"01234")
        raise RuntimeError("broken")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), cache=Cache(memory_seconds=0))
        await edge.get("/page", headers={"Range": "bytes=0-1"})
        host, _, port = edge.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /page HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\n01234")


@pytest.mark.parametrize("forwarded", [True, False])
async def test_what_is_too_large_to_store_is_not_sent_to_who_has_it(tmp_path: Path, forwarded: bool) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "max-age=60", "ETag": '"1"', "X-Kept": "1"})
        await response.prepare(request)
        await response.write(LARGE)
        return response

    async with World(tmp_path) as world, running(serving(page=page)) as origin:
        small = Cache(max_body=100)
        app = forwarding_app() if forwarded else serving(page=page)
        edge = await world.edge(app, origin=origin, rules=[], cache=small)
        for tag, status, body in (('"1"', 304, b""), ('W/"1"', 304, b""), ('"2"', 200, LARGE)):
            answer = await edge.get("/page", headers={"If-None-Match": tag})
            assert (answer.status, answer.body, answer.headers["ETag"]) == (status, body, '"1"')
            assert answer.headers["X-Kept"] == "1"
            assert len(answer.headers.getall("Cache-Status")) == 1
