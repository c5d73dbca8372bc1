"""The scripts against a model of the queue: random steps, each sent once or twice, and what must hold after each."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from aiohttp_regioncache.store import entries, queue
from aiohttp_regioncache.store.entries import Remembered
from aiohttp_regioncache.store.executor import as_mapping
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.queue import Acceptance, Claimed, SettleLimits, Verdict
from aiohttp_regioncache.store.region import RegionStore
from tests.store import tools
from tests.store.tools import raw, resource

LANDED_COUNT = 3
LIMITS = SettleLimits(status_seconds=60, landed_seconds=60, landed_count=LANDED_COUNT, lease=1000)
PATHS = [f"/items/{n}" for n in range(4)]
PARENT = "/items"
STEPS = 120
PROCESS_LIFETIME = {"seq", "processed", "bytes"}


@dataclass
class Resource:
    """What the model knows of a resource."""

    path: str
    known: bool = False
    epoch: int = 0
    trimmed: int = 0
    landed: int = 0
    own: list[tuple[int, Acceptance]] = field(default_factory=list)
    affected: list[int] = field(default_factory=list)
    landed_list: list[int] = field(default_factory=list)
    ready: bool = True
    owner: str = ""
    stalls: int = 0
    remembered: list[tuple[int, int, Remembered]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return resource(self.path).digest

    @property
    def pending(self) -> int:
        return len(self.own) + len(self.affected)

    def touch(self) -> None:
        """Make a state if there is none."""
        if not self.known:
            self.known, self.epoch, self.trimmed, self.landed, self.landed_list = True, self.epoch + 1, 0, 0, []

    def land(self, number: int) -> None:
        self.touch()
        self.landed = number
        self.landed_list.append(number)
        while len(self.landed_list) > LANDED_COUNT:
            self.trimmed = max(self.trimmed, self.landed_list.pop(0))


class Machine:
    """Random steps on one partition and on the model of it."""

    def __init__(self, store: RegionStore, client: Redis, seed: int) -> None:
        self.store = store
        self.client = client
        self.partition: Partition = store.partitions[0]
        self.random = random.Random(seed)
        self.resources = {path: Resource(path) for path in (*PATHS, PARENT)}
        self.seq = 0
        self.processed = 0
        self.fences = 0
        self.accepted: list[Acceptance] = []
        self.claims: list[tuple[Resource, Claimed]] = []

    async def step(self) -> None:
        steps = {
            self.accept: 6, self.accept_again: 1, self.claim: 3, self.settle: 6, self.defer: 2, self.extend: 1,
            self.end_lease: 1, self.begin: 3, self.fill: 3, self.invalidate: 1, self.lose_state: 1,
        }  # fmt: skip
        chosen = self.random.choices(list(steps), weights=list(steps.values()))[0]
        await chosen()
        await self.check()

    @property
    def times(self) -> int:
        """Once, or twice as after a lost reply."""
        return self.random.choice((1, 1, 2))

    # --- steps ---

    async def accept(self) -> None:
        path = self.random.choice(PATHS)
        write = tools.acceptance(
            path,
            principal=self.random.choice(("p1", "p2")),
            affects=(PARENT,) if self.random.random() < 0.5 else (),
            key=f"key-{len(self.accepted)}",
            size=self.random.randrange(100),
            stored=self.random.random() < 0.3,
        )
        for time in range(self.times):
            answer = await tools.accept(self.store, write)
            assert answer.verdict is Verdict.ACCEPTED
            assert answer.detail == write.record.id
            if time == 0:
                self.seq += 1
                assert answer.seq == self.seq
        target = self.resources[path]
        for each in (target, *(self.resources[other.path] for other, _ in write.affected)):
            each.touch()
        if not target.own:
            target.ready = True
        target.own.append((self.seq, write))
        if write.affected:
            self.resources[PARENT].affected.append(self.seq)
        self.accepted.append(write)

    async def accept_again(self) -> None:
        if not self.accepted:
            return
        before = self.random.choice(self.accepted)
        same = tools.acceptance(before.record.path, key=before.idempotency)
        other = tools.acceptance(before.record.path, key=before.idempotency, fingerprint="other")
        assert (await tools.accept(self.store, same)).detail == before.record.id
        assert (await tools.accept(self.store, same)).verdict is Verdict.KNOWN
        assert (await tools.accept(self.store, other)).verdict is Verdict.MISMATCH

    async def claim(self) -> None:
        self.fences += 1
        fence, limit = f"fence{self.fences}", self.random.randrange(1, 4)
        due = [each for each in self.resources.values() if each.own and each.ready]
        for _ in range(self.times):
            claimed = await queue.claim(self.store, self.partition, fence, limit, 1000)
            assert len(claimed) == min(limit, len(due))
            assert {each.digest for each in claimed} <= {each.digest for each in due}
        for each in due:
            if mine := next((found for found in claimed if found.digest == each.digest), None):
                each.stalls += bool(each.owner)
                each.owner, each.ready = fence, False
                assert mine.stalls == each.stalls
                self.claims.append((each, mine))

    async def settle(self) -> None:
        if not self.claims:
            return
        target, claimed = self.random.choice(self.claims)
        outcome = self.random.choice(("synced", "synced", "rejected", "dead"))
        if target.owner != claimed.fence or not target.own:
            write = self.random.choice(self.accepted)
            stray = tools.acceptance(write.record.path)
            assert (await self._settle(claimed, stray, 10**6, outcome))[0] in ("lost", "not-head")
            return
        seq, write = target.own[0]
        if len(target.own) > 1 and self.random.random() < 0.2:
            later, behind = target.own[1]
            assert (await self._settle(claimed, behind, later, outcome))[0] == "not-head"
        for time in range(self.times):
            answer, left = await self._settle(claimed, write, seq, outcome)
            assert answer == ("already" if time else "settled")
            assert left == (len(target.own) - 1)
        self._settled(target, write, seq, outcome)

    async def _settle(self, claimed: Claimed, write: Acceptance, seq: int, outcome: str) -> tuple[str, int]:
        return await tools.settle(
            self.store, self.partition, claimed, write, seq, outcome, limits=LIMITS, keep_record=outcome == "dead"
        )

    def _settled(self, target: Resource, write: Acceptance, seq: int, outcome: str) -> None:
        target.own.pop(0)
        number = 0
        if outcome == "synced":
            number = self.seq = self.seq + 1
        touched = [target, *(self.resources[other.path] for other, _ in write.affected)]
        for each in touched:
            if each is not target:
                each.affected.remove(seq)
            each.touch()
            if number:
                each.land(number)
            else:
                each.epoch += 1
        unsettled = [seq for each in self.resources.values() for seq, _ in each.own]
        self.processed = min(unsettled) - 1 if unsettled else self.seq
        target.stalls, target.ready = 0, False
        if not target.own:
            target.owner = ""

    async def defer(self) -> None:
        if not self.claims:
            return
        target, claimed = self.random.choice(self.claims)
        held = target.owner == claimed.fence
        delay = self.random.choice((0.0, 1000.0))
        tried = self.random.random() < 0.5
        write_id = target.own[0][1].record.id if target.own and tried else ""
        for time in range(self.times):
            given = await queue.defer(
                self.store,
                self.partition,
                claimed,
                delay=delay,
                write_id=write_id,
                tries=1,
                fields={"problem": "a test"} if write_id else None,
            )
            assert given == (held and time == 0)
        if held:
            target.owner, target.ready = "", delay == 0
            if write_id:
                target.stalls = 0

    async def extend(self) -> None:
        if not self.claims:
            return
        target, claimed = self.random.choice(self.claims)
        kept = await queue.extend(self.store, self.partition, claimed.fence, [target.digest], 1000)
        assert kept == (target.owner == claimed.fence)
        if kept:
            target.ready = False

    async def end_lease(self) -> None:
        target = self.random.choice([each for each in self.resources.values() if each.path != PARENT])
        if target.own:
            await tools.end_lease(self.client, self.partition, target.digest)
            target.ready = True

    async def begin(self) -> None:
        target = self.random.choice(list(self.resources.values()))
        remembered = await entries.begin(self.store, self.partition, resource(target.path), 0)
        target.touch()
        assert remembered.asof == target.landed
        target.remembered.append((target.epoch, target.landed, remembered))

    async def fill(self) -> None:
        target = self.random.choice(list(self.resources.values()))
        if not target.remembered:
            return
        epoch, asof, remembered = self.random.choice(target.remembered)
        expected = target.known and epoch == target.epoch and asof >= target.trimmed
        record = tools.entry(target.path, remembered)
        for _ in range(self.times):
            stored = await entries.fill(
                self.store, self.partition, resource(target.path), target.path, record, 60, None
            )  # fmt: skip
            assert stored == expected
        if expected and asof > target.trimmed:
            target.trimmed = asof
            target.landed_list = [number for number in target.landed_list if number > asof]

    async def invalidate(self) -> None:
        chosen = self.random.sample(list(self.resources.values()), 2)
        await entries.invalidate(self.store, self.partition, tuple(each.digest for each in chosen))
        for each in chosen:
            if each.known:
                each.epoch += 1

    async def lose_state(self) -> None:
        """A clean state may be evicted at any time."""
        target = self.random.choice(list(self.resources.values()))
        if not target.pending:
            await raw(self.client, "DEL", self.partition.state(target.digest))
            target.known = False

    # --- what must hold ---

    async def check(self) -> None:
        await self._check_queue()
        for each in self.resources.values():
            await self._check_resource(each)

    async def _check_queue(self) -> None:
        partition, client = self.partition, self.client
        pending = [(seq, write) for each in self.resources.values() for seq, write in each.own]
        members = {f"{seq:016d}|{write.record.id}".encode() for seq, write in pending}
        assert set(await raw(client, "ZRANGE", partition.queue, 0, -1)) == members
        assert int(await raw(client, "GET", partition.bytes) or 0) == sum(write.size for _, write in pending)
        due = {each.digest.encode() for each in self.resources.values() if each.own}
        assert set(await raw(client, "ZRANGE", partition.due, 0, -1)) == due
        leases = {each.digest for each in self.resources.values() if each.owner or each.stalls}
        assert {name.decode() for name in await raw(client, "HKEYS", partition.lease)} == leases
        principals = as_mapping(await raw(client, "HGETALL", partition.principals))
        counted = {name: int(count) for name, count in principals.items()}
        expected: dict[bytes, int] = {}
        for _, write in pending:
            name = write.record.principal.encode()
            expected[name] = expected.get(name, 0) + 1
        assert counted == expected
        depth = await queue.depth(self.store, partition)
        assert (depth.writes, depth.due, depth.newest) == (len(pending), len(due), self.seq)
        assert depth.processed == self.processed

    async def _check_resource(self, each: Resource) -> None:
        looked = await entries.look(self.store, self.partition, each.path, resource(each.path), ("p1", "p2"))
        assert [item.number for item in looked.pending] == sorted([*(seq for seq, _ in each.own), *each.affected])
        assert all(item.record is not None for item in (*looked.pending, *looked.landed))
        state, lifetime = looked.state, await raw(self.client, "PTTL", self.partition.state(each.digest))
        if not each.known:
            assert state is None
            return
        assert state is not None
        assert (state.trimmed, state.landed, state.pending) == (each.trimmed, each.landed, each.pending)
        assert [item.number for item in looked.landed] == each.landed_list
        assert looked.is_whole
        assert (lifetime == -1) == (each.pending > 0)

    # --- the end ---

    async def drain(self) -> None:
        """Settle everything."""
        for each in self.resources.values():
            if each.own:
                await tools.end_lease(self.client, self.partition, each.digest)
                each.ready = True
        claimed = await queue.claim(self.store, self.partition, "last", 100, 1000)
        for found in claimed:
            target = next(each for each in self.resources.values() if each.digest == found.digest)
            for seq, write in tuple(target.own):
                assert (await self._settle(found, write, seq, "synced"))[0] == "settled"
                self._settled(target, write, seq, "synced")
        await self.check()


@pytest.mark.parametrize("seed", range(8))
async def test_any_steps_leave_the_queue_as_the_model_has_it(seed: int, store: RegionStore, client: Redis) -> None:
    machine = Machine(store, client, seed)
    for _ in range(STEPS):
        await machine.step()
    await machine.drain()
    await nothing_but_what_passes_is_left(machine, client)


async def nothing_but_what_passes_is_left(machine: Machine, client: Redis) -> None:
    """After the last settle only the counters stay for good."""
    tag = machine.partition.tag
    for name, lifetime in (await tools.keys(client)).items():
        kind = name.removeprefix(f"{tag}:").partition(":")[0] if name.startswith(tag) else name
        assert kind in {"s", "l", "w", "i", "e", "b", *PROCESS_LIFETIME, "rc:meta"}, name
        assert (lifetime == -1) == (kind in PROCESS_LIFETIME or kind == "rc:meta"), name
    assert int(await raw(client, "GET", machine.partition.bytes)) == 0
    dead = {write.record.id for write in machine.accepted}
    bodies = [name async for name in client.scan_iter(f"{tag}:b:*")]
    assert all(name.decode().rpartition(":")[2] in dead for name in bodies)
