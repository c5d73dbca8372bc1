"""Durability on real servers: what an acknowledged write has survived, and what is said when it has not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aiohttp_regioncache import Queue, Rule
from aiohttp_regioncache.durability import FSYNC, MEMORY, Durability, parse_durability
from aiohttp_regioncache.errors import DurabilityError, RegionUnavailableError
from aiohttp_regioncache.store import queue
from aiohttp_regioncache.store.accepting import Acceptance, Verdict
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import accept, acceptance, claim_one, opened, raw
from tests.support import eventually
from tests.support.servers import ReplicaPair, ValkeyCluster, ValkeyServer
from tests.support.world import TOKYO as IN_TOKYO
from tests.support.world import one_edge

REPLICATED = Durability("replicated", 1)
KEEPS_LOG = {"appendonly": "yes", "appendfsync": "everysec"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("memory", MEMORY),
        ("fsync", FSYNC),
        ("replicated=1", REPLICATED),
        ("replicated=99", Durability("replicated", 99)),
    ],
)
def test_a_durability_reads_as_it_is_written(text: str, meant: Durability) -> None:
    assert parse_durability(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize(
    "text",
    ["", "disk", "replicated", "replicated=", "replicated=0", "replicated=-1", "replicated=100", "replicated=1 "],
)
def test_what_is_no_durability_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="none of"):
        parse_durability(text)


# --- replicas ---


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[ReplicaPair]:
    async with ReplicaPair(tmp_path) as pair:
        yield pair


@pytest_asyncio.fixture
async def store(pair: ReplicaPair) -> AsyncIterator[RegionStore]:
    async with opened(pair.url) as store:
        yield store


async def _depth(store: RegionStore) -> int:
    return (await queue.depth(store, store.partitions[0])).writes


def _replicated(path: str = "/items/1", key: str = "") -> Acceptance:
    return acceptance(path, key=key, durability=REPLICATED)


async def test_a_write_without_its_replica_is_queued_once_and_confirmed_when_asked_for_again(
    pair: ReplicaPair, store: RegionStore
) -> None:
    pair.replica.pause()
    first, again = _replicated(key="client"), _replicated(key="client")
    try:
        for write in (first, again):
            answer = await accept(store, write)
            assert (answer.verdict, answer.detail) == (Verdict.UNCONFIRMED, first.record.id)
        assert await _depth(store) == 1
    finally:
        pair.replica.resume()
    answer = await accept(store, again)
    assert (answer.verdict, answer.detail) == (Verdict.KNOWN, first.record.id)
    assert await _depth(store) == 1


@pytest.mark.parametrize("is_same_call", [True, False])
async def test_a_repeated_accept_waits_for_what_came_over_another_connection(
    pair: ReplicaPair, store: RegionStore, is_same_call: bool
) -> None:
    first = _replicated(key="client")
    pair.replica.pause()
    try:
        await accept(store, first)
        async with opened(pair.url) as other:
            again = first if is_same_call else _replicated(key="client")
            assert (await accept(other, again)).verdict is Verdict.UNCONFIRMED
    finally:
        pair.replica.resume()


async def test_a_server_that_has_forgotten_the_script_confirms_no_less(pair: ReplicaPair, store: RegionStore) -> None:
    async with pair.primary.client() as client:
        await accept(store, _replicated())
        for is_paused in (True, False):
            await raw(client, "SCRIPT", "FLUSH", "SYNC")
            if is_paused:
                pair.replica.pause()
            try:
                verdict = (await accept(store, _replicated())).verdict
            finally:
                pair.replica.resume()
            assert verdict is (Verdict.UNCONFIRMED if is_paused else Verdict.ACCEPTED)


async def test_more_replicas_than_there_are_are_not_confirmed(pair: ReplicaPair, store: RegionStore) -> None:
    two = acceptance(durability=Durability("replicated", 2))
    assert (await accept(store, two)).verdict is Verdict.UNCONFIRMED
    at_once = [accept(store, _replicated(f"/items/{n}")) for n in range(3)]
    verdicts = [answer.verdict for answer in await asyncio.gather(*at_once, accept(store, two))]
    assert verdicts == [Verdict.ACCEPTED] * 3 + [Verdict.UNCONFIRMED]  # each by its own durability in one pipeline


async def test_a_promoted_replica_has_every_confirmed_write(pair: ReplicaPair, store: RegionStore) -> None:
    confirmed = [_replicated(f"/items/{n}") for n in range(20)]
    answers = await asyncio.gather(*(accept(store, write) for write in confirmed))
    assert {answer.verdict for answer in answers} == {Verdict.ACCEPTED}
    await pair.primary.kill()
    async with pair.replica.client() as client:
        await raw(client, "REPLICAOF", "NO", "ONE")
    async with opened(pair.replica.url) as promoted:
        claimed = await queue.claim(promoted, promoted.partitions[0], "fence", 100, 60)
        assert {each.digest for each in claimed} == {write.target.digest for write in confirmed}
        for write in confirmed:
            (found,) = await queue.read_queue(promoted, promoted.partitions[0], write.target.digest)
            assert found.record == write.record
    await pair.primary.start()  # its context ends it again


async def test_an_attempt_is_noted_as_safely_as_its_write_is_kept(pair: ReplicaPair, store: RegionStore) -> None:
    """Else a promoted replica would send again what may be sent once."""
    partition, write = store.partitions[0], acceptance(repeatable=False, durability=REPLICATED)
    await accept(store, write)
    claimed = await claim_one(store, partition)
    pair.replica.pause()
    try:
        with pytest.raises(RegionUnavailableError, match="noted"):
            await queue.begin_attempt(store, partition, claimed, write.record.id, REPLICATED)
    finally:
        pair.replica.resume()
    assert await queue.begin_attempt(store, partition, claimed, write.record.id, REPLICATED) == 0


# --- disks ---


@pytest.mark.parametrize("policy", ["everysec", "always"])
async def test_what_is_on_disk_survives_a_kill_right_after_the_answer(tmp_path: Path, policy: str) -> None:
    config = {"appendonly": "yes", "appendfsync": policy}
    async with ValkeyServer(tmp_path, config=config) as server:
        writes = [acceptance(f"/items/{n}", key=f"key{n}", durability=FSYNC) for n in range(30)]
        async with opened(server.url, durability=FSYNC, durability_timeout=3.0) as store:
            answers = await asyncio.gather(*(accept(store, write) for write in writes))
            await server.kill()
        assert {answer.verdict for answer in answers} == {Verdict.ACCEPTED}
        await server.start()
        async with opened(server.url, durability=FSYNC) as store:
            assert await _depth(store) == len(writes)
            again = await accept(store, writes[0])
            assert (again.detail, await _depth(store)) == (writes[0].record.id, len(writes))


async def test_a_disk_that_does_not_answer_in_time_confirms_nothing(tmp_path: Path) -> None:
    async with (
        ValkeyServer(tmp_path, config={"appendonly": "yes", "appendfsync": "no"}) as server,
        server.client() as client,
        opened(server.url, durability=FSYNC) as store,
    ):
        write, again = (acceptance(key="client", durability=FSYNC) for _ in range(2))
        assert (await accept(store, write)).verdict is Verdict.UNCONFIRMED
        await raw(client, "CONFIG", "SET", "appendfsync", "always")
        assert (await accept(store, again)).verdict is Verdict.KNOWN
        await raw(client, "CONFIG", "SET", "appendonly", "no")  # WAITAOF is an error now
        assert (await accept(store, again)).verdict is Verdict.UNCONFIRMED
        assert await _depth(store) == 1


async def test_a_server_that_keeps_no_log_is_refused_where_a_rule_asks_for_its_disk(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path) as server:
        with pytest.raises(DurabilityError, match="appendonly"):
            async with opened(server.url, durability=FSYNC):
                pass
        for less in (MEMORY, REPLICATED):
            async with opened(server.url, durability=less) as store:
                assert store.is_checked


async def test_a_server_without_its_replicas_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with ReplicaPair(tmp_path) as pair:
        async with opened(pair.primary.url, durability=REPLICATED):
            assert "replicas" not in caplog.text
        async with opened(pair.primary.url, durability=Durability("replicated", 2)):
            assert "has 1 replicas; writes whose rule asks for 2" in caplog.text


# --- a Cluster ---


async def test_each_node_of_a_cluster_confirms_its_own_writes(tmp_path: Path) -> None:
    async with (
        ValkeyCluster(tmp_path, masters=2, config=KEEPS_LOG) as cluster,
        opened(cluster.url, partitions=8, durability=FSYNC, durability_timeout=2.5) as store,
    ):
        paths = [f"/group{n}/item" for n in range(16)]

        async def verdicts(durability: Durability) -> list[Verdict]:
            writes = [acceptance(path, durability=durability) for path in paths]
            return [answer.verdict for answer in await asyncio.gather(*(accept(store, write) for write in writes))]

        assert set(await verdicts(FSYNC)) == {Verdict.ACCEPTED}
        assert set(await verdicts(REPLICATED)) == {Verdict.UNCONFIRMED}  # there is no replica
        async with cluster.servers[1].client() as client:
            await raw(client, "CONFIG", "SET", "appendonly", "no")
            here = [await _holds(client, store, path) for path in paths]
        assert {True, False} == set(here)
        expected = [Verdict.UNCONFIRMED if is_here else Verdict.ACCEPTED for is_here in here]
        assert await verdicts(FSYNC) == expected


async def _holds(client: Redis, store: RegionStore, path: str) -> bool:
    """Whether a node of a Cluster has the partition of a path."""
    found = await raw(client, "CLUSTER", "COUNTKEYSINSLOT", await _slot(client, store, path))
    return int(found) > 0


async def _slot(client: Redis, store: RegionStore, path: str) -> int:
    return int(await raw(client, "CLUSTER", "KEYSLOT", store.partition(acceptance(path).target).tag))


# --- an edge ---


async def test_a_client_learns_by_its_key_when_the_write_is_safe_after_all(tmp_path: Path) -> None:
    rules = [Rule("/items/{id}", write="behind", durability="replicated=1")]
    async with one_edge(tmp_path / "world", rules=rules, queue=Queue(durability_timeout=0.2)) as (world, edge):
        headers = {**IN_TOKYO, "Idempotency-Key": "mine"}
        for _ in range(2):
            refused = await edge.put("/items/1", {"n": 1}, headers=headers)
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
        primary = world.servers["ap-northeast-1"]
        config = {"replicaof": f"127.0.0.1 {primary.port}"}
        async with ValkeyServer(tmp_path / "replica", config=config):

            async def is_safe() -> bool:
                return (await edge.put("/items/1", {"n": 1}, headers=headers)).status == 202

            await eventually(is_safe)
            await eventually(lambda: bool(world.origin.effects))
            other = await edge.put("/items/1", {"n": 2}, headers=headers)
            assert other.status == 422
        assert [effect.path for effect in world.origin.effects] == ["/items/1"]
