"""WebSockets: passed on in both directions once the origin has accepted."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict

from ..origins.origins import Way
from ..semantics.fields import Headers

_OF_THE_HANDSHAKE: Final = "sec-websocket-"
_CLOSING: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
_UNSENDABLE: Final = frozenset({1005, 1006, 1015})
"""Close codes that no endpoint may send (RFC 6455 section 7.4.1)."""
_GOING_AWAY: Final = 1001
_CLOSE_SECONDS: Final = 5.0


def is_websocket(request: web.Request) -> bool:
    """Whether a request opens a WebSocket (RFC 6455 section 4.1)."""
    upgrade = request.headers.get("Upgrade", "").lower()
    return (
        request.method == "GET"
        and upgrade == "websocket"
        and "upgrade" in request.headers.get("Connection", "").lower()
    )


async def tunnel(
    request: web.Request, way: Way, headers: Headers, *, max_message: int, timeout: float
) -> web.StreamResponse:
    """Open a WebSocket to the origin, then to the client, and pass messages on until either closes.

    `max_message` is bytes, `timeout` the seconds that the origin has to accept. Raises `aiohttp.ClientError`, of which
    `WSServerHandshakeError` is an answer of the origin other than acceptance, and `TimeoutError`.
    """
    kept = CIMultiDict((name, value) for name, value in headers if not name.lower().startswith(_OF_THE_HANDSHAKE))
    protocols = _protocols(request)
    async with asyncio.timeout(timeout):
        origin = await way.session().ws_connect(
            way.url(request.rel_url.raw_path_qs),
            headers=kept,
            protocols=protocols,
            autoclose=False,
            autoping=False,
            max_msg_size=max_message,
            **way.tls,
        )
    client = web.WebSocketResponse(
        protocols=[origin.protocol] if origin.protocol else (),
        autoclose=False,
        autoping=False,
        max_msg_size=max_message,
        timeout=_CLOSE_SECONDS,
    )
    try:
        await client.prepare(request)
        await _pump_both(client, origin)
    finally:
        await origin.close(code=_GOING_AWAY)
    return client


def _protocols(request: web.Request) -> list[str]:
    lines = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for line in lines for name in line.split(",") if name.strip()]


async def _pump_both(client: web.WebSocketResponse, origin: aiohttp.ClientWebSocketResponse) -> None:
    pumps = [asyncio.ensure_future(_pump(client, origin)), asyncio.ensure_future(_pump(origin, client))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        # The other end answers the close, or is given up.
        await asyncio.wait(pumps, timeout=_CLOSE_SECONDS)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


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
    code = message.data if message.type is WSMsgType.CLOSE and isinstance(message.data, int) else source.close_code
    reason = message.extra if message.type is WSMsgType.CLOSE and isinstance(message.extra, str) else ""
    if not isinstance(code, int) or code in _UNSENDABLE or code < 1000:
        code = _GOING_AWAY if code in (None, 1006) else 1000
    await sink.close(code=code, message=reason.encode())
    if message.type is WSMsgType.CLOSE:
        await source.close(code=code)
