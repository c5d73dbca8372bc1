"""Clients for a region's address: what the address says, and real Sentinels."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.store.clients import make_client, pack_in_c
from aiohttp_regioncache.store.embedded import ServerProcess, find_server_binary
from aiohttp_regioncache.store.executor import PIPELINES
from tests.store.tools import accept, acceptance, opened, raw
from tests.support import eventually
from tests.support.servers import ReplicaPair, ValkeyServer, free_port


async def _greet(_: Any) -> None:
    """Nothing is connected here."""


def _client(url: str) -> Any:
    return make_client(url, timeout=0.25, connect_timeout=0.5, on_connect=_greet)


async def test_a_single_server_gets_a_pool_that_waits_and_connections_that_do_not_retry() -> None:
    pool = _client("redis://user:p%40ss@cache.example:7000/3").connection_pool
    assert pool.max_connections >= PIPELINES
    connection = pool.make_connection()
    assert (connection.host, connection.port, connection.db) == ("cache.example", 7000, 3)
    assert (connection.username, connection.password) == ("user", "p@ss")
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.25, 0.5)
    assert connection.retry.get_retries() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("GET", "key"),
        ("SET", "caf\u00e9", b"\x00\xff\r\n", "PX", 5000),
        ("EVALSHA", "f" * 40, 0, "", 0, -1, 1.5, 1e22, 0.1, 2**53),
        ("SET", "large", b"x" * 100_000),
    ],
)
def test_what_hiredis_packs_is_what_redis_py_packs(arguments: tuple[Any, ...]) -> None:
    ours: Any = Connection()
    theirs = b"".join(ours.pack_command(*arguments))
    pack_in_c(ours)
    assert b"".join(ours.pack_commands([arguments, arguments])) == 2 * theirs


async def test_the_connections_of_a_region_pack_with_hiredis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[tuple[Any, ...]] = []
    pack = hiredis.pack_command

    def noted(command: tuple[Any, ...]) -> bytes:
        packed.append(command)
        octets: bytes = pack(command)
        return octets

    monkeypatch.setattr(hiredis, "pack_command", noted)
    async with ValkeyServer(tmp_path) as server, opened(server.url) as store:
        await store.queue.command("SET", "a", b"b")
    assert ("SET", "a", b"b") in packed


async def test_rediss_is_encrypted() -> None:
    assert isinstance(_client("rediss://cache.example").connection_pool.make_connection(), SSLConnection)


@pytest.mark.parametrize(("scheme", "encrypted"), [("redis+cluster", False), ("rediss+cluster", True)])
async def test_a_cluster_is_found_by_one_node_without_retries(scheme: str, encrypted: bool) -> None:
    client = _client(f"{scheme}://user:p%40ss@node.example:7001")
    assert isinstance(client, RedisCluster)
    (node,) = client.startup_nodes
    assert (node.host, node.port) == ("node.example", 7001)
    options = client.connection_kwargs
    assert (options["username"], options["password"]) == ("user", "p@ss")
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.25, 0.5)
    assert options["redis_connect_func"] is _greet
    assert (options["connection_class"] is SSLConnection) is encrypted
    assert client.retry.get_retries() == 0


async def test_sentinels_are_listed_with_the_service_they_watch() -> None:
    client = _client("redis+sentinel://user:p%40ss@one.example,two.example:7002,[2001:db8::3]:7003/store?db=2")
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "store"
    places = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(place["host"], place["port"]) for place in places] == [
        ("one.example", 26379), ("two.example", 7002), ("2001:db8::3", 7003),
    ]  # fmt: skip
    assert all(place["retry"].get_retries() == 0 for place in places)
    assert all(place["socket_timeout"] == 0.25 for place in places)
    options = pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("user", "p@ss", 2)
    assert options["retry"].get_retries() == 0


async def test_sentinels_without_a_service_watch_the_usual_one() -> None:
    assert _client("redis+sentinel://one.example").connection_pool.service_name == "mymaster"


@contextlib.asynccontextmanager
async def _sentinel(directory: Path, primary: int) -> AsyncIterator[int]:
    """Run a Sentinel that watches the primary at a port; gives its own port."""
    port = free_port()
    config = _sentinel_config(directory, port, primary)
    arguments = [str(find_server_binary()), str(config), "--sentinel"]
    process = await ServerProcess.start(arguments, log=directory / "sentinel.log")
    try:
        yield port
    finally:
        await process.kill()


def _sentinel_config(directory: Path, port: int, primary: int) -> Path:
    directory.mkdir()
    config = directory / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
        f"sentinel monitor store 127.0.0.1 {primary} 1\n"
        "sentinel down-after-milliseconds store 300\nsentinel failover-timeout store 2000\n"
    )
    return config


async def test_a_failover_behind_a_sentinel_is_followed(tmp_path: Path) -> None:
    async with ReplicaPair(tmp_path / "pair") as pair, _sentinel(tmp_path / "sentinel", pair.primary.port) as port:
        async with Redis(port=port) as sentinel:

            async def knows_the_replica() -> bool:
                with contextlib.suppress(RedisError):
                    return len(await raw(sentinel, "SENTINEL", "REPLICAS", "store")) == 1
                return False

            await eventually(knows_the_replica)
        async with opened(f"redis+sentinel://127.0.0.1:{port}/store", breaker_seconds=0.1) as store:
            assert store.is_checked
            before, write = store.run, acceptance()
            await accept(store, write)
            async with pair.replica.client() as replica:

                async def has_it() -> bool:
                    return bool(await raw(replica, "EXISTS", store.partitions[0].status(write.record.id)))

                await eventually(has_it)
            await pair.primary.kill()

            async def takes_writes() -> bool:
                with contextlib.suppress(RegionUnavailableError):
                    return (await accept(store, acceptance())).seq == 2
                return False

            await eventually(takes_writes)
            assert store.run != before
            await pair.primary.start()  # its context ends it again
