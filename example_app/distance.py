"""Distance: real round-trip times, and a TCP proxy that adds them."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Self

ORIGIN_REGION = "ap-northeast-1"

# Milliseconds between Tokyo and the region's city, there and back, rounded: published averages between cloud
# data centres (IBM Cloud's inter-region tables of 2024; for Cape Town and Singapore, public measurements
# between regions of Amazon). Tokyo itself: two zones of one city.
ROUND_TRIP_TO_ORIGIN_MS: Mapping[str, float] = MappingProxyType(
    {
        "ap-northeast-1": 1.0,
        "ap-southeast-1": 74.0,
        "ap-southeast-2": 115.0,
        "us-east-1": 167.0,
        "eu-central-1": 231.0,
        "sa-east-1": 284.0,
        "af-south-1": 286.0,
    }
)

ACCESS_MS = 4.0
FIBRE_KM_PER_MS = 200.0
DETOUR = 1.5

CHUNK_BYTES = 65536
CHUNKS_IN_FLIGHT = 1024


def last_mile_ms(kilometres: float) -> float:
    """Return a user's round trip in ms to an edge at that distance: access network, then fibre."""
    return ACCESS_MS + 2 * kilometres * DETOUR / FIBRE_KM_PER_MS


class DelayingProxy:
    """A TCP proxy on loopback that puts a distance before a server.

    Bytes arrive half a round trip after they were sent, in order and without a limit of throughput; opening a
    connection costs a round trip of its own, as the TCP handshake does (RFC 9293 section 3.5).
    """

    def __init__(self, target_host: str, target_port: int, round_trip_ms: float) -> None:
        self._target = (target_host, target_port)
        self._round_trip = round_trip_ms / 1000
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Return the port it listens on. Raises RuntimeError before start."""
        if self._server is None:
            raise RuntimeError("the proxy is not started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Return the base URL of an HTTP server behind the distance."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = asyncio.get_running_loop().time() + self._round_trip
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            await _close(writer)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, opened))
                group.create_task(self._carry(far_reader, writer, opened))
        except* OSError:
            pass  # One side was cut; the group has ended the other.
        finally:
            await _close(writer)
            await _close(far_writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: float) -> None:
        flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._depart(reader, flight, opened))
            group.create_task(_arrive(flight, writer))

    async def _depart(
        self, reader: asyncio.StreamReader, flight: asyncio.Queue[tuple[float, bytes]], opened: float
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            chunk = await reader.read(CHUNK_BYTES)
            await flight.put((max(loop.time(), opened) + self._round_trip / 2, chunk))
            if not chunk:
                return


async def _arrive(flight: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        at, chunk = await flight.get()
        await asyncio.sleep(at - loop.time())
        if not chunk:
            writer.write_eof()
            return
        writer.write(chunk)
        await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
