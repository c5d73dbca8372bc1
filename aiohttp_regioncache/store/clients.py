"""redis-py clients for a region's address, with timeouts and retries set explicitly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from .executor import PIPELINES, Client

OnConnect = Callable[[AbstractConnection], Awaitable[None]]

_SENTINEL_PORT: Final = 26379
_SPARE: Final = 3


def make_client(url: str, *, timeout: float, connect_timeout: float, on_connect: OnConnect) -> Client:
    """Make a client that neither retries nor waits longer than it was told.

    `timeout` and `connect_timeout` are seconds. `on_connect` runs on every new connection. The pool has a connection
    for every pipeline that an `Executor` sends at once, so that it is never empty.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    scheme = url.partition("://")[0]
    if scheme.endswith("+cluster"):
        cluster = RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
        cluster.connection_kwargs["redis_connect_func"] = on_connect  # of the nodes that it finds
        return cluster
    options |= {"redis_connect_func": on_connect, "health_check_interval": 0}
    if scheme == "redis+sentinel":
        return _behind_sentinels(url, options)
    pool = BlockingConnectionPool.from_url(
        url, max_connections=PIPELINES + _SPARE, timeout=connect_timeout + timeout, **options
    )
    client: Redis = Redis.from_pool(pool)
    return client


def pack_in_c(connection: AbstractConnection) -> None:
    """Let hiredis pack what goes out in pipelines, as redis-py's blocking client does.

    Python takes eight times as long.
    """
    connection.pack_commands = _packed  # type: ignore[method-assign]


def _packed(commands: Iterable[Iterable[Any]]) -> list[bytes]:
    return [hiredis.pack_command(tuple(command)) for command in commands]


async def close_client(client: Client) -> None:
    """Close a client's connections, those to its Sentinels too."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _behind_sentinels(url: str, options: dict[str, Any]) -> Redis:
    """`redis+sentinel://[user:password@]host:port,host:port/service[?db=n]`."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    places = [urlsplit(f"//{host}") for host in hosts.split(",")]
    addresses = [(place.hostname or "", place.port or _SENTINEL_PORT) for place in places]
    database = int(parse_qs(parts.query).get("db", ["0"])[0])
    impatient = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry")}
    sentinel: Any = Sentinel(addresses, sentinel_kwargs=impatient)  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(
        parts.path.strip("/") or "mymaster",
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=database,
        **options,
    )
    return client
