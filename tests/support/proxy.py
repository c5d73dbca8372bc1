"""A TCP proxy that makes connections slow, or breaks them in the ways a network does."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Self

from .servers import free_port

__all__ = ["TcpProxy"]

_HOST = "127.0.0.1"
_CHUNK = 65536  # bytes
_CHUNKS_ON_THE_WAY = 1024
_NO_LINGER = struct.pack("ii", 1, 0)

Arrivals = asyncio.Queue[tuple[float, bytes]]


class TcpProxy:
    """Forward connections on `port` to a TCP address, or to the unix socket `target` without `target_port`.

    `delay` is the time in seconds that each direction takes, to be changed at any time. Order and throughput
    stay as they are.
    """

    def __init__(self, target: str, target_port: int | None = None, *, delay: float = 0.0) -> None:
        self.delay = delay
        self.port = free_port()  # nobody else gets it while this refuses connections
        self._target = target
        self._target_port = target_port
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._forwarding = asyncio.Event()
        self._replies_to_lose = 0
        self._subscribers: set[asyncio.Task[None]] = set()
        self._is_deaf = False

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        await self.drop_connections()

    async def accept(self) -> None:
        """Listen, on the same port as before, and forward: ends `refuse` and `blackhole`."""
        self._forwarding.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accepted, _HOST, self.port)

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def blackhole(self) -> None:
        """Accept connections and bytes, and hold them back in both directions until `accept`."""
        self._forwarding.clear()

    def lose_replies(self, count: int) -> None:
        """Drop each of the next `count` chunks that the target sends, and reset the connection it was for."""
        self._replies_to_lose = count

    def lead_to(self, target: str, target_port: int | None = None) -> None:
        """Forward new connections to another address; those that exist go on."""
        self._target, self._target_port = target, target_port

    def deafen_subscribers(self) -> None:
        """Swallow what the target sends to connections that have subscribed, until `drop_subscribers`."""
        self._is_deaf = True

    async def drop_subscribers(self) -> None:
        """Reset the connections that have subscribed to a channel; ends `deafen_subscribers`."""
        self._is_deaf = False
        await self._drop(self._subscribers)

    async def drop_connections(self) -> None:
        """Reset every connection (RST)."""
        await self._drop(self._connections)

    @staticmethod
    async def _drop(chosen: set[asyncio.Task[None]]) -> None:
        connections = list(chosen)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        connection = asyncio.create_task(self._forward(reader, writers))
        self._connections.add(connection)
        connection.add_done_callback(lambda _: self._ended(connection, writers))

    def _ended(self, connection: asyncio.Task[None], writers: list[asyncio.StreamWriter]) -> None:
        self._connections.discard(connection)
        self._subscribers.discard(connection)
        broken = connection.cancelled() or connection.exception() is not None
        for writer in writers:
            _reset(writer) if broken else writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        await self._forwarding.wait()
        target_reader, target_writer = await self._connect()
        writers.append(target_writer)
        requests, replies = Arrivals(_CHUNKS_ON_THE_WAY), Arrivals(_CHUNKS_ON_THE_WAY)
        connection = asyncio.current_task()
        assert connection is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(reader, requests))
            group.create_task(self._deliver(requests, target_writer, connection, replies=False))
            group.create_task(self._receive(target_reader, replies))
            group.create_task(self._deliver(replies, writers[0], connection, replies=True))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target_port is None:
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(self._target, self._target_port)

    async def _receive(self, source: asyncio.StreamReader, arrivals: Arrivals) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            chunk = await source.read(_CHUNK)
            await arrivals.put((clock() + self.delay, chunk))
            if not chunk:
                return

    async def _deliver(
        self, arrivals: Arrivals, sink: asyncio.StreamWriter, connection: asyncio.Task[None], *, replies: bool
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, chunk = await arrivals.get()
            await asyncio.sleep(due - clock())
            await self._forwarding.wait()
            if not chunk:
                sink.write_eof()
                return
            if replies and self._replies_to_lose:
                self._replies_to_lose -= 1
                raise ConnectionResetError("a reply was lost")
            if not replies and b"SUBSCRIBE" in chunk:
                self._subscribers.add(connection)
            if replies and self._is_deaf and connection in self._subscribers:
                continue
            sink.write(chunk)
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
