"""The scripts against a model of the queue: random steps, each sent once or twice, and what must hold after each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from aiohttp_regioncache.store import ended, entries, queue
from aiohttp_regioncache.store.accepting import Acceptance, Verdict
from aiohttp_regioncache.store.entries import Remembered
from aiohttp_regioncache.store.executor import as_mapping
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.queue import Claimed, SettleLimits
from aiohttp_regioncache.store.region import RegionStore
from tests.store import tools
from tests.store.tools import raw, resource

LANDED_COUNT = 3
LIMITS = SettleLimits(status_seconds=60, landed_seconds=60, landed_count=LANDED_COUNT, lease=1000)
PATHS = [f"/items/{n}" for n in range(4)]
PARENT = "/items"
STEPS = 150
PROCESS_LIFETIME = {"seq", "processed", "bytes", "purge", "purges"}


@dataclass
class Lease:
    """Who holds a resource, nobody when empty, and how often a holder vanished."""

    owner: str
    stalls: int = 0


@dataclass
class Resource:
    """What the model knows of a resource."""

    path: str
    known: bool = False
    epoch: int = 0
    trimmed: int = 0
    landed: int = 0
    own: list[tuple[int, Acceptance]] = field(default_factory=list)
    affected: list[tuple[int, Acceptance]] = field(default_factory=list)
    landed_list: list[int] = field(default_factory=list)
    due: bool = False
    ready: bool = True
    lease: Lease | None = None
    blocked: str = ""
    remembered: list[tuple[int, int, Remembered]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return resource(self.path).digest

    @property
    def owner(self) -> str:
        return self.lease.owner if self.lease else ""

    @property
    def pending(self) -> int:
        return len(self.own) + len(self.affected)

    def touch(self) -> None:
        """Make a state if there is none."""
        if not self.known:
            self.known, self.epoch, self.trimmed, self.landed, self.landed_list = True, self.epoch + 1, 0, 0, []

    def land(self, number: int) -> None:
        self.landed = number
        self.landed_list.append(number)
        while len(self.landed_list) > LANDED_COUNT:
            self.trimmed = max(self.trimmed, self.landed_list.pop(0))

    def queue(self, seq: int, write: Acceptance) -> None:
        self.own = sorted([*self.own, (seq, write)], key=lambda item: item[0])

    def take_over(self, owner: str) -> None:
        """Change the holder; one who never gave the resource back has vanished."""
        stalls = self.lease.stalls if self.lease else 0
        self.lease = Lease(owner, stalls + bool(self.owner and self.due))

    def seen_by(self, asking: Sequence[str]) -> list[int]:
        """The numbers of the pending writes that a reader gets: none before the last own replacement."""

        def seen(of: list[tuple[int, Acceptance]]) -> list[tuple[int, Acceptance]]:
            return [(seq, write) for seq, write in of if write.record.shared or write.record.principal in asking]

        own = seen(self.own)
        start = max((seq for seq, write in own if write.record.effect == "replace"), default=0)
        return sorted(seq for seq, _ in (*own, *seen(self.affected)) if seq >= start)


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
        self.ended: list[tuple[int, Acceptance]] = []
        self.dropped: list[tuple[int, Acceptance]] = []
        self.taken: Counter[str] = Counter()

    async def step(self) -> None:
        steps = {
            self.accept: 8, self.accept_again: 1, self.claim: 4, self.settle: 8, self.defer: 2, self.extend: 1,
            self.end_lease: 1, self.begin: 3, self.fill: 3, self.invalidate: 1, self.lose_state: 1,
            self.seize: 1, self.release: 2, self.revive: 3, self.dismiss: 3,
        }  # fmt: skip
        chosen = self.random.choices(list(steps), weights=list(steps.values()))[0]
        await chosen()
        await self.check()

    @property
    def times(self) -> int:
        """Once, or twice as after a lost reply."""
        return self.random.choice((1, 1, 2))

    @property
    def targets(self) -> list[Resource]:
        return [self.resources[path] for path in PATHS]

    def touched(self, write: Acceptance) -> list[Resource]:
        """The models of what a write touches, the target first."""
        return [self.resources[each.path] for each in write.resources]

    def new_fence(self) -> str:
        self.fences += 1
        return f"fence{self.fences}"

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
            effect=self.random.choice(("replace", "merge-patch", "unknown")),
            shared=self.random.random() < 0.2,
        )
        for time in range(self.times):
            answer = await tools.accept(self.store, write)
            assert answer.verdict is Verdict.ACCEPTED
            assert answer.detail == write.record.id
            if time == 0:
                self.seq += 1
                assert answer.seq == self.seq
        self._queued(self.seq, write)
        target = self.resources[path]
        if not target.due and not target.blocked:
            target.due = target.ready = True
        self.accepted.append(write)

    def _queued(self, seq: int, write: Acceptance) -> None:
        target, *others = self.touched(write)
        for each in (target, *others):
            each.touch()
        target.queue(seq, write)
        for each in others:
            each.affected.append((seq, write))

    async def accept_again(self) -> None:
        if not self.accepted:
            return
        before = self.random.choice(self.accepted)
        same = tools.acceptance(before.record.path, key=before.record.idempotency)
        other = tools.acceptance(before.record.path, key=before.record.idempotency, fingerprint="other")
        assert (await tools.accept(self.store, same)).detail == before.record.id
        assert (await tools.accept(self.store, same)).verdict is Verdict.KNOWN
        assert (await tools.accept(self.store, other)).verdict is Verdict.MISMATCH

    async def claim(self) -> None:
        fence, limit = self.new_fence(), self.random.randrange(1, 4)
        due = [each for each in self.resources.values() if each.due and each.ready]
        for _ in range(self.times):
            claimed = await queue.claim(self.store, self.partition, fence, limit, 1000)
            assert len(claimed) == min(limit, len(due))
            assert {each.digest for each in claimed} <= {each.digest for each in due}
        for each in due:
            if mine := next((found for found in claimed if found.digest == each.digest), None):
                each.take_over(fence)
                each.ready = False
                assert each.lease is not None
                assert mine.stalls == each.lease.stalls
                self.claims.append((each, mine))

    async def settle(self) -> None:
        if not self.claims:
            return
        holding = [claim for claim in self.claims if claim[0].own and claim[0].owner == claim[1].fence]
        target, claimed = self.random.choice(holding if holding and self.random.random() < 0.8 else self.claims)
        outcome = self.random.choice(("synced", "synced", "rejected", "dead", "superseded"))
        if target.owner != claimed.fence or not target.own:
            stray = tools.acceptance(target.path)
            assert (await self._settle(claimed, stray, 10**6, outcome))[0] in ("lost", "not-head")
            return
        anywhere = outcome in ("rejected", "superseded") and self.random.random() < 0.5
        seq, write = self.random.choice(target.own) if anywhere else target.own[0]
        if len(target.own) > 1 and self.random.random() < 0.2:
            later, behind = target.own[1]
            assert (await self._settle(claimed, behind, later, outcome))[0] == "not-head"
        blocks = outcome == "dead" and not target.blocked and self.random.random() < 0.5
        for time in range(self.times):
            answer, left = await self._settle(claimed, write, seq, outcome, blocks=blocks, anywhere=anywhere)
            assert answer == ("already" if time else "settled")
            assert left == (0 if blocks else len(target.own) - 1)
        self._settled(write, seq, outcome, blocks=blocks)

    async def _settle(
        self,
        claimed: Claimed,
        write: Acceptance,
        seq: int,
        outcome: str,
        *,
        blocks: bool = False,
        anywhere: bool = False,
    ) -> tuple[str, int]:
        return await tools.settle(
            self.store, self.partition, claimed, write, seq, outcome, limits=LIMITS, blocks=blocks, anywhere=anywhere
        )

    def _settled(self, write: Acceptance, seq: int, outcome: str, *, blocks: bool = False) -> None:
        self.taken[outcome] += 1
        number = 0
        if outcome == "synced":
            number = self.seq = self.seq + 1
        target, *others = self.touched(write)
        target.own.remove((seq, write))
        for each in others:
            each.affected.remove((seq, write))
        for each in (target, *others):
            each.touch()
            if number:
                each.land(number)
            elif outcome != "superseded":
                each.epoch += 1
        if outcome in ("rejected", "dead"):
            self.ended.append((seq, write))
        self._move_watermark()
        if blocks:
            target.blocked = write.record.id
        if blocks or not target.own:
            target.due, target.lease = False, None
        else:
            target.ready, target.lease = False, Lease(target.owner)

    def _move_watermark(self) -> None:
        unsettled = [seq for each in self.resources.values() for seq, _ in each.own]
        self.processed = min(unsettled) - 1 if unsettled else self.seq

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
            assert target.lease is not None
            stalls = target.lease.stalls if target.own and not write_id else 0
            target.lease = Lease("", stalls) if stalls else None
            target.due, target.ready = target.due and bool(target.own), delay == 0

    async def extend(self) -> None:
        if not self.claims:
            return
        chosen = self.random.choices(self.claims, k=2)
        kept = await queue.extend(self.store, self.partition, [claimed for _, claimed in chosen], 1000)
        assert kept == {target.digest for target, claimed in chosen if target.owner == claimed.fence}
        for target, _ in chosen:
            if target.digest in kept:
                target.ready = False

    async def end_lease(self) -> None:
        target = self.random.choice(self.targets)
        if target.due:
            await tools.end_lease(self.client, self.partition, target.digest)
            target.ready = True

    async def begin(self) -> None:
        target = self.random.choice(list(self.resources.values()))
        remembered = await entries.begin(self.store, self.partition, resource(target.path))
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

    # --- an operator's steps ---

    async def seize(self) -> None:
        target, fence = self.random.choice(self.targets), self.new_fence()
        is_held = bool(target.owner) and target.due and not target.ready
        for _ in range(self.times):
            claimed = await ended.seize(self.store, self.partition, target.digest, fence, 1000)
            assert (claimed is None) == is_held
        if claimed is not None:
            target.take_over(fence)
            target.ready = False
            assert target.lease is not None
            assert claimed.stalls == target.lease.stalls
            self.claims.append((target, claimed))

    async def release(self) -> None:
        if not self.claims:
            return
        target, claimed = self.claims[-1]
        for _ in range(self.times):
            await ended.release(self.store, self.partition, claimed)
        if target.owner == claimed.fence:
            assert target.lease is not None
            stalls = target.lease.stalls if target.own else 0
            target.lease = Lease("", stalls) if stalls else None
            target.due = target.ready = bool(target.own) and not target.blocked

    async def revive(self) -> None:
        if not self.ended:
            return
        seq, write = self.random.choice(self.ended)
        target = self.touched(write)[0]
        is_held = bool(target.owner) and target.due and not target.ready
        for _ in range(self.times):
            assert await self._revive(write) == ("busy" if is_held else "revived")
        if is_held:
            return
        self.taken["revived"] += 1
        self.ended.remove((seq, write))
        if target.owner:
            target.take_over("")
        self._queued(seq, write)
        self._move_watermark()
        self._unblock(target, write)
        if not target.blocked:
            target.due = target.ready = True

    async def _revive(self, write: Acceptance) -> str:
        digest, affected = write.target.digest, write.record.affected
        return await ended.revive(self.store, self.partition, write.record.id, digest, affected)

    async def dismiss(self) -> None:
        if self.dropped:
            assert await self._revive(self.random.choice(self.dropped)[1]) in ("dead", "rejected")
        if self.ended:
            self.taken["dropped"] += 1
            await self._dismiss(self.random.choice(self.ended))

    async def _dismiss(self, chosen: tuple[int, Acceptance]) -> None:
        _, write = chosen
        target = self.touched(write)[0]
        for _ in range(self.times):
            answer = await ended.dismiss(self.store, self.partition, write.record.id, target.digest, 60)
            assert answer == "dropped"
        self.ended.remove(chosen)
        self.dropped.append(chosen)
        if self._unblock(target, write) and target.own:
            target.due = target.ready = True

    @staticmethod
    def _unblock(target: Resource, write: Acceptance) -> bool:
        unblocks = target.blocked == write.record.id
        if unblocks:
            target.blocked = ""
        return unblocks

    # --- what must hold ---

    async def check(self) -> None:
        await self._check_queue()
        await self._check_counts()
        for each in self.resources.values():
            await self._check_resource(each)

    async def _check_queue(self) -> None:
        partition, client = self.partition, self.client
        pending = [(seq, write) for each in self.resources.values() for seq, write in each.own]
        members = {f"{seq:016d}|{write.record.id}".encode() for seq, write in pending}
        assert set(await raw(client, "ZRANGE", partition.queue, 0, -1)) == members
        due = {each.digest.encode() for each in self.resources.values() if each.due}
        assert set(await raw(client, "ZRANGE", partition.due, 0, -1)) == due
        leases = {
            each.digest.encode(): f"{each.lease.owner}|{each.lease.stalls}".encode()
            for each in self.resources.values()
            if each.lease
        }
        found = as_mapping(await raw(client, "HGETALL", partition.lease))
        assert {name: value for name, value in found.items() if value != b"|0"} == {
            name: value for name, value in leases.items() if value != b"|0"
        }
        blocked = {each.digest.encode(): each.blocked.encode() for each in self.resources.values() if each.blocked}
        assert as_mapping(await raw(client, "HGETALL", partition.blocked)) == blocked
        listed = [await raw(client, "ZRANGE", partition.ended(outcome), 0, -1) for outcome in ("dead", "rejected")]
        assert {name for names in listed for name in names} == {write.record.id.encode() for _, write in self.ended}
        # Nothing that could be sent is left where nobody looks.
        assert all(each.due or each.blocked for each in self.resources.values() if each.own)
        depth = await queue.depth(self.store, partition)
        assert (depth.writes, depth.due, depth.blocked) == (len(pending), len(due), len(blocked))
        assert (depth.newest, depth.processed) == (self.seq, self.processed)

    async def _check_counts(self) -> None:
        pending = [write for each in self.resources.values() for _, write in each.own]
        assert int(await raw(self.client, "GET", self.partition.bytes) or 0) == sum(write.size for write in pending)
        principals = Counter(write.record.principal for write in pending)
        found = as_mapping(await raw(self.client, "HGETALL", self.partition.principals))
        assert {name.decode(): int(count) for name, count in found.items()} == principals

    async def _check_resource(self, each: Resource) -> None:
        asking = self.random.choice(((), ("p1",), ("p2",), ("p1", "p2")))
        looked = await tools.look(self.store, resource(each.path), *asking, key=each.path)
        assert [item.number for item in looked.pending] == each.seen_by(asking)
        assert all(item.record is not None for item in (*looked.pending, *looked.landed))
        state, lifetime = looked.state, await raw(self.client, "PTTL", self.partition.state(each.digest))
        if not each.known:
            assert state is None
            return
        assert state is not None
        assert (state.trimmed, state.landed, state.pending) == (each.trimmed, each.landed, each.pending)
        counts = await tools.pending_counts(self.client, self.partition, resource(each.path))
        assert counts == (each.pending, sum(write.size for _, write in each.own))
        assert [item.number for item in looked.landed] == each.landed_list
        assert looked.is_whole
        assert (lifetime == -1) == (each.pending > 0)

    # --- the end ---

    async def drain(self) -> None:
        """Let go of what has ended, then settle everything."""
        for chosen in tuple(self.ended):
            await self._dismiss(chosen)
        for target, claimed in self.claims:
            if not target.due and target.owner == claimed.fence:  # an operator's
                await ended.release(self.store, self.partition, claimed)
                target.lease, target.due = None, bool(target.own)
        for each in self.targets:
            if each.due:
                await tools.end_lease(self.client, self.partition, each.digest)
        for found in await queue.claim(self.store, self.partition, "last", 100, 1000):
            target = next(each for each in self.targets if each.digest == found.digest)
            target.take_over("last")
            if not target.own:
                await queue.defer(self.store, self.partition, found, delay=0)
                target.due, target.lease = False, None
            for seq, write in tuple(target.own):
                assert (await self._settle(found, write, seq, "synced"))[0] == "settled"
                self._settled(write, seq, "synced")
        await self.check()
        assert not any(each.pending for each in self.resources.values())


@pytest.mark.parametrize("seed", range(8))
async def test_any_steps_leave_the_queue_as_the_model_has_it(seed: int, store: RegionStore, client: Redis) -> None:
    machine = Machine(store, client, seed)
    for _ in range(STEPS):
        await machine.step()
    assert len(machine.taken) >= 4  # of six ways to end and come back
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
