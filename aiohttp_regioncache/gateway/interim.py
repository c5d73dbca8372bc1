"""Interim responses of the origin, 103 (Early Hints, RFC 8297) above all, passed on to the client as they come.

aiohttp's client drops them and its server has no word for them. What this touches of aiohttp stands here: the client
response reads messages from its connection's protocol until one is final, and the server's writer takes octets.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import Any, Final

import aiohttp
from aiohttp import HttpVersion11, web
from aiohttp.connector import Connection

from ..origins.letters import Relay
from ..responses import is_unattended
from ..semantics.fields import HOP_BY_HOP

_relay: Final[ContextVar[Relay | None]] = ContextVar("regioncache_interim", default=None)
_OF_THE_CONNECTION: Final = frozenset(name.encode() for name in (*HOP_BY_HOP, "content-length"))


class InterimAwareResponse(aiohttp.ClientResponse):
    """A client response that tells of the interim ones before it: for `ClientSession(response_class=...)`."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read up to the head of the final response."""
        relay, protocol = _relay.get(), connection.protocol
        if relay is None or protocol is None:
            return await super().start(connection)
        read = protocol.read

        async def read_and_tell() -> Any:
            message, payload = await read()
            if 102 <= message.code < 200:
                await relay(message.code, message.reason, message.raw_headers)
            return message, payload

        protocol.read = read_and_tell  # type: ignore[method-assign]
        try:
            return await super().start(connection)
        finally:
            del protocol.read


def relay_of(request: web.Request) -> Relay | None:
    """What passes on what comes before the answer to a request; None where nobody waits for it (RFC 9110 15.2)."""
    return _writer(request) if request.version >= HttpVersion11 and not is_unattended() else None


def relay_to(relay: Relay | None) -> None:
    """Tell of what comes before the answers to the requests that the client's session sends in this task."""
    _relay.set(relay)


def interim_octets(status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """An interim response as it goes on."""
    kept = (field for field in fields if field[0].lower() not in _OF_THE_CONNECTION)
    lines = [f"HTTP/1.1 {status} {reason}".encode("latin-1", "replace"), *(b"%b: %b" % field for field in kept)]
    return b"\r\n".join([*lines, b"", b""])


def _writer(request: web.Request) -> Relay:
    async def write(status: int, reason: str, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        with contextlib.suppress(ConnectionError):  # the client has gone; others may wait for the answer
            await request.writer.write(interim_octets(status, reason, fields))
        request.writer.output_size = 0  # none of the answer has gone out yet

    return write
