"""The sync loop: claim, send, settle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import Counter
from typing import Final

import msgspec

from ..errors import RegionUnavailableError, StoreError, UnreadableRecordError
from ..keys import resource_digest
from ..records import WriteRecord
from ..settings import Settings
from ..store import queue
from ..store.breaker import Breaker
from ..store.keyspace import Partition
from ..store.queue import Claimed, Queued, SettleLimits, Settlement
from ..store.region import RegionStore
from . import outcome
from .outcome import Attempt, Failure, History, Outcome, Patience, Verdict
from .sender import Sender

logger = logging.getLogger(__name__)

LEASE_SHARE: Final = 0.8
"""The part of a lease within which attempts must have ended."""
_ANSWER_FIELDS: Final = frozenset(
    {"content-encoding", "content-language", "content-type", "etag", "last-modified", "location", "preference-applied"}
)
_UNREADABLE_DELAY: Final = 5.0


class _Claim(msgspec.Struct, frozen=True):
    """A claimed resource with the monotonic time at which sending must have ended."""

    partition: Partition
    claimed: Claimed
    deadline: float


class SyncLoop:
    """Replay one region's writes to the origin: different resources at once, each in its own order.

    Any number of loops may run on one queue, in any processes.
    """

    def __init__(self, store: RegionStore, settings: Settings, sender: Sender) -> None:
        self._store = store
        self._settings = settings.sync
        self._limits = SettleLimits(
            settings.queue.status_seconds,
            settings.cache.landed_seconds,
            settings.cache.landed_count,
            self._settings.lease,
        )
        self._sender = sender
        self._breaker = Breaker(self._settings.breaker_failures, self._settings.breaker_seconds)
        self._wake = asyncio.Event()
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None
        self._drains: set[asyncio.Task[None]] = set()
        self._first_partition = 0
        self.settled: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to work in the background."""
        self._store.events.wakes(self._wake)
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="regioncache: sync")

    async def stop(self) -> None:
        """Claim no more, finish what is being sent, give the rest back."""
        self._stopping = True
        self._wake.set()
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
        while not self._stopping:
            self._wake.clear()
            drains, problem = await self._dispatch()
            if isinstance(problem, RegionUnavailableError):
                logger.debug("%s", problem)
            elif problem:  # a loop that dies is a queue that never drains
                logger.error("region %s: a turn of the sync loop failed", self._store.name, exc_info=problem)
            if not drains and not self._stopping:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._settings.poll)

    async def _dispatch(self) -> tuple[list[asyncio.Task[None]], BaseException | None]:
        """Claim for the free slots and begin to replay; with the first error of a claim, if there is one."""
        shares = self._shares(self._settings.concurrency - len(self._drains))
        found = await asyncio.gather(*(self._claim(*share) for share in shares), return_exceptions=True)
        drains = [
            self._spawn(claim) for claims in found if not isinstance(claims, BaseException) for claim in claims
        ]  # fmt: skip
        return drains, next((some for some in found if isinstance(some, BaseException)), None)

    def _shares(self, free: int) -> list[tuple[Partition, int]]:
        """Deal free slots out to the partitions in turn: what has no slot is not claimed, so that no lease runs out."""
        partitions = self._store.partitions
        if free <= 0 or self._stopping or self._breaker.is_open:
            return []
        count = len(partitions)
        chosen = [partitions[(self._first_partition + n) % count] for n in range(min(count, free))]
        self._first_partition = (self._first_partition + len(chosen)) % count
        return [(partition, min(self._settings.claim, max(1, free // count))) for partition in chosen]

    def _spawn(self, claim: _Claim) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._drain(claim), name="regioncache: replay")
        self._drains.add(task)
        task.add_done_callback(self._drained)
        return task

    def _drained(self, task: asyncio.Task[None]) -> None:
        self._drains.discard(task)
        self._wake.set()

    async def _claim(self, partition: Partition, limit: int) -> list[_Claim]:
        deadline = time.monotonic() + LEASE_SHARE * self._settings.lease
        fence = secrets.token_hex(8)
        found = await queue.claim(self._store, partition, fence, limit, self._settings.lease)
        return [_Claim(partition, claimed, deadline) for claimed in found]

    async def _drain(self, claim: _Claim) -> None:
        try:
            await self._replay_all(claim)
        except StoreError as error:
            logger.debug("%s", error)
        except Exception:
            logger.exception("region %s: a replay failed", self._store.name)

    async def _replay_all(self, claim: _Claim) -> None:
        """Replay the writes of one resource in order until none is left or it must be given back."""
        head = True
        while True:
            try:
                queued = await queue.read_queue(self._store, claim.partition, claim.claimed.digest)
            except UnreadableRecordError as error:
                logger.warning("region %s: left to a newer edge: %s", self._store.name, error)
                await self._give_back(claim, _UNREADABLE_DELAY)
                return
            if not queued:
                await self._give_back(claim, 0.0)
                return
            for item in queued:
                if not await self._replay(claim, item, stalled=head and claim.claimed.stalls > 0):
                    return
                head = False

    async def _replay(self, claim: _Claim, item: Queued, *, stalled: bool) -> bool:
        """Replay one write; False when the resource is done or given back. `stalled`: somebody may have sent it."""
        if item.record is None:
            return await self._bury_corrupt(claim, item)
        write, patience = item.record, self._patience(item.record)
        remaining = claim.deadline - time.monotonic()
        if self._stopping or remaining < self._settings.timeout:
            await self._give_back(claim, 0.0)
            return False
        if self._breaker.is_open:
            await self._give_back(claim, self._breaker.remaining)
            return False
        body = await self._body(claim, write)
        if body is None:
            return await self._settle(claim, item, Outcome(Verdict.DEAD, "body-lost"), None)
        if not patience.repeatable:
            earlier = await queue.begin_attempt(self._store, claim.partition, claim.claimed, write.id)
            if earlier is None:
                return self._lost(write.id, "lost")
            if doomed := outcome.before_sending(earlier, patience):
                return await self._settle(claim, item, doomed, None)
        attempt = await self._sender.send(write, body, item.seq, claim.claimed.fence, self._settings.timeout)
        return await self._after(claim, item, write, attempt, stalled=stalled)

    async def _after(self, claim: _Claim, item: Queued, write: WriteRecord, attempt: Attempt, *, stalled: bool) -> bool:
        self._note_health(attempt)
        history = await self._history(claim, write, attempt, stalled=stalled)
        judged = outcome.judge(write.method, attempt, history, self._patience(write), now=time.time())
        if judged.verdict is not Verdict.RETRY:
            return await self._settle(claim, item, judged, attempt)
        delay = outcome.retry_delay(
            history.tries, judged.retry_after, base=self._settings.retry_base, cap=self._settings.retry_cap
        )
        logger.info("write %s: %s; again in %.1f s", write.id, judged.reason, delay)
        # What an outage of the origin refuses is no fault of the write.
        is_outage = attempt.failure is Failure.NOT_SENT or self._breaker.is_open
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

    def _note_health(self, attempt: Attempt) -> None:
        was_out = self._breaker.is_open or self._breaker.is_half_open
        if attempt.failure is None and attempt.status not in (502, 503, 504):
            self._breaker.succeeded()
        else:
            self._breaker.failed()
        if self._breaker.is_open and not was_out:
            problem = attempt.problem or f"status {attempt.status}"
            logger.warning("region %s: writes wait: %s", self._store.name, problem)
        elif was_out and not self._breaker.remaining and not self._breaker.is_half_open:
            logger.warning("region %s: the origin takes writes again", self._store.name)

    async def _history(self, claim: _Claim, write: WriteRecord, attempt: Attempt, *, stalled: bool) -> History:
        """What happened before; only asked for where it can matter."""
        if 200 <= attempt.status < 300:
            return History(0, False, 0.0)
        known = await queue.status(self._store, claim.partition, write.id) or {}
        age = self._store.now() - write.accepted / 1000
        # One that may not be repeated is never sent after an unknown outcome.
        unknown = write.repeatable and (stalled or known.get("unknown") == "1")
        return History(int(known.get("tries", 0)), unknown, age)

    async def _body(self, claim: _Claim, write: WriteRecord) -> bytes | None:
        if not write.body_stored:
            return write.body
        return await queue.read_body(self._store, claim.partition, write.id)

    async def _settle(self, claim: _Claim, item: Queued, judged: Outcome, attempt: Attempt | None) -> bool:
        write = item.record
        assert write is not None  # noqa: S101 - a corrupt one is buried
        affected = tuple(resource_digest(write.site, path) for path in write.affects)
        synced = judged.verdict is Verdict.SYNCED
        dead = judged.verdict is Verdict.DEAD
        digests = (claim.claimed.digest, *affected)
        settlement = Settlement(
            judged.verdict.value,
            {"reason": judged.reason, **_answer_fields(attempt)},
            # What the origin may have applied, the other regions must hear of.
            announce=msgspec.msgpack.encode((write.group, digests)) if synced or dead else b"",
            keep_record=dead,
        )
        return await self._end(claim, item.seq, write.id, settlement, affected)

    async def _bury_corrupt(self, claim: _Claim, item: Queued) -> bool:
        write_id = await queue.write_id_at(self._store, claim.partition, item.seq)
        if write_id is None:
            return False
        known = await queue.status(self._store, claim.partition, write_id) or {}
        affected = tuple(known.get("affected", "").split())
        settlement = Settlement("dead", {"reason": "corrupt"}, keep_record=True)
        return await self._end(claim, item.seq, write_id, settlement, affected)

    async def _end(
        self, claim: _Claim, seq: int, write_id: str, settlement: Settlement, affected: tuple[str, ...]
    ) -> bool:
        answer, left = await queue.settle(
            self._store, claim.partition, claim.claimed, write_id, seq, settlement, affected, self._limits
        )
        if answer == "settled":
            self.settled[settlement.outcome] += 1
        if answer in ("settled", "already"):
            if settlement.outcome != "synced":
                logger.warning("write %s is %s: %s", write_id, settlement.outcome, settlement.fields.get("reason"))
            return left > 0
        return self._lost(write_id, answer)

    def _lost(self, write_id: str, answer: str) -> bool:
        logger.warning("write %s: its resource belongs to another sender now (%s)", write_id, answer)
        return False

    async def _give_back(self, claim: _Claim, delay: float) -> None:
        await queue.defer(self._store, claim.partition, claim.claimed, delay=delay)

    def _patience(self, write: WriteRecord) -> Patience:
        return Patience(
            write.max_tries or self._settings.max_tries, write.max_age or self._settings.max_age, write.repeatable
        )


def _answer_fields(attempt: Attempt | None) -> dict[str, str]:
    """The origin's answer as fields of the write's status."""
    if attempt is None or not attempt.status:
        return {}
    headers = [(name, value) for name, value in attempt.headers if name.lower() in _ANSWER_FIELDS]
    return {
        "answer": str(attempt.status),
        "answer_headers": json.dumps(headers),
        "answer_body": attempt.body.decode("latin-1"),
    }
