"""WebSockets: passed on in both directions once the origin has accepted."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict

from ..keys import ascii_only
from ..origins.origins import Way
from ..problems import problem
from ..responses import typed_as_given
from ..semantics.fields import Headers, end_to_end, remove

_OF_THE_HANDSHAKE: Final = "sec-websocket-"
_OF_A_BODY: Final = frozenset({"content-length", "content-encoding", "content-type", "content-range"})
_CLOSING: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
_UNSENDABLE: Final = frozenset({1005, 1006, 1015})
"""Close codes that no endpoint may send (RFC 6455 section 7.4.1)."""
_GOING_AWAY: Final = 1001
_ACCEPTED: Final = 101
_CLOSE_SECONDS: Final = 5.0


def is_websocket(request: web.Request) -> bool:
    """Whether a request opens a WebSocket (RFC 6455 section 4.1): none with a body, which would stand before frames."""
    is_possible = (
        "Upgrade" in request.headers
        and request.method == "GET"
        and request.version >= aiohttp.HttpVersion11
        and not request.body_exists
    )
    return is_possible and _names(request, "Upgrade", "websocket") and _names(request, "Connection", "upgrade")


def _names(request: web.Request, field: str, option: str) -> bool:
    return any(option in map(str.strip, line.lower().split(",")) for line in request.headers.getall(field, []))


async def tunnel(
    request: web.Request, way: Way, headers: Headers, stopping: asyncio.Event, *, max_message: int, timeout: float
) -> web.StreamResponse:
    """Open a WebSocket to the origin, then to the client, and pass messages on until either closes, or at `stopping`.

    `max_message` is bytes, `timeout` the seconds that the origin has to accept. Raises `aiohttp.ClientError`, of which
    `WSServerHandshakeError` is an answer of the origin other than acceptance, and `TimeoutError`.
    """
    protocols = _protocols(request)
    if not web.WebSocketResponse(protocols=protocols).can_prepare(request):
        return problem(400, "Bad Request", "This opens no WebSocket.", headers={"Sec-WebSocket-Version": "13"})
    origin = await _accepted(request, way, headers, protocols, max_message=max_message, timeout=timeout)
    way.note(_ACCEPTED)
    client = web.WebSocketResponse(
        protocols=[origin.protocol] if origin.protocol else (),
        autoclose=False,
        autoping=False,
        max_msg_size=max_message,
        timeout=_CLOSE_SECONDS,
    )
    client.headers.extend(_of_no_handshake(end_to_end(list(origin._response.headers.items()))))
    try:
        await client.prepare(request)
        await _pump_both(client, origin, stopping)
        await client.close(code=_GOING_AWAY)
    finally:
        await origin.close(code=_GOING_AWAY)
    return client


async def _accepted(
    request: web.Request, way: Way, headers: Headers, protocols: list[str], *, max_message: int, timeout: float
) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket to the origin."""
    async with asyncio.timeout(timeout):
        socket: aiohttp.ClientWebSocketResponse = await way.session().ws_connect(
            way.url(ascii_only(request.rel_url.raw_path_qs)),
            headers=CIMultiDict(_of_no_handshake(headers)),
            protocols=protocols,
            autoclose=False,
            autoping=False,
            max_msg_size=max_message,
            **way.tls,
        )
    return socket


def refusal(error: aiohttp.WSServerHandshakeError) -> web.Response | None:
    """The origin's answer to a handshake, without the body, which aiohttp has not read; None when it is no refusal."""
    if not 300 <= error.status < 600:
        return None
    headers = CIMultiDict(remove(end_to_end(list((error.headers or CIMultiDict()).items())), _OF_A_BODY))
    return typed_as_given(error.status, None, headers, b"")


def _of_no_handshake(headers: Headers) -> Headers:
    kept = remove(headers, _OF_A_BODY)
    return [(name, value) for name, value in kept if not name.lower().startswith(_OF_THE_HANDSHAKE)]


def _protocols(request: web.Request) -> list[str]:
    lines = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for line in lines for name in line.split(",") if name.strip()]


async def _pump_both(
    client: web.WebSocketResponse, origin: aiohttp.ClientWebSocketResponse, stopping: asyncio.Event
) -> None:
    pumps = [asyncio.ensure_future(_pump(client, origin)), asyncio.ensure_future(_pump(origin, client))]
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((*pumps, stop), return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            # The other end answers the close, or is given up.
            await asyncio.wait(pumps, timeout=_CLOSE_SECONDS)
    finally:
        for task in (*pumps, stop):
            task.cancel()
        await asyncio.gather(*pumps, stop, return_exceptions=True)


async def _pump(source: Any, sink: Any) -> None:
    """Pass on what comes from one end, and at last how it closed."""
    while True:
        message = await source.receive()
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await sink.ping(message.data)
        elif message.type is WSMsgType.PONG:
            await sink.pong(message.data)
        elif message.type in _CLOSING:
            await _close(source, sink, message)
            return


async def _close(source: Any, sink: Any, message: aiohttp.WSMessage) -> None:
    code, reason = _ending(source, message)
    await sink.close(code=code, message=reason.encode())
    if message.type is WSMsgType.CLOSE:
        await source.close(code=code)


def _ending(source: Any, message: aiohttp.WSMessage) -> tuple[int, str]:
    """The code and the reason with which one end has closed, as the other may hear them."""
    code, reason = source.close_code, ""
    if message.type is WSMsgType.CLOSE:
        code, reason = message.data, message.extra or ""
    elif isinstance(message.data, aiohttp.WebSocketError):  # what it sent could not be read
        code = message.data.code
    if not isinstance(code, int) or code in _UNSENDABLE or code < 1000:
        code = _GOING_AWAY if code in (None, 1006) else 1000
    return int(code), str(reason)
