"""The sync loop: claim, send, settle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from ..durability import parse_durability
from ..errors import RegionUnavailableError, StoreError, UnreadableRecordError
from ..hooks import Hooks
from ..records import WriteRecord
from ..rules import Bulk, BulkRequest
from ..settings import Settings
from ..store import queue
from ..store.keyspace import Partition
from ..store.queue import Queued
from ..store.region import RegionStore
from . import chain, outcome
from .batcher import Batcher
from .coalesce import candidates, untried
from .leases import Claim, Leases
from .outcome import Attempt, Failure, History, Outcome, Patience, Verdict
from .outlets import Outlet, Outlets
from .sender import Sender
from .settling import UNREADABLE_DELAY, Settler, note_lost

logger = logging.getLogger(__name__)

HOLD_DELAY: Final = 5.0
"""Seconds after which a write is looked at again whose site is missing or disabled."""
CROWDED_DELAY: Final = 0.25
"""Seconds after which a write is looked at again whose origin is busy, while those of other sites need the room."""


_UNASKED: Final = History(0, False, 0.0)
PATIENCE: Final = 0.02
"""Seconds that work is left to the process that made it."""
_ROOM: Final = 4
"""How many origins' slots a loop has room for."""


class _Ready(msgspec.Struct, frozen=True, gc=False):
    """A write that can be sent: as it is queued, as it goes out, its body, where it goes, and when it is given up."""

    item: Queued
    write: WriteRecord
    body: bytes
    outlet: Outlet
    patience: Patience


class SyncLoop:
    """Replay one region's writes to the origin: different resources at once, each in its own order.

    Any number of loops may run on one queue, in any processes. `hooks` hear how writes end. `outlets` know where the
    writes of each site go, and the bulk forms that this edge knows; a write for any other endpoint goes alone.
    """

    def __init__(
        self,
        store: RegionStore,
        settings: Settings,
        outlets: Outlets,
        hooks: Hooks | None = None,
    ) -> None:
        self._store = store
        self._settings = settings.sync
        self._outlets = outlets
        self._leases = Leases(store, self._settings)
        self._wake = asyncio.Event()
        self._settler = Settler(store, settings, self._leases, hooks or Hooks(), self._left_slot)
        self._batchers: WeakKeyDictionary[Outlet, dict[str, Batcher]] = WeakKeyDictionary()
        # What waits for a bulk request needs no slot of its own.
        self._capacity = max(self._settings.concurrency, self._settings.claim if outlets.may_bulk else 0)
        if outlets.are_many:  # one that has all its slots taken leaves room for the others
            self._capacity = max(self._capacity, _ROOM * self._settings.concurrency)
        self._worker: asyncio.Task[None] | None = None
        self._drains: set[asyncio.Task[None]] = set()
        self._using: Counter[Sender] = Counter()
        self._first_partition = 0
        self._later: asyncio.TimerHandle | None = None
        self._may_have_left = True

    def start(self) -> None:
        """Begin to work in the background."""
        self._store.events.on_work(self._hear)
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="regioncache: sync")

    @property
    def settled(self) -> Counter[str]:
        """How many writes it has settled, by outcome."""
        return self._settler.settled

    @property
    def is_stopping(self) -> bool:
        """Whether it claims no more."""
        return self._leases.is_stopping

    def wake(self) -> None:
        """Look for due writes now."""
        self._wake.set()

    def _hear(self, at_once: bool) -> None:
        """Look for work that was announced, for what another process looks for itself a moment later."""
        if at_once:
            self._wake.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(PATIENCE, self._look_later)

    def _look_later(self) -> None:
        self._later = None
        self._wake.set()

    async def stop(self) -> None:
        """Claim no more, finish what is being sent, give the rest back."""
        self._leases.is_stopping = True
        self._wake.set()
        if self._later is not None:
            self._later.cancel()
        if self._worker:
            await asyncio.wait([self._worker])
        if self._drains:
            await asyncio.wait(self._drains)

    async def turn(self) -> int:
        """Claim what is due, replay it and settle it; returns how many resources were claimed.

        Raises `RegionUnavailableError`.
        """
        drains, problem = await self._dispatch()
        await asyncio.gather(*drains)
        if problem:
            raise problem
        return len(drains)

    async def _work(self) -> None:
        """Go on claiming while there are free slots, whatever those that are taken wait for."""
        while not self.is_stopping:
            self._wake.clear()
            drains, problem = await self._dispatch()
            if isinstance(problem, RegionUnavailableError):
                logger.debug("%s", problem)
            elif problem:  # a loop that dies is a queue that never drains
                logger.error("region %s: a turn of the sync loop failed", self._store.name, exc_info=problem)
            if not (drains and self._may_have_left) and not self.is_stopping:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll):
                        await self._wake.wait()

    async def _dispatch(self) -> tuple[list[asyncio.Task[None]], BaseException | None]:
        """Claim for the free slots and begin to replay; with the first error of a claim, if there is one."""
        # What is being settled leaves its slot to another one, though it may come back for the next write.
        settling = min(self._settler.under_way, self._capacity)
        shares = self._shares(self._capacity - len(self._drains) + settling)
        found = await asyncio.gather(*(self._leases.claim(*share) for share in shares), return_exceptions=True)
        emptied = 0
        drains: list[asyncio.Task[None]] = []
        for claims, (_, most) in zip(found, shares, strict=True):
            if not isinstance(claims, BaseException):
                emptied += len(claims) < most
                drains += map(self._spawn, claims)
        self._may_have_left = emptied < len(self._store.partitions)
        return drains, next((some for some in found if isinstance(some, BaseException)), None)

    async def _give_back(self, claim: Claim, delay: float) -> None:
        await self._leases.give_back(claim, delay)
        self._look_in(delay)

    def _look_in(self, delay: float) -> None:
        """Look again when a resource that was given back is due, unless that is done anyway by then."""
        if delay < self._settings.poll:
            asyncio.get_running_loop().call_later(delay, self._wake.set)

    def _left_slot(self) -> None:
        """Look for what has found no slot until now."""
        if len(self._drains) >= self._capacity:
            self._wake.set()

    def _shares(self, free: int) -> list[tuple[Partition, int]]:
        """Deal free slots out to the partitions in turn: what has no slot is not claimed, so that no lease runs out."""
        partitions = self._store.partitions
        if free <= 0 or self.is_stopping or self._outlets.is_closed:
            return []
        count = len(partitions)
        chosen = [partitions[(self._first_partition + n) % count] for n in range(min(count, free))]
        self._first_partition = (self._first_partition + len(chosen)) % count
        return [(partition, min(self._settings.claim, max(1, free // count))) for partition in chosen]

    def _spawn(self, claim: Claim) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._drain(claim), name="regioncache: replay")
        self._drains.add(task)
        task.add_done_callback(self._drained)
        return task

    def _drained(self, task: asyncio.Task[None]) -> None:
        self._drains.discard(task)
        if self._may_have_left:
            self._wake.set()

    async def _drain(self, claim: Claim) -> None:
        try:
            await self._replay_all(claim)
        except StoreError as error:
            logger.debug("%s", error)
        except Exception:
            logger.exception("region %s: a replay failed", self._store.name)

    async def _replay_all(self, claim: Claim) -> None:
        """Replay the writes of one resource in order until none is left or it must be given back."""
        stalled = claim.claimed.stalls > 0
        queued: Sequence[Queued] = ()
        while queued := queued or await self._read(claim, stalled=stalled):
            found = () if stalled else candidates(queued)
            if found and (replaced := await self._untried(claim, found)):
                if not await self._settler.supersede(claim, replaced):
                    return
                queued = ()  # what stands behind them may replace the last one, too
                continue
            ended = await self._replay(claim, queued, stalled=stalled)
            if not ended:
                return
            queued, stalled = queued[ended:], False

    async def _read(self, claim: Claim, *, stalled: bool) -> Sequence[Queued]:
        """Read what comes next; the resource is given back when that is nothing."""
        queued, claim.queued = claim.queued, ()
        try:
            queued = queued or await queue.read_queue(self._store, claim.partition, claim.claimed.digest)
        except UnreadableRecordError as error:
            logger.warning("region %s: left to a newer edge: %s", self._store.name, error)
            await self._give_back(claim, UNREADABLE_DELAY)
            return ()
        if not queued:
            await self._give_back(claim, 0.0)  # something may have come to it meanwhile
        elif stalled:
            await self._doubt_successors(claim, queued)
        return queued

    async def _replay(self, claim: Claim, queued: Sequence[Queued], *, stalled: bool) -> int:
        """Replay the first write, and those that go with it; returns how many ended.

        0 when the resource is done or given back. `stalled`: somebody may have sent the first one.
        """
        item = queued[0]
        if item.record is None:
            return int(await self._settler.bury(claim, item))
        write = item.record
        outlet = await self._outlets.find(write.site)
        if outlet is None:
            await self._give_back(claim, HOLD_DELAY)
            return 0
        if self._is_crowded_out(outlet):
            await self._give_back(claim, CROWDED_DELAY)
            return 0
        if not self._outlets.are_many:
            return await self._replay_to(outlet, claim, queued, write, stalled=stalled)
        self._using[outlet.sender] += 1
        try:
            return await self._replay_to(outlet, claim, queued, write, stalled=stalled)
        finally:
            self._using[outlet.sender] -= 1
            if not self._using[outlet.sender]:
                del self._using[outlet.sender]

    async def _replay_to(
        self, outlet: Outlet, claim: Claim, queued: Sequence[Queued], write: WriteRecord, *, stalled: bool
    ) -> int:
        """Replay the first write to its origin, and those that go with it; returns as `_replay`."""
        item = queued[0]
        if self._leases.is_closed(outlet.sender) or not await self._leases.renew([claim]):
            return int(await self._not_sent(claim, write, outlet))
        body = await self._stored_body(claim, write) if write.body_stored else write.body
        if body is None:
            return int(await self._settler.settle(claim, item, Outcome(Verdict.DEAD, "body-lost"), None))
        if write.chained:
            resolved = await chain.resolve(self._store, claim.partition, write, claim.claimed.digest, stalled=stalled)
            if isinstance(resolved, chain.Broken):
                return int(await self._settler.settle(claim, item, resolved.outcome, resolved.answer, attempted=False))
            write = resolved
        ready = _Ready(item, write, body, outlet, self._patience(write))
        batcher = self._batcher(ready, claim.claimed.stalls if stalled else 0)
        if batcher is None:
            return int(await self._send_alone(claim, ready, stalled=stalled))
        run = [ready]
        if batcher.bulk.keeps_order and len(queued) > 1:
            run += await self._followers(claim, batcher.bulk, ready, queued[1:])
        return await self._send_together(claim, batcher, run, stalled=stalled)

    def _is_crowded_out(self, outlet: Outlet) -> bool:
        """Whether a write should not wait here for its origin: one that is slow must leave room for other sites'."""
        if not self._outlets.are_many or 2 * len(self._drains) <= self._capacity:
            return False
        return outlet.sender.slots.locked() or _ROOM * self._using[outlet.sender] >= self._capacity

    # --- sending ---

    async def _send_alone(self, claim: Claim, ready: _Ready, *, stalled: bool) -> bool:
        async with self._leases.admitted([claim], ready.outlet.sender) as ours:
            attempt = await self._attempt(claim, ready, stalled=stalled) if ours else None
        if attempt is None:
            return await self._not_sent(claim, ready.write, ready.outlet)
        if isinstance(attempt, Outcome):
            return await self._settler.settle(claim, ready.item, attempt, None)
        return await self._after(claim, ready, attempt, stalled=stalled)

    async def _attempt(self, claim: Claim, ready: _Ready, *, stalled: bool) -> Attempt | Outcome | None:
        """Send one write by itself; an outcome when it may not be sent, None when it is no longer ours."""
        write, patience = ready.write, ready.patience
        earlier: int | None = 0
        if not patience.repeatable:
            earlier = await queue.begin_attempt(
                self._store, claim.partition, claim.claimed, write.id, parse_durability(write.durability)
            )
        if earlier is None:
            claim.is_lost = True
            return None
        if doomed := outcome.before_sending(earlier, claim.claimed.stalls if stalled else 0, patience):
            return doomed
        if claim.remaining <= 0:  # the note took too long, or this process was stopped
            return Attempt(failure=Failure.NOT_SENT, problem="its lease was at its end")
        sender = ready.outlet.sender
        attempt = await sender.send(
            write, ready.body, ready.item.seq, claim.claimed.fence, self._timeout(claim.remaining)
        )
        sender.note_health(attempt)
        return attempt

    def _batcher(self, ready: _Ready, stalls: int) -> Batcher | None:
        """What sends a write together with others; None for one that goes alone, or not at all."""
        write, batcher = ready.write, self._batcher_of(ready.outlet, ready.write.bulk)
        if batcher is None or not write.repeatable or len(ready.body) > batcher.bulk.max_bytes:
            return None
        return None if outcome.before_sending(0, stalls, ready.patience) else batcher

    def _batcher_of(self, outlet: Outlet, endpoint: str) -> Batcher | None:
        bulk = outlet.bulks.get(endpoint)
        if bulk is None:
            return None
        batchers = self._batchers.setdefault(outlet, {})
        if endpoint not in batchers:
            sender = outlet.sender

            async def post(endpoint: str, request: BulkRequest, count: int, seconds: float) -> Attempt:
                return await sender.send_bulk(endpoint, request, count, self._timeout(seconds))

            batchers[endpoint] = Batcher(bulk, self._leases, sender, post)
        return batchers[endpoint]

    async def _followers(self, claim: Claim, bulk: Bulk, first: _Ready, queued: Sequence[Queued]) -> Sequence[_Ready]:
        """The writes that go in one request with the one before them, to an origin that keeps their order."""
        followers: list[_Ready] = []
        size = len(first.body)
        for item in queued[: bulk.max_writes - 1]:
            write = item.record
            # What a chained one asks for is known when the one before it has ended.
            if write is None or write.bulk != bulk.endpoint or not write.repeatable or write.chained:
                break
            body = await self._stored_body(claim, write) if write.body_stored else write.body
            if body is None or size + len(body) > bulk.max_bytes:
                break
            size += len(body)
            followers.append(_Ready(item, write, body, first.outlet, self._patience(write)))
        return followers

    async def _send_together(self, claim: Claim, batcher: Batcher, run: Sequence[_Ready], *, stalled: bool) -> int:
        """Send consecutive writes with those of other resources; returns how many ended, as `_replay`."""
        fence = claim.claimed.fence
        items = [run[0].outlet.sender.item(each.write, each.body, each.item.seq, fence) for each in run]
        reply = await batcher.send(claim, items)
        # Kept in mind is of which writes nobody knows what became of them.
        if doubtful := reply.doubtful([each.write.method for each in run]):
            ids = [run[number].write.id for number in doubtful]
            await queue.doubt(self._store, claim.partition, claim.claimed, ids)
        if reply.alone:
            return int(await self._send_alone(claim, run[0], stalled=stalled))
        if not reply.attempts:
            return int(await self._not_sent(claim, run[0].write, run[0].outlet))
        for number, (each, attempt) in enumerate(zip(run, reply.attempts, strict=False)):
            if not await self._after(claim, each, attempt, stalled=stalled and number == 0):
                return 0
            if not outcome.is_success(each.write.method, attempt):
                return number + 1  # those behind it are sent again
        return len(reply.attempts)

    def _timeout(self, seconds: float) -> float:
        """Seconds for an attempt that must have ended within `seconds`; aiohttp takes 0 for no limit."""
        return max(0.001, min(self._settings.timeout, seconds))

    async def _doubt_successors(self, claim: Claim, queued: Sequence[Queued]) -> None:
        """A sender that vanished may have sent more than the first write, where the origin keeps their order."""
        record = queued[0].record
        outlet = await self._outlets.find(record.site) if record is not None else None
        bulk = outlet.bulks.get(record.bulk) if outlet is not None and record is not None else None
        if bulk is None or bulk.keeps_order:  # an edge of other rules may have sent it
            await queue.doubt_successors(self._store, claim.partition, claim.claimed, queued)

    # --- leaving out ---

    async def _untried(self, claim: Claim, found: Sequence[Queued]) -> Sequence[Queued]:
        """The writes at the head of which only the last need be sent, of those that look like it."""
        ids = [item.record.id for item in found if item.record]
        statuses = await asyncio.gather(*(queue.status(self._store, claim.partition, each) for each in ids))
        return untried(found, [known or {} for known in statuses])

    # --- outcomes ---

    async def _after(self, claim: Claim, ready: _Ready, attempt: Attempt, *, stalled: bool) -> bool:
        item, write = ready.item, ready.write
        # What happened before is only asked for where it can matter.
        is_well = 200 <= attempt.status < 300
        history = _UNASKED if is_well else await self._history(claim, write, stalled=stalled)
        judged = outcome.judge(write.method, attempt, history, ready.patience, now=time.time())
        if judged.verdict is not Verdict.RETRY:
            return await self._settler.settle(claim, item, judged, attempt, doubtful=history.unknown)
        delay = outcome.retry_delay(
            history.tries, judged.retry_after, base=self._settings.retry_base, cap=self._settings.retry_cap
        )
        logger.info("write %s: %s; again in %.1f s", write.id, judged.reason, delay)
        self._look_in(delay)
        # What an outage of the origin refuses is no fault of the write.
        is_outage = attempt.failure is Failure.NOT_SENT or ready.outlet.sender.is_suspect
        await queue.defer(
            self._store,
            claim.partition,
            claim.claimed,
            delay=delay,
            write_id=write.id,
            tries=0 if is_outage else 1,
            fields={"problem": judged.reason, "unknown": str(int(attempt.is_unknown or history.unknown))},
        )
        return False

    async def _history(self, claim: Claim, write: WriteRecord, *, stalled: bool) -> History:
        known = await queue.status(self._store, claim.partition, write.id) or {}
        age = self._store.now() - max(write.accepted, int(known.get("revived", 0))) / 1000
        # One that may not be repeated is never sent after an unknown outcome.
        unknown = write.repeatable and (stalled or known.get("unknown") == "1")
        return History(int(known.get("tries", 0)), unknown, age)

    async def _stored_body(self, claim: Claim, write: WriteRecord) -> bytes | None:
        return await queue.read_body(self._store, claim.partition, write.id)

    async def _not_sent(self, claim: Claim, write: WriteRecord, outlet: Outlet) -> bool:
        """Give a resource back whose write was not sent, if it is still ours."""
        if claim.is_lost:
            note_lost(write.id, "lost")
            return False
        await self._give_back(claim, 0.0 if self.is_stopping else outlet.sender.breaker.remaining)
        return False

    def _patience(self, write: WriteRecord) -> Patience:
        return Patience(
            write.max_tries or self._settings.max_tries,
            write.max_age or self._settings.max_age,
            write.repeatable,
            self._settings.max_stalls,
        )
