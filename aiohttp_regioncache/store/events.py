"""What a region announces: changed resources, settled writes, work for the sync loop. Hints, never the only way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from .executor import Client
from .keyspace import TAKEN, WAKE_CHANNEL, events_channel

logger = logging.getLogger(__name__)

_PURGED: Final = "*"
_SITE: Final = "@"
_MOST_DIGITS: Final = 9
_RETRY_SECONDS: Final = 0.5
_TLS_OPTIONS: Final = ("ssl", "ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname")
_OPTIONS: Final = ("username", "password", "socket_timeout", "socket_connect_timeout", "protocol", "redis_connect_func")
HEARTBEAT_SECONDS: Final = 5.0
"""Silence after which a subscription is asked for a sign of life, and after which it counts as lost."""


class Changed(msgspec.Struct, frozen=True):
    """An announcement: resources of a partition changed; `write_id` is the write that settled, or empty.

    Of several that settled together the ids of the others stand among the `digests`, each before its own.
    `purged`: any resource may have; none is named. `site`: the id of a site that changed, the `hosts` that it has
    or had, and the `number` of this change among those of sites in the region.
    """

    partition: int
    write_id: str
    digests: tuple[str, ...]
    purged: bool = False
    site: str = ""
    number: int = 0
    hosts: tuple[str, ...] = ()


def announcement(partition: int, write_id: str, digests: tuple[str, ...]) -> str:
    """Write the message of a `Changed` for the events channel."""
    return f"{partition} {names(write_id, digests)}"


def names(write_id: str, digests: tuple[str, ...]) -> str:
    """Write what a `Changed` names; those of several writes may follow one another."""
    return " ".join((write_id or "-", *digests))


def purge_announcement(partition: int) -> str:
    """Write the message of a purge, which a listener that does not know it takes for a change of nothing."""
    return f"{partition} {_PURGED}"


def parse_announcement(message: bytes) -> Changed | None:
    """Read the message of a `Changed`; None for anything else."""
    partition, *words = message.decode("ascii", "replace").split(" ")
    if not (partition.isdecimal() and len(partition) <= _MOST_DIGITS) or not words:
        return None
    if words[0] == _PURGED:
        return Changed(int(partition), "", (), purged=True)
    if words[0] == _SITE:
        site_id, number = (*words[1:3], "", "")[:2]
        return Changed(int(partition), "", (), site=site_id, number=int(number or 0), hosts=tuple(words[3:]))
    return Changed(int(partition), "" if words[0] == "-" else words[0], tuple(words[1:]))


class Events:
    """A subscription to one region, kept up: it reconnects, and says when something may have been missed.

    `heartbeat` is seconds: a subscription that is silent for twice as long is lost.
    """

    def __init__(self, region: str, client: Client, *, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._region = region
        self._heartbeat = heartbeat
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._on_change: list[Callable[[Changed], None]] = []
        self._on_link: list[Callable[[bool], None]] = []
        self._on_work: list[Callable[[bool], None]] = []
        self.is_connected = False

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.get_running_loop().create_task(self._listen_for_ever())

    async def close(self) -> None:
        """Stop listening."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def on_change(self, callback: Callable[[Changed], None]) -> None:
        """Call `callback` for every announcement."""
        self._on_change.append(callback)

    def on_link(self, callback: Callable[[bool], None]) -> None:
        """Call `callback` with True when the subscription stands and False when it is lost."""
        self._on_link.append(callback)

    def on_work(self, callback: Callable[[bool], None]) -> None:
        """Call `callback` when a sync loop may have work: with False when another process looks for it itself."""
        self._on_work.append(callback)

    @property
    def has_worker(self) -> bool:
        """Whether somebody here looks for work."""
        return bool(self._on_work)

    def work_here(self) -> None:
        """Say that this process has made work."""
        for callback in self._on_work:
            callback(True)

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the resource digest or write id `name` is announced, or may have been."""
        event = asyncio.Event()
        self._waiters[name].add(event)
        try:
            yield event
        finally:
            self._waiters[name].discard(event)
            if not self._waiters[name]:
                del self._waiters[name]

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with self._subscription() as pubsub:
                    self._link(True)
                    await self._read(pubsub)
            except asyncio.CancelledError:
                raise
            except (TimeoutError, RedisError, RedisClusterException, OSError) as error:
                # One warning for an outage; what fails because of it says so only for debugging.
                level = logging.WARNING if self.is_connected else logging.DEBUG
                logger.log(level, "region %s: the connection is lost: %s", self._region, error)
            except Exception:
                logger.exception("region %s: subscription failed", self._region)
            finally:
                self._link(False)
            await asyncio.sleep(_RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def _subscription(self) -> AsyncIterator[Any]:
        client = await self._subscribing_client()
        pubsub = client.pubsub()
        try:
            await pubsub.subscribe(WAKE_CHANNEL, events_channel(self._region))
            await self._confirmed(pubsub, 2)
            yield pubsub
        finally:
            await pubsub.aclose()
            if client is not self._client:
                await client.aclose()

    async def _confirmed(self, pubsub: Any, channels: int) -> None:
        """Wait until the server has said that it sends what `channels` carry: from then on nothing is missed."""
        while channels:
            message = await pubsub.get_message(timeout=self._heartbeat)
            if message is None:
                raise OSError("no answer to a subscription")
            channels -= message["type"] == "subscribe"

    async def _subscribing_client(self) -> Any:
        if not isinstance(self._client, RedisCluster):
            return self._client
        await self._client.initialize()
        node = self._client.get_random_node()  # each hears every message
        options = _credentials(node.connection_kwargs)
        return Redis(host=node.host, port=int(node.port), retry=Retry(NoBackoff(), 0), **options)

    async def _read(self, pubsub: Any) -> None:
        silent = False
        while True:
            message = await pubsub.get_message(timeout=self._heartbeat)
            if message is None:
                if silent:
                    raise OSError("no answer to a ping")
                await pubsub.ping()
                silent = True
                continue
            silent = False
            if message["type"] == "message":
                self._dispatch(message["channel"], message["data"])

    def _dispatch(self, channel: bytes, data: bytes) -> None:
        if channel == WAKE_CHANNEL.encode():
            region, _, where = data.partition(b":")
            if region == self._region.encode():
                for on_work in self._on_work:
                    on_work(not where.endswith(TAKEN.encode()))
            return
        change = parse_announcement(data)
        if change is None:
            return
        for callback in self._on_change:
            callback(change)
        for name in (change.write_id, *change.digests):
            _set_all(self._waiters.get(name, ()))

    def _link(self, up: bool) -> None:
        if self.is_connected == up:
            return
        self.is_connected = up
        for callback in self._on_link:
            callback(up)
        self.work_here()
        for events in self._waiters.values():
            _set_all(events)


def _set_all(events: Any) -> None:
    for event in events:
        event.set()


def _credentials(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in (*_OPTIONS, *_TLS_OPTIONS) if options.get(name) is not None}
