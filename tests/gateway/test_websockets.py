"""WebSockets through the gateway: both directions, how they end, and who may open them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web

from aiohttp_regioncache import Gateway, OriginAddress, Sites
from tests.gateway.raw import exchange, status_of
from tests.reads.apps import running
from tests.sites.world import tenants
from tests.support import eventually
from tests.support.servers import free_port
from tests.support.world import Edge, World

HANDSHAKE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


class Sockets:
    """An origin of WebSockets: it echoes, and does what it is told."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.ended: list[int | None] = []
        self.refusal: web.Response | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.refusal is not None or "Upgrade" not in request.headers:
            return self.refusal or web.Response(text="plain")
        socket = web.WebSocketResponse(protocols=["chat"], autoping=False)
        socket.headers["X-Of-Origin"] = "1"
        await socket.prepare(request)
        async for message in socket:
            if message.data == "leave":
                await socket.close(code=4001, message=b"enough")
            elif message.data == "break":
                assert request.transport is not None
                request.transport.abort()
            elif message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.ended.append(socket.close_code)
        return socket

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


@pytest_asyncio.fixture
async def sockets(tmp_path: Path) -> AsyncIterator[tuple[Sockets, Edge, aiohttp.ClientSession]]:
    origin = Sockets()
    async with World(tmp_path) as world, running(origin.app()) as url:
        edge = await world.edge(origin=url, rules=[], gateway=Gateway(max_websocket_message=1000))
        yield origin, edge, world.session


Place = tuple[Sockets, Edge, aiohttp.ClientSession]


async def test_messages_pass_both_ways_and_nobody_shares_a_socket(sockets: Place) -> None:
    origin, edge, session = sockets
    async with (
        session.ws_connect(f"{edge.url}/ws?a=1", protocols=["other", "chat"]) as one,
        session.ws_connect(f"{edge.url}/ws?a=1") as two,
    ):
        assert (one.protocol, two.protocol) == ("chat", None)
        await one.send_str("é")
        await two.send_bytes(b"\x00\xff")
        assert await one.receive_str() == "é"
        assert await two.receive_bytes() == b"\x00\xff"
    assert [request.path_qs for request in origin.requests] == ["/ws?a=1"] * 2
    assert origin.requests[0].headers["X-Forwarded-For"] == "127.0.0.1"


async def test_the_origin_closes_with_its_code(sockets: Place) -> None:
    _, edge, session = sockets
    async with session.ws_connect(f"{edge.url}/ws") as socket:
        await socket.send_str("leave")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "enough")


async def test_the_client_closes_with_its_code(sockets: Place) -> None:
    origin, edge, session = sockets
    async with session.ws_connect(f"{edge.url}/ws") as socket:
        await socket.close(code=4002)
    await eventually(lambda: origin.ended == [4002])


async def test_an_origin_that_vanishes_ends_the_clients_side(sockets: Place) -> None:
    _, edge, session = sockets
    async with session.ws_connect(f"{edge.url}/ws") as socket:
        await socket.send_str("break")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)


async def test_a_client_that_vanishes_ends_the_origins_side(sockets: Place) -> None:
    origin, edge, session = sockets
    socket = await session.ws_connect(f"{edge.url}/ws")
    transport = socket.get_extra_info("socket")
    assert transport is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]
    await eventually(lambda: origin.ended == [1001])


async def test_a_server_that_stops_says_so(sockets: Place) -> None:
    origin, edge, session = sockets
    async with session.ws_connect(f"{edge.url}/ws") as socket:
        stopping = asyncio.ensure_future(edge.stop())
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await stopping
    await eventually(lambda: origin.ended == [1001])


async def test_a_message_that_is_too_long_ends_it_on_both_sides(sockets: Place) -> None:
    origin, edge, session = sockets
    async with session.ws_connect(f"{edge.url}/ws") as socket:
        await socket.send_bytes(b"x" * 1001)
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)
    await eventually(lambda: origin.ended == [1009])


async def test_a_refusal_is_the_origins_own(sockets: Place) -> None:
    origin, edge, session = sockets
    origin.refusal = web.Response(
        status=401, headers={"WWW-Authenticate": "Basic", "Connection": "X-Hop", "X-Hop": "1"}
    )
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(f"{edge.url}/ws")
    assert refused.value.status == 401
    assert refused.value.headers is not None
    assert refused.value.headers["WWW-Authenticate"] == "Basic"
    assert "X-Hop" not in refused.value.headers


async def test_an_origin_that_does_not_know_websockets_is_a_502(sockets: Place) -> None:
    origin, edge, session = sockets
    origin.refusal = web.Response(text="a page")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(f"{edge.url}/ws")
    assert refused.value.status == 502


async def test_a_handshake_that_is_none_does_not_reach_the_origin(sockets: Place) -> None:
    origin, edge, _ = sockets
    head = b"GET /ws HTTP/1.1\r\nHost: x\r\n"
    for handshake in (
        head + HANDSHAKE + b"\r\n",  # no version
        head + HANDSHAKE + b"Sec-WebSocket-Version: 99\r\n\r\n",
        head + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ):
        assert status_of(await exchange(edge.url, handshake)) == 400
    assert not origin.requests


async def test_a_body_with_a_handshake_makes_a_plain_request(sockets: Place) -> None:
    """Its length would stand before the first frames, which an origin would take for the body."""
    origin, edge, _ = sockets
    head = b"GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\nContent-Length: 5\r\n"
    answer = await exchange(edge.url, head + HANDSHAKE + b"\r\nhello")
    assert answer.endswith(b"plain")
    assert "Upgrade" not in origin.requests[0].headers


@pytest.mark.parametrize(
    "field", [b"Sec-WebSocket-Protocol: \xff\xfe", b"X-Odd: \xff\xfe", b"Sec-WebSocket-Protocol: ,"]
)
async def test_odd_octets_in_a_handshake_make_no_error(sockets: Place, field: bytes) -> None:
    _, edge, _ = sockets
    head = b"GET /\xff/ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n"
    masked_close = b"\x88\x80\x00\x00\x00\x00"
    octets = head + HANDSHAKE + field + b"\r\n\r\n" + masked_close
    assert status_of(await exchange(edge.url, octets)) in (101, 400)


async def test_a_socket_goes_to_an_address_that_answers(tmp_path: Path) -> None:
    origin = Sockets()
    async with tenants(tmp_path) as place, running(origin.app()) as url:
        down = [OriginAddress(f"http://127.0.0.1:{free_port()}", weight=1000) for _ in range(2)]
        await place.put("shop.example", origin=[*down, OriginAddress(url)])
        for _ in range(3):
            async with place.world.session.ws_connect(
                f"{place.edge.url}/ws", headers={"Host": "shop.example"}
            ) as socket:
                await socket.send_str("x")
                assert await socket.receive_str() == "x"
        assert {request.headers["Host"] for request in origin.requests} == {"shop.example"}


async def test_a_socket_does_not_lead_inwards(tmp_path: Path) -> None:
    origin = Sockets()
    async with tenants(tmp_path, sites=Sites(enabled=True)) as place, running(origin.app()) as url:
        await place.put("shop.example", origin=url)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await place.world.session.ws_connect(f"{place.edge.url}/ws", headers={"Host": "shop.example"})
        assert refused.value.status == 502
    assert not origin.requests


async def test_a_client_that_leaves_before_the_origin_has_accepted_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrived, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        ended.set()
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", slow)
    async with World(tmp_path) as world, running(app) as url:
        edge = await world.edge(origin=url, rules=[])
        opening = asyncio.ensure_future(world.session.ws_connect(f"{edge.url}/ws"))
        await arrived.wait()
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        go_on.set()
        await asyncio.wait_for(ended.wait(), 10)
    assert "Error handling request" not in caplog.text
