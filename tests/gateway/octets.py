"""Octets on a connection: a client that sends what it likes, and an origin that sees what reaches it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from tests.conformance.wire import Head, Received, read_body, read_head, write_head
from tests.support.world import Edge

WITHIN = 10.0  # seconds


class RawOrigin:
    """An origin that reads HTTP/1.1 by the book and answers each request with `answer`.

    By default that names the request, so that an answer to another one shows. `seen` are the requests in their order
    with their bodies, `broken` what came that is no request.
    """

    def __init__(self, answer: Callable[[Head], bytes] | None = None) -> None:
        self.seen: list[tuple[Head, bytes]] = []
        self.broken: list[str] = []
        self.answer = answer or named
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Address of the origin."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [head.start.split(" ")[1] for head, _ in self.seen]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await read_head(reader)
                body = await read_body(reader, head, to_end=False)
                self.seen.append((head, body))
                writer.write(self.answer(head))
                await writer.drain()
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.broken.append(repr(error.partial))
        except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
            self.broken.append(repr(error))
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """An origin that accepts connections and says nothing; gives its address."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def response(body: str, *lines: str, status: int = 200) -> bytes:
    """The octets of an answer with its length; one may be stored unless `lines` say otherwise."""
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    if not any(name.lower() == "cache-control" for name, _ in pairs):
        pairs.append(("Cache-Control", "max-age=60"))
    return write_head(f"HTTP/1.1 {status} Given", [*pairs, ("Content-Length", str(len(body)))]) + body.encode("latin-1")


def named(head: Head) -> bytes:
    """An answer that names the request."""
    method, target, _ = head.start.split(" ")
    return response("" if method == "HEAD" else f"{method} {target}")


class Connection:
    """A client's connection to an edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._writer.write(octets)

    async def answer(self, method: str = "GET") -> Received | None:
        """The next answer; None when the edge closes the connection instead."""
        try:
            async with asyncio.timeout(WITHIN):
                interim: list[Head] = []
                while 100 <= (head := await read_head(self._reader)).status < 200:
                    interim.append(head)
                is_bodiless = method == "HEAD" or head.status in (204, 304)
                body = b"" if is_bodiless else await read_body(self._reader, head, to_end=True)
                return Received(interim, head, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def rest(self) -> list[Received]:
        """Every answer that is left, until the edge closes the connection."""
        found: list[Received] = []
        while (received := await self.answer()) is not None:
            found.append(received)
        return found

    def end(self) -> None:
        """Say that nothing more will come."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()


@contextlib.asynccontextmanager
async def connection(edge: Edge) -> AsyncIterator[Connection]:
    """Connect to an edge."""
    host, _, port = edge.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(
    target: str, *lines: str | bytes, method: str = "GET", body: bytes = b"", host: str = "edge.example"
) -> bytes:
    """The octets of a request; `lines` as they are to stand there."""
    head = [f"{method} {target} HTTP/1.1".encode("latin-1")]
    if host:
        head.append(f"Host: {host}".encode("latin-1"))
    head += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([*head, b"", b""]) + body
