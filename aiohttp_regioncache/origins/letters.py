"""Requests without a body over the connections of aiohttp's client, without what it does anew for each of them.

What many requests say alike is written out once, by aiohttp's client itself, and sent again for each of their targets.
Connections, their pool, TLS, timeouts and the parser are aiohttp's. Everything here that it does not promise to keep
stands in this file. It was written for the sources whose digest is `FINGERPRINT`; beside others it is not used.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector, Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.http_writer import _serialize_headers
from aiohttp.streams import DataQueue, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..sources import digest_of

Relay = Callable[[int, str, tuple[tuple[bytes, bytes], ...]], Awaitable[None]]
"""What is called with status, reason and fields of an interim response."""

FINGERPRINT: Final = "4abb1021bdbc8fd9"
"""What `fingerprint` gives for the aiohttp that this was written for."""
METHODS: Final = frozenset({"GET", "HEAD"})
"""The methods of requests that are sent so."""
_PLAIN: Final = re.compile(r"/[!\"$-~]*")
_RELIED_ON: Final = (
    aiohttp.ClientRequest.__init__,
    aiohttp.ClientRequest.update_headers,
    aiohttp.ClientRequest.update_auto_headers,
    aiohttp.ClientRequest.update_body_from_data,
    aiohttp.ClientRequest.send,
    aiohttp.ClientResponse.start,
    aiohttp.ClientSession._request,
    BaseConnector.connect,
    Connection,
    DataQueue,
    ResponseHandler,
)


@functools.cache
def fingerprint() -> str:
    """A digest of the sources of aiohttp that this file relies on; empty when they are not there."""
    return digest_of(_RELIED_ON)


def is_sendable(path: str) -> bool:
    """Whether a target can stand in a request line as it is."""
    return _PLAIN.fullmatch(path) is not None


class Patience:
    """How long origins may be silent; one timer ends what waits for answers to begin, however many that are."""

    def __init__(self, timeout: aiohttp.ClientTimeout) -> None:
        self.timeout = timeout
        self._until: dict[ResponseHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, protocol: ResponseHandler) -> None:
        """Wait for an answer, which ends with a timeout when none comes in time."""
        seconds = self.timeout.sock_read
        if seconds:
            loop = asyncio.get_running_loop()
            self._until[protocol] = until = loop.time() + seconds
            if self._timer is None:
                self._timer = loop.call_at(until, self._look)

    def end(self, protocol: ResponseHandler) -> None:
        """Wait no more."""
        self._until.pop(protocol, None)

    def _look(self) -> None:
        """End what has waited for too long. Who began first is first to end."""
        loop, self._timer = asyncio.get_running_loop(), None
        while self._until:
            protocol, until = next(iter(self._until.items()))
            if until > loop.time():
                self._timer = loop.call_at(until, self._look)
                return
            del self._until[protocol]
            if protocol._read_timeout_handle is None:  # else something has come, and aiohttp waits for the rest
                protocol.set_exception(aiohttp.SocketTimeoutError("Timeout on reading data from socket"))


class Answer:
    """What an origin answers: as much of `aiohttp.ClientResponse` as is needed to pass it on."""

    __slots__ = ("_connection", "content", "headers", "reason", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: StreamReader) -> None:
        self._connection: Connection | None = connection
        self.status = message.code
        self.reason: str | None = message.reason
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content = content
        content.on_eof(self._end)

    def _end(self) -> None:
        """Give the connection back as soon as the body is there."""
        connection = self._connection
        if connection is not None and connection.protocol is not None and not connection.protocol.upgraded:
            self.release()

    def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def release(self) -> None:
        """Give the connection back; one with a body that has not been read is ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Letter:
    """What requests of one kind say, but for their target.

    `base` is the URL of the origin's address; `tls` as in `Way`.
    """

    __slots__ = ("_fields", "_has_body", "_prefix", "_request", "_session")

    def __init__(
        self, session: aiohttp.ClientSession, method: str, base: str, headers: CIMultiDict[str], tls: dict[str, Any]
    ) -> None:
        url = URL(base, encoded=True)
        self._session = session
        self._request = aiohttp.ClientRequest(
            method,
            url,
            headers=headers,
            skip_auto_headers=session.skip_auto_headers,
            loop=asyncio.get_running_loop(),
            session=session,
            **tls,
        )
        self._prefix = f"{method} {url.raw_path.rstrip('/')}"
        self._fields = _serialize_headers("", self._request.headers)
        self._has_body = method != "HEAD"

    @property
    def size(self) -> int:
        """The octets of its fields."""
        return len(self._fields)

    async def send(self, path: str, patience: Patience, relay: Relay | None) -> Answer:
        """Ask for a path, which `is_sendable`; `relay` hears of interim responses.

        Raises what `aiohttp.ClientSession.request` does. A connection that was kept may have been ended by the origin
        meanwhile: then it is sent once more (RFC 9112 section 9.3.1).
        """
        try:
            return await self._send(path, patience, relay)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            return await self._send(path, patience, relay)

    async def _send(self, path: str, patience: Patience, relay: Relay | None) -> Answer:
        connector = self._session.connector
        if connector is None:
            raise RuntimeError("Session is closed")
        try:
            connection = await connector.connect(self._request, traces=[], timeout=patience.timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {self._request.url}") from error
        try:
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 - it has just been connected
            protocol.set_response_params(
                skip_payload=not self._has_body,
                read_until_eof=True,
                auto_decompress=False,
                read_timeout=patience.timeout.sock_read,
            )
            self._write(protocol, path)
            message, content = await self._read(protocol, patience, relay)
            return Answer(connection, message, content)
        except BaseException:
            connection.close()
            raise

    def _write(self, protocol: ResponseHandler, path: str) -> None:
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        transport.write(b"%b%b HTTP/1.1%b" % (self._prefix.encode(), path.encode(), self._fields))

    async def _read(
        self, protocol: ResponseHandler, patience: Patience, relay: Relay | None
    ) -> tuple[RawResponseMessage, StreamReader]:
        """Read up to the head of the final response."""
        while True:
            patience.begin(protocol)
            try:
                message, content = await protocol.read()
            except HttpProcessingError as error:
                raise aiohttp.ClientResponseError(
                    self._request.request_info, (), status=error.code, message=error.message, headers=error.headers
                ) from error
            finally:
                patience.end(protocol)
            if not 100 <= message.code < 200 or message.code == 101:
                return message, content
            if relay is not None and message.code > 101:
                await relay(message.code, message.reason, message.raw_headers)
