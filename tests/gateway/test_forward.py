"""The forwarding handler: what goes to the origin and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from aiohttp_regioncache import Cache, Connections, Gateway
from aiohttp_regioncache.exchange import Handler
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.servers import free_port
from tests.support.world import Edge, World, forwarding_app, one_edge


class Echo:
    """An origin that keeps the last request and answers with `response`."""

    def __init__(self) -> None:
        self.request: web.Request
        self.body = b""
        self.response: Callable[[], web.Response] = lambda: web.Response(text="ok")

    async def handle(self, request: web.Request) -> web.Response:
        self.body = await request.read()
        self.request = request
        return self.response()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


@pytest_asyncio.fixture
async def echo(tmp_path: Path) -> AsyncIterator[tuple[Echo, Edge]]:
    origin = Echo()
    async with World(tmp_path) as world, running(origin.app()) as url:
        yield origin, await world.edge(origin=url, rules=[])


async def test_what_is_of_the_connection_stays_with_it(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo
    headers = {
        "Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "timeout=5", "TE": "trailers",
        "Proxy-Authorization": "secret", "X-Kept": "1", "Cookie": "a=1", "Authorization": "Bearer x",
        "User-Agent": "test", "Accept-Encoding": "br",
    }  # fmt: skip
    await edge.get("/pages/1", headers=headers)
    sent = origin.request.headers
    assert not {"X-Hop", "Keep-Alive", "TE", "Proxy-Authorization"} & set(sent)
    kept = ("X-Kept", "Cookie", "Authorization", "User-Agent", "Accept-Encoding")
    assert {name: sent[name] for name in kept} == {name: headers[name] for name in kept}
    assert sent["CDN-Loop"].startswith("regioncache-")
    assert sent["Host"] not in edge.url


async def test_nothing_is_added_that_the_client_did_not_send(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo
    await edge.get("/pages/1", skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"))
    told = {"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}
    assert set(origin.request.headers) == {"Host", "CDN-Loop", "Via", *told}


async def test_the_target_arrives_as_it_was_asked_for(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo
    target = "/a%20b/%C3%A9/%2F?x=%2F&y=a+b&x=2&z"
    async with aiohttp.ClientSession() as session, session.get(URL(edge.url + target, encoded=True)) as answer:
        assert answer.status == 200
    assert origin.request.rel_url.raw_path_qs == target


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
async def test_a_body_is_streamed_to_the_origin(echo: tuple[Echo, Edge], size: int) -> None:
    origin, edge = echo

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield b"x" * min(100_000, size - start)

    answer = await edge.ask("POST", "/pages/1", data=pieces())
    assert answer.status == 200
    assert origin.body == b"x" * size


async def test_every_line_of_the_answer_comes_back(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo

    def response() -> web.Response:
        made = web.Response(status=299, reason="Special", body=b"x", headers={"Connection": "X-Hop", "X-Hop": "1"})
        made.headers.add("Set-Cookie", "a=1; Path=/")
        made.headers.add("Set-Cookie", "b=2")
        made.headers.add("Link", "</a>")
        made.headers.add("Link", "</b>")
        return made

    origin.response = response
    answer = await edge.get("/pages/1")
    assert answer.status == 299
    assert answer.headers.getall("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert answer.headers.getall("Link") == ["</a>", "</b>"]
    assert "X-Hop" not in answer.headers


async def test_a_redirect_is_the_clients_to_follow(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo
    origin.response = lambda: web.Response(status=302, headers={"Location": "/elsewhere"})
    answer = await edge.get("/pages/1")
    assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere")


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_have_none(echo: tuple[Echo, Edge], status: int) -> None:
    origin, edge = echo
    origin.response = lambda: web.Response(status=status, headers={"ETag": '"1"'})
    answer = await edge.get("/pages/1")
    assert (answer.status, answer.body) == (status, b"")


async def test_a_head_has_the_length_of_the_body_it_leaves_out(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo
    answer = await edge.ask("HEAD", "/pages/1")
    assert (answer.headers["Content-Length"], answer.body) == ("2", b"")
    assert origin.request.method == "HEAD"


async def test_a_coded_answer_stays_coded(echo: tuple[Echo, Edge]) -> None:
    origin, edge = echo
    packed = b"not really packed"
    headers = {"Content-Encoding": "x-special", "Cache-Control": "max-age=60"}
    origin.response = lambda: web.Response(body=packed, headers=headers)
    for answer in (await edge.get("/pages/1"), await until_hit(edge, "/pages/1")):
        assert (answer.body, answer.headers["Content-Encoding"]) == (packed, "x-special")


async def test_octets_that_are_no_text_make_no_error(tmp_path: Path) -> None:
    """In the header of an answer, which is stored and given out again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-Odd: \xff\xfe\r\nContent-Length: 1\r\n\r\nx")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, World(tmp_path) as world:
        port = server.sockets[0].getsockname()[1]
        edge = await world.edge(origin=f"http://127.0.0.1:{port}")
        assert (await edge.get("/pages/1")).status == 200
        assert (await until_hit(edge, "/pages/1")).body == b"x"


async def test_an_origin_that_cannot_be_reached_is_a_502(tmp_path: Path) -> None:
    async with one_edge(tmp_path, origin=f"http://127.0.0.1:{free_port()}") as (_, edge):
        for method in ("GET", "HEAD", "POST"):
            answer = await edge.ask(method, "/pages/1")
            assert answer.status == 502
            assert answer.cache_status


async def test_an_origin_that_does_not_answer_is_a_504(tmp_path: Path) -> None:
    async with one_edge(tmp_path, gateway=Gateway(read_timeout=0.05)) as (world, edge):
        world.origin.read_gate.clear()
        answer = await edge.get("/pages/1")
        assert answer.status == 504
        assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_an_origin_under_a_path_of_its_own(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(origin=f"{world.origin.url}/base/")
        world.origin.documents["/base/pages/1"] = {"n": 1}
        assert (await edge.get("/pages/1")).body == b'{"n": 1}'


async def test_a_wide_crowd_needs_no_more_connections_than_it_may_have(tmp_path: Path) -> None:
    settings = {"cache": Cache(memory_seconds=0), "connections": Connections(timeout=5.0)}
    async with one_edge(tmp_path, **settings) as (world, edge):
        paths = [f"/pages/{number}" for number in range(200)]
        world.origin.documents |= {path: {"n": 1} for path in paths}
        for _ in range(2):
            answers = await asyncio.gather(*(edge.get(path) for path in paths))
            assert {answer.status for answer in answers} == {200}


async def test_an_event_stream_may_be_silent_for_longer_than_other_answers(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await go_on.wait()
        await response.write(b"data: 1\n\n")
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", events)
    async with World(tmp_path) as world, running(app) as origin:
        edge = await world.edge(origin=origin, gateway=Gateway(read_timeout=0.1))
        wanted = {"Accept": "text/event-stream"}
        async with world.session.get(f"{edge.url}/events", headers=wanted) as answer:
            async with world.session.get(f"{edge.url}/other") as impatient:
                with pytest.raises(aiohttp.ClientError):  # it has been silent for too long
                    await impatient.read()
            go_on.set()
            assert await answer.read() == b"data: 1\n\n"


async def test_who_joined_the_fetch_of_a_client_that_left_hears_that_the_origin_failed(tmp_path: Path) -> None:
    arrived: list[str] = []

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        arrived.append(request.path)
        return await handler(request)

    async with World(tmp_path) as world:
        app = forwarding_app()
        app.middlewares.append(note)
        edge = await world.edge(app)
        world.origin.read_gate.clear()
        leader = asyncio.ensure_future(edge.get("/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        waiter = asyncio.ensure_future(edge.get("/pages/1"))
        await eventually(lambda: len(arrived) == 2)
        leader.cancel()
        await asyncio.gather(leader, return_exceptions=True)
        await world.origin.stop()
        assert (await waiter).status == 502
