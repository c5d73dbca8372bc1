"""The regions of a campaign: real servers behind proxies that misbehave."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiohttp_regioncache.store.embedded import unix_socket_in
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer

HOST: Final = "127.0.0.1"
FSYNC: Final = {"appendonly": "yes", "appendfsync": "always"}
LOGGED: Final = {"appendonly": "yes"}
REPLICATION_SECONDS: Final = (0.002, 0.05)
"""How far a replica is behind, each way."""


class Place(Protocol):
    """A region's server as the edges reach it, through `link`. `durability` is that of its rules."""

    link: TcpProxy
    durability: str

    @property
    def own_url(self) -> str:
        """The address for the region's own edges."""

    @property
    def direct_url(self) -> str:
        """The address past the proxy."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the way to the server, and the server unless edges do that."""

    async def crash(self, rng: random.Random) -> None:
        """End the server with SIGKILL; return when another one answers that has everything acknowledged."""


class Standalone:
    """A region of one server that syncs each write to its disk."""

    durability = "fsync"

    def __init__(self, directory: Path) -> None:
        self._server = ValkeyServer(directory, config=FSYNC)
        self.link = TcpProxy(HOST, self._server.port)

    @property
    def own_url(self) -> str:
        """The address for the region's own edges."""
        return url(self)

    @property
    def direct_url(self) -> str:
        """The address past the proxy."""
        return self._server.url

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the server and the way to it."""
        async with self._server, self.link:
            yield

    async def crash(self, rng: random.Random) -> None:
        """End the server with SIGKILL, and start it again on what it has on disk."""
        await self._server.kill()
        await asyncio.sleep(rng.uniform(0.2, 1.5))
        await self._server.start()


class Embedded:
    """A region whose edges run its server themselves, and reach it directly; the others come through the proxy."""

    durability = "fsync"

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        socket = unix_socket_in(self._directory)
        self.own_url = f"embedded://{quote(str(self._directory))}?appendfsync=always"
        self.direct_url = f"unix://{quote(str(socket))}"
        self.link = TcpProxy(str(socket))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the way to the server."""
        async with self.link:
            yield

    async def crash(self, _rng: random.Random) -> None:
        """End the server with SIGKILL: the edge that owns it starts it again."""
        pid = int((self._directory / "server.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        await eventually(self._answers)

    async def _answers(self) -> bool:
        try:
            return bool(await command(self, "PING"))
        except (OSError, RedisError):
            return False


class Replicated:
    """A region of a primary and a replica; the replica can be promoted. Their logs only satisfy the others' edges."""

    durability = "replicated=1"

    def __init__(self, directory: Path) -> None:
        self._primary = ValkeyServer(directory / "one", config=LOGGED)
        self._replica = ValkeyServer(directory / "two", config=LOGGED)
        self.link = TcpProxy(HOST, self._primary.port)
        self._replication = TcpProxy(HOST, self._primary.port, delay=REPLICATION_SECONDS[0])

    @property
    def own_url(self) -> str:
        """The address for the region's own edges."""
        return url(self)

    @property
    def direct_url(self) -> str:
        """The address of the primary."""
        return self._primary.url

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run both servers and the ways to them."""
        async with self._primary, self._replica, self.link, self._replication:
            await self._follow()
            yield

    async def crash(self, rng: random.Random) -> None:
        """End the primary with SIGKILL and promote the replica; the killed one comes back as its replica.

        Before that nothing reaches the replica any more: what nobody waited for is forgotten.
        """
        self._replication.blackhole()
        await asyncio.sleep(rng.uniform(0.0, 0.8))
        await self._primary.kill()
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        self._replication.delay = rng.uniform(*REPLICATION_SECONDS)
        self._primary, self._replica = self._replica, self._primary
        await command(self, "REPLICAOF", "NO", "ONE")
        for way in (self.link, self._replication):
            way.lead_to(HOST, self._primary.port)
            await way.drop_connections()
        await self._replication.accept()
        await self._replica.start()
        await self._follow()

    async def _follow(self) -> None:
        async with self._replica.client() as client:
            await _execute(client, "REPLICAOF", HOST, str(self._replication.port))

            async def is_linked() -> bool:
                info = await _execute(client, "INFO", "replication")
                return bool(info["master_link_status"] == "up")

            await eventually(is_linked)


def url(place: Place) -> str:
    """The address of a region's server for the edges of other regions."""
    return f"redis://{HOST}:{place.link.port}"


async def command(place: Place, *arguments: str) -> Any:
    """Send one command to a region's server, past the proxy."""
    async with Redis.from_url(place.direct_url) as client:
        return await _execute(client, *arguments)


async def heal(place: Place) -> None:
    """End whatever the way to a region's server does wrong."""
    place.link.delay = 0.0
    await place.link.drop_subscribers()
    await place.link.accept()


async def _execute(client: Redis, *arguments: str) -> Any:
    execute: Any = client.execute_command  # untyped in redis-py
    return await execute(*arguments)
