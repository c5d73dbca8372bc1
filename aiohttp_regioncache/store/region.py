"""One region's Redis: its connections of each kind, its clock, its run, and what it is checked for at start."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Collection
from typing import Any, Final, NoReturn

import msgspec
from redis.asyncio import Connection, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.cluster import get_node_name
from redis.exceptions import RedisError, ResponseError

from ..cipher import Cipher
from ..durability import FSYNC, Durability
from ..errors import DurabilityError, EvictionPolicyError, LayoutMismatchError, RegionUnavailableError
from ..keys import Resource, partition_of
from ..purges import Lines
from ..regions import Region
from ..settings import Connections
from .breaker import Breaker
from .clients import close_client, make_client, pack_in_c
from .collector import Collector
from .embedded import EmbeddedServer
from .events import Events
from .executor import Client, Confirmation, Executor, as_mapping
from .glances import Glances
from .keyspace import LAYOUT, META, REGIONS, Partition
from .nonces import Nonces
from .scripts import script
from .untold import Untold

logger = logging.getLogger(__name__)

_HAS_WAITAOF: Final = (7, 2)
_OF_ITS_OWN: Final = "the settings say {}; use a database of its own for each region"
_ADVICE: Final = {
    "layout": "this version needs {}: let the version that wrote it drain its queue, then use an empty database"
}
_TOKEN: Final = 24
"""Digits of a token behind the run mark: 64 random bits, and the clock's."""
QUEUE_ATTEMPTS: Final = 3
"""How often a command of the queue is sent before its region counts as unavailable."""


class ServerFacts(msgspec.Struct, frozen=True):
    """What a region's servers say of themselves: each version and eviction policy, whether all keep a log on disk, and
    the replicas of the one that has the fewest.
    """

    versions: tuple[str, ...]
    policies: tuple[str, ...]
    keeps_log: bool
    replicas: int


class RegionStore:
    """Everything that talks to one region's Redis.

    `reads` and `fills` fail at once, `queue` is patient, `durable` is too and waits for replicas and disks; each has
    connections of its own. Open it before use; a server that is down does not prevent that: it is checked when it comes
    back. An `adopted` region is one that the settings do not name: its layout is taken as it is. `durabilities` are
    what rules ask for: whether the server can give it is part of the check; `durability_timeout` is seconds.
    `cipher` seals queued requests. `holdoff` is the seconds that the origin's readers may lag behind its writers.
    `purge_lines` are the lists of purges as they have been read, by partition. `untold` are the resources
    whose changes no region could be told of yet: their entries are not to be served here. `accepts` and `settles`
    are the writes, and their ends, that wait to go out together, by partition and limits. One that does not
    `registers` leaves an empty server as it is: for those who only look.
    """

    def __init__(
        self,
        region: Region,
        connections: Connections,
        *,
        writes_behind: bool,
        adopted: bool = False,
        durabilities: Collection[Durability] = (),
        durability_timeout: float = 1.5,
        cipher: Cipher | None = None,
        holdoff: float = 0.0,
        registers: bool = True,
    ) -> None:
        self.region = region
        self.name = region.name
        self.partitions = tuple(Partition(region.name, number) for number in range(region.partitions))
        self.reads: Executor
        self.glances: Glances
        self.fills: Executor
        self.queue: Executor
        self.durable: Executor
        self.events: Events
        self.is_checked = False
        self._connections = connections
        self._writes_behind = writes_behind
        self._adopted = adopted
        self._registers = registers
        self._fsync_wanted = FSYNC in durabilities
        self._replicas_wanted = max((each.replicas for each in durabilities), default=0)
        self._always_fsyncs = False
        self._durability_ms = max(1, int(durability_timeout * 1000))  # 0 would be for ever
        self.cipher = cipher or Cipher()
        self.holdoff = holdoff
        self.purge_lines: dict[int, Lines] = {}
        self.purge_lock = asyncio.Lock()
        self.untold = Untold()
        self.nonces = Nonces()
        self.accepts: dict[Any, Collector[Any, Any, Any]] = {}
        self.settles: dict[Any, Collector[Any, Any, tuple[str, int]]] = {}
        self._clients: list[Client] = []
        self._embedded: EmbeddedServer | None = None
        self._run = ""
        self._run_ids: dict[str, str] = {}
        self._policies: dict[str, str] = {}
        self._keeps_log: dict[str, bool] = {}
        self._replicas: dict[str, int] = {}
        self._versions: dict[str, tuple[int, ...]] = {}
        self._clock_offset = 0.0
        self.reads_breaker = Breaker(connections.breaker_failures, connections.breaker_seconds)
        self.queue_breaker = Breaker(1, connections.breaker_seconds)

    async def open(self) -> None:
        """Start an embedded server if that is what the address says, connect, and check the server."""
        if self.region.redis.startswith("embedded:"):
            self._embedded = await EmbeddedServer.open(self.region.redis)
        self._make_executors(self._embedded.url if self._embedded else self.region.redis)
        self.events.start()
        try:
            await self.check()
        except RegionUnavailableError as error:
            logger.warning("%s; starting without it", error)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what is under way and close every connection; an embedded server that is ours ends."""
        await self.events.close()
        await self.glances.close()
        for executor in (self.reads, self.fills, self.queue, self.durable):
            await executor.close()
        for client in self._clients:
            await close_client(client)
        if self._embedded:
            await self._embedded.close()

    def partition(self, resource: Resource) -> Partition:
        """The partition that holds a resource."""
        return self.partitions[partition_of(resource.group, len(self.partitions))]

    @property
    def run(self) -> str:
        """Mark of the server's run: it changes when the server restarts or another one takes over."""
        return self._run

    def new_token(self) -> str:
        """Make a token that carries the run mark."""
        return f"{self.run}.{self.nonces.new()[-_TOKEN:]}"

    def now(self) -> float:
        """The server's clock, in seconds since the epoch."""
        return time.time() + self._clock_offset

    @property
    def facts(self) -> ServerFacts:
        """What the servers said of themselves when they were connected to."""
        return ServerFacts(
            versions=tuple(".".join(map(str, version)) for version in dict.fromkeys(self._versions.values())),
            policies=tuple(dict.fromkeys(self._policies.values())),
            keeps_log=bool(self._keeps_log) and all(self._keeps_log.values()),
            replicas=min(self._replicas.values(), default=0),
        )

    async def try_script(self) -> str:
        """Run a script as a read would; it tells the version of the layout, empty when there is none yet.

        Raises `RegionUnavailableError`. A PING would say nothing of a server that loads, or has lost its master.
        """
        answer: bytes = await self.reads.run(script("probe"), (META,), ())
        return answer.decode()

    async def check(self) -> None:
        """Register the layout, or refuse a server that holds another or may evict queued writes.

        One that is refused is no longer checked, so that it gets no writes.
        Raises `LayoutMismatchError`, `EvictionPolicyError`, or `RegionUnavailableError` when it cannot be asked.
        """
        if self._adopted:
            await self._adopt()
            return
        await self._learn_run()
        expected = {"region": self.name, "partitions": str(len(self.partitions)), "layout": str(LAYOUT)}
        found = await self.queue.command("HMGET", META, *expected)
        if None in found and not self._registers:
            found = [stored or value.encode() for stored, value in zip(found, expected.values(), strict=True)]
        elif None in found:
            for field, value in expected.items():
                await self.queue.command("HSETNX", META, field, value)
            found = await self.queue.command("HMGET", META, *expected)
        for (field, value), stored in zip(expected.items(), found, strict=True):
            if stored is None or stored.decode() != value:
                self.is_checked = False
                raise LayoutMismatchError(
                    f"region {self.name}: {META} in its Redis says {field}={(stored or b'nothing').decode()}, "
                    f"{_ADVICE.get(field, _OF_ITS_OWN).format(value)}"
                )
        self._check_eviction()
        if self._fsync_wanted:
            await self._check_fsync()
        if (replicas := min(self._replicas.values(), default=0)) < self._replicas_wanted:
            logger.warning(
                "region %s: has %d replicas; writes whose rule asks for %d are answered 503 until it has as many",
                self.name,
                replicas,
                self._replicas_wanted,
            )
        self.is_checked = True

    async def register(self, regions: dict[str, str]) -> None:
        """Make known which regions, by name with address, must hear of this one's invalidations."""
        for name, url in regions.items():
            await self.queue.command("HSET", REGIONS, name, url)

    async def registered(self) -> dict[str, str]:
        """The regions that must hear of this one's invalidations, by name with their addresses."""
        found = await self.queue.command("HGETALL", REGIONS)
        return {name.decode(): url.decode() for name, url in as_mapping(found).items()}

    @property
    def address(self) -> str:
        """The address under which other edges on this machine or elsewhere reach this region's server."""
        return self._embedded.url if self._embedded else self.region.redis

    async def _adopt(self) -> None:
        found = await self.queue.command("HGET", META, "partitions")
        count = int(found or 1)
        self.partitions = tuple(Partition(self.name, number) for number in range(count))
        await self._learn_run()
        self.is_checked = True

    async def _learn_run(self) -> None:
        """Connect to every node that holds a partition."""
        await asyncio.gather(*(self.reads.command("EXISTS", partition.seq) for partition in self.partitions))

    def _check_eviction(self) -> None:
        policy = next((policy for policy in self._policies.values() if policy.startswith("allkeys")), None)
        if policy and self._writes_behind:
            self.is_checked = False
            raise EvictionPolicyError(
                f"region {self.name}: maxmemory-policy {policy} may evict queued writes; "
                "set volatile-lru, which evicts only what carries a lifetime"
            )

    def confirmation(self, durability: Durability) -> Confirmation | None:
        """The command that waits until a write is as safe as `durability` says; None when it is anyway."""
        if durability.level == "replicated":
            return Confirmation(("WAIT", durability.replicas, self._durability_ms), durability.replicas)
        if durability.level == "fsync" and not self._always_fsyncs:
            return Confirmation(("WAITAOF", 1, 0, self._durability_ms), 1)
        return None

    async def _check_fsync(self) -> None:
        """Learn how the server tells that a write is on its disk."""
        if not all(self._keeps_log.values()):
            self._refuse_fsync("appendonly is off")
        if all(version >= _HAS_WAITAOF for version in self._versions.values()):
            return
        try:
            found = as_mapping(await self.queue.command("CONFIG", "GET", "appendfsync"))
        except ResponseError as error:
            self._refuse_fsync(f"it is older than 7.2, and does not tell its appendfsync: {error}")
        if list(found.values()) != [b"always"]:
            self._refuse_fsync("it is older than 7.2, and appendfsync is not always")
        self._always_fsyncs = True

    def _refuse_fsync(self, reason: str) -> NoReturn:
        self.is_checked = False
        raise DurabilityError(f"region {self.name}: durability 'fsync' is not to be had: {reason}")

    def _make_executors(self, url: str) -> None:
        fast = {"timeout": self._connections.timeout, "connect_timeout": self._connections.connect_timeout}
        patient = {
            "timeout": self._connections.queue_timeout / QUEUE_ATTEMPTS,
            "connect_timeout": self._connections.connect_timeout,
        }
        waiting = patient | {"timeout": patient["timeout"] + self._durability_ms / 1000}
        reads, fills, durable, queue = (self._client(url, kind) for kind in (fast, fast, waiting, patient))
        self.reads = Executor(self.name, reads, self.reads_breaker)
        self.glances = Glances(self.name, reads, self.reads_breaker, self.reads)
        self.fills = Executor(self.name, fills, self.reads_breaker)
        self.queue = Executor(self.name, queue, self.queue_breaker, attempts=QUEUE_ATTEMPTS)
        self.durable = Executor(self.name, durable, self.queue_breaker, attempts=QUEUE_ATTEMPTS)
        self.events = Events(self.name, self._client(url, patient))

    def _client(self, url: str, seconds: dict[str, float]) -> Client:
        client = make_client(url, on_connect=self._on_connect, **seconds)
        self._clients.append(client)
        return client

    async def _on_connect(self, connection: AbstractConnection) -> None:
        """Learn the server's run, eviction policy and clock before the first command of a connection."""
        await connection.on_connect()
        pack_in_c(connection)
        await connection.send_command("INFO", "server", "memory", "persistence", "replication")
        described = await connection.read_response()
        node = self._node_of(connection)
        self._run_ids[node] = _info_field(described, "run_id")
        self._policies[node] = _info_field(described, "maxmemory_policy")
        self._keeps_log[node] = _info_field(described, "aof_enabled") == "1"
        self._replicas[node] = int(_info_field(described, "connected_slaves"))
        version = _info_field(described, "redis_version").split(".")
        self._versions[node] = tuple(int(number) for number in version if number.isdecimal())
        asked = time.time()
        await connection.send_command("TIME")
        seconds, microseconds = await connection.read_response()
        answered = time.time()
        self._clock_offset = int(seconds) + int(microseconds) / 1e6 - (asked + answered) / 2
        self._mark_run()

    def _node_of(self, connection: AbstractConnection) -> str:
        """The node of a Cluster that a connection leads to; any other server is the only one."""
        if isinstance(self._clients[0], RedisCluster) and isinstance(connection, Connection):
            return get_node_name(connection.host, connection.port)
        return ""

    def _mark_run(self) -> None:
        """Make the mark of the present run: of the server, or of the nodes that hold the partitions."""
        client, nodes = self._clients[0], [""]
        if isinstance(client, RedisCluster):
            found = (client.get_node_from_key(partition.seq) for partition in self.partitions)
            nodes = sorted({node.name for node in found if node is not None})
        runs = " ".join(self._run_ids.get(node, "") for node in nodes)
        mark = hashlib.blake2b(runs.encode(), digest_size=4).hexdigest()
        if self.is_checked and mark != self._run:
            logger.warning("region %s: another run of the server; its entries are revalidated", self.name)
        self._run = mark


def _info_field(answer: Any, name: str) -> str:
    text = answer.decode() if isinstance(answer, bytes) else str(answer)
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise RedisError(f"INFO does not say {name}")


async def open_all(stores: list[RegionStore]) -> None:
    """Open several regions at once; when one refuses, the others are closed again and its error is raised."""
    results = await asyncio.gather(*(store.open() for store in stores), return_exceptions=True)
    failed = next((result for result in results if isinstance(result, BaseException)), None)
    if failed is None:
        return
    for store, result in zip(stores, results, strict=True):
        if result is None:
            await store.close()
    raise failed
