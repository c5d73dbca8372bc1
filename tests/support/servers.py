"""Real Valkey servers on loopback: alone, as a Cluster, as primary and replica.

Each ends with its context manager, and with the test process when that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from redis.asyncio import Redis

from aiohttp_regioncache.store.embedded import ServerProcess, find_server_binary, unix_socket_in

__all__ = ["ReplicaPair", "ValkeyCluster", "ValkeyServer", "flush_all", "free_port", "shared_servers"]

_HOST = "127.0.0.1"
_SLOTS = 16384
_READY_WITHIN = 10.0  # seconds
_POLL = 0.02  # seconds


# Below the ports that the system gives to outgoing connections: none of them takes a port between two uses of it.
_PORTS = range(20_000, 32_000)
_PORTS_OF_A_PROCESS = 500


def free_port() -> int:
    """Return a TCP port that nobody listens on now, and that no other process gets from here: another one each time."""
    return next(port for port in _own_ports() if _is_free(port))


@functools.cache
def _own_ports() -> Iterator[int]:
    """Take a block of ports: it belongs to the process that has bound the first of them, until that process ends."""
    firsts = list(_PORTS[::_PORTS_OF_A_PROCESS])
    random.shuffle(firsts)
    for first in firsts:
        with socket.socket() as holder, contextlib.suppress(OSError):
            holder.bind((_HOST, first))
            holder.detach()
            return itertools.cycle(range(first + 1, first + _PORTS_OF_A_PROCESS))
    raise RuntimeError("other processes have all the ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((_HOST, port))
        return True
    return False


class ValkeyServer:
    """Run one server in `directory`, on TCP `port` (a free one when None) or on a unix socket alone.

    `config` holds directives of valkey.conf; without them nothing is persisted.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        unix: bool = False,
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port = 0 if unix else port or free_port()
        self._socket = unix_socket_in(directory) if unix else None
        self._config = {"save": "", "repl-diskless-sync-delay": "0", **(config or {})}
        self._process: ServerProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.kill()

    @property
    def url(self) -> str:
        """Return the address for a client, `redis://` or `unix://`."""
        return f"unix://{quote(str(self._socket))}" if self._socket else f"redis://{_HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Return the process id of the running server."""
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Whether the server has been started, and not ended by us."""
        return self._process is not None

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._socket:
            self._socket.parent.mkdir(mode=0o700, exist_ok=True)
        self._process = await ServerProcess.start(self._arguments(), log=self.directory / "server.log")
        async with asyncio.timeout(_READY_WITHIN):
            await self._process.ready(self._connect)

    async def stop(self) -> None:
        """End the server gracefully."""
        await self._running.stop()
        self._process = None

    async def kill(self) -> None:
        """End the server with SIGKILL."""
        await self._running.kill()
        self._process = None

    async def restart(self) -> None:
        """End the server gracefully and start it again on the same address and data."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Stop the server's clock (SIGSTOP): connections stay, nothing answers."""
        self._running.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End `pause`."""
        self._running.signal(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Open a plain client that decodes nothing."""
        async with Redis.from_url(self.url) as client:
            yield client

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket:
            return await asyncio.open_unix_connection(self._socket)
        return await asyncio.open_connection(_HOST, self.port)

    def _arguments(self) -> list[str]:
        directives = {"bind": _HOST, "port": str(self.port), "dir": str(self.directory), **self._config}
        if self._socket:
            directives["unixsocket"] = str(self._socket)
        options = [part for name, value in directives.items() for part in (f"--{name}", value)]
        return [str(find_server_binary()), *options]


class ValkeyCluster:
    """Run a Cluster of `masters` servers without replicas."""

    def __init__(self, directory: Path, masters: int = 3, *, config: Mapping[str, str] | None = None) -> None:
        self._bus_ports = [free_port() for _ in range(masters)]
        self.servers = [
            ValkeyServer(directory / str(number), config=_cluster_config(bus_port) | dict(config or {}))
            for number, bus_port in enumerate(self._bus_ports)
        ]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for server in self.servers:
                await stack.enter_async_context(server)
            await self._form()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Return the address of one node, `redis+cluster://`."""
        return f"redis+cluster://{_HOST}:{self.servers[0].port}"

    async def _form(self) -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.client()) for server in self.servers]
            for number, client in enumerate(clients):
                await self._introduce(client, number)
            async with asyncio.timeout(_READY_WITHIN):
                for client in clients:
                    await _until(client, self._is_whole, "CLUSTER INFO")

    async def _introduce(self, client: Redis, number: int) -> None:
        first, last = (_SLOTS * n // len(self.servers) for n in (number, number + 1))
        await _command(client, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        await _command(client, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for server, bus_port in zip(self.servers[:number], self._bus_ports, strict=False):
            await _command(client, "CLUSTER", "MEET", _HOST, server.port, bus_port)

    def _is_whole(self, info: Mapping[str, Any]) -> bool:
        seen = info["cluster_state"], int(info["cluster_slots_ok"]), int(info["cluster_known_nodes"])
        return seen == ("ok", _SLOTS, len(self.servers))


class ReplicaPair:
    """Run a primary and its replica."""

    def __init__(self, directory: Path, *, config: Mapping[str, str] | None = None) -> None:
        self.primary = ValkeyServer(directory / "primary", config=config)
        replication = {"replicaof": f"{_HOST} {self.primary.port}"}
        self.replica = ValkeyServer(directory / "replica", config=replication | dict(config or {}))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.primary)
            await stack.enter_async_context(self.replica)
            await self.linked()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Return the address of the primary."""
        return self.primary.url

    async def linked(self) -> None:
        """Wait until the replica follows its primary."""
        async with asyncio.timeout(_READY_WITHIN), self.replica.client() as client:
            await _until(client, lambda info: info["master_link_status"] == "up", "INFO", "replication")


@asynccontextmanager
async def shared_servers(directory: Path, count: int) -> AsyncIterator[list[ValkeyServer]]:
    """Run `count` servers that many tests share; `flush_all` between two tests makes them empty."""
    async with AsyncExitStack() as stack:
        servers = [ValkeyServer(directory / str(number)) for number in range(count)]
        yield [await stack.enter_async_context(server) for server in servers]


async def flush_all(servers: Sequence[ValkeyServer]) -> None:
    """Remove every key and script of the servers."""
    for server in servers:
        async with server.client() as client:
            await _command(client, "FLUSHALL", "SYNC")
            await _command(client, "SCRIPT", "FLUSH", "SYNC")


def _cluster_config(bus_port: int) -> dict[str, str]:
    return {"cluster-enabled": "yes", "cluster-port": str(bus_port), "cluster-node-timeout": "2000"}


async def _until(client: Redis, accepted: Callable[[Mapping[str, Any]], bool], *command: str) -> None:
    while not accepted(await _command(client, *command)):  # noqa: ASYNC110 - the servers make it true
        await asyncio.sleep(_POLL)


async def _command(client: Redis, *arguments: str | int) -> Any:
    execute: Any = client.execute_command  # untyped in redis-py
    return await execute(*arguments)
