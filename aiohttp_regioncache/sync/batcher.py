"""Collect the writes of many resources into bulk requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from ..rules import Bulk, BulkItem, BulkRequest
from .bulk import Form, is_overtaxing, is_whole, may_be_partly_applied, telling
from .leases import Claim, Leases
from .outcome import Attempt, is_success
from .sender import Sender

logger = logging.getLogger(__name__)

REQUESTS: Final = 4
"""Bulk requests under way at once to one endpoint."""
PAUSE: Final = 0.002
"""Seconds without another write after which a request goes out that is not full."""
LONGEST_PAUSE: Final = 0.02
"""Seconds that the first write of a request waits for others, however many come."""

Post = Callable[[str, BulkRequest, int, float], Awaitable[Attempt]]
"""`(endpoint, request, number of writes, seconds)` -> the origin's answer to the request as a whole."""


class Reply(msgspec.Struct, frozen=True):
    """What became of some writes of one resource that were handed in together.

    `attempts` are those of the first ones, in order; none when nothing was sent. `alone`: the first one is to be sent
    by itself. `doubted`: all of them went out before, and nobody knows what became of them.
    """

    attempts: tuple[Attempt, ...] = ()
    alone: bool = False
    doubted: bool = False

    def doubtful(self, methods: Sequence[str]) -> list[int]:
        """Which of the writes, of these methods, the origin may have applied although no attempt here says so.

        The attempt of the first one that failed says all there is to say, unless it went out before. What the origin
        says of those behind it does not count, though it may have applied them.
        """
        tried = len(self.attempts)
        well = [is_success(method, each) for method, each in zip(methods, self.attempts, strict=False)]
        if tried == len(methods) and all(well):
            return []
        failed = next((n for n in range(tried) if not well[n]), tried)
        unheard = {n for n in range(failed + 1, tried) if well[n] or self.attempts[n].is_unknown}
        return [n for n in range(failed, len(methods)) if self.doubted or n in unheard]


class _Parcel:
    """Consecutive writes of one resource, and who waits for what becomes of them."""

    def __init__(self, claim: Claim, items: Sequence[BulkItem]) -> None:
        self.claim = claim
        self.items = list(items)
        self.size = sum(len(item.body) for item in items)
        self.done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.doubted = False
        self.is_taken = False

    def resolve(self, attempts: Sequence[Attempt] = (), *, alone: bool = False) -> None:
        """Say what became of it."""
        if not self.done.done():
            self.done.set_result(Reply(tuple(attempts), alone, self.doubted))

    def fail(self, error: Exception) -> None:
        """Say that nobody could find out what became of it."""
        if not self.done.done():
            self.done.set_exception(error)


class Batcher:
    """Send the writes of one loop to one bulk endpoint, as many together as come together.

    Requests shrink by half when one fails as a whole and grow again when one succeeds: a write that spoils those it
    travels with is soon alone, and requests that take the origin too long become shorter.
    """

    def __init__(self, bulk: Bulk, leases: Leases, sender: Sender, post: Post) -> None:
        self.bulk = bulk
        self._form = Form(bulk)
        self._leases = leases
        self._sender = sender
        self._post = post
        self._limit = bulk.max_writes
        self._waiting: list[_Parcel] = []
        self._count = 0
        self._bytes = 0
        self._carriers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._arrived = 0

    async def send(self, claim: Claim, items: Sequence[BulkItem]) -> Reply:
        """Hand in consecutive writes of a claimed resource that one request may carry; returns what became of them.

        Raises `RegionUnavailableError` when the leases could not be extended.
        """
        parcel = _Parcel(claim, items)
        self._add(parcel)
        self._collect()
        try:
            return await parcel.done
        finally:
            if not parcel.is_taken:
                self._remove(parcel)

    # --- collecting ---

    def _add(self, parcel: _Parcel) -> None:
        self._waiting.append(parcel)
        self._count += len(parcel.items)
        self._bytes += parcel.size
        self._arrived += 1
        self._watch_over(parcel)

    def _remove(self, parcel: _Parcel) -> None:
        self._waiting.remove(parcel)
        self._forget(parcel)

    def _forget(self, parcel: _Parcel) -> None:
        parcel.is_taken = True
        self._count -= len(parcel.items)
        self._bytes -= parcel.size

    def _watch_over(self, parcel: _Parcel) -> None:
        """Look again when the first lease of those that wait has become too short for an attempt."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._leases.spare(parcel.claim)
        if self._watch is None or until < self._watch.when():
            if self._watch is not None:
                self._watch.cancel()
            self._watch = loop.call_at(until, self._give_up)

    def _give_up(self) -> None:
        """Send nothing for those that nobody has taken in time."""
        self._watch = None
        for parcel in self._waiting.copy():
            if self._leases.spare(parcel.claim) > 0:
                self._watch_over(parcel)
            else:
                self._remove(parcel)
                parcel.resolve()

    @property
    def _has_room(self) -> bool:
        return len(self._carriers) < REQUESTS

    def _collect(self) -> None:
        """Send what fills requests; give the rest a moment for others to come."""
        while self._has_room and (self._count >= self._limit or self._bytes >= self.bulk.max_bytes):
            self._dispatch()
        if self._waiting and self._has_room and self._timer is None:
            self._since = time.monotonic()
            self._pause()

    def _pause(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PAUSE, self._paused, self._arrived)

    def _paused(self, arrived: int) -> None:
        self._timer = None
        if self._arrived != arrived and time.monotonic() - self._since < LONGEST_PAUSE:
            return self._pause()
        while self._waiting and self._has_room:
            self._dispatch()
        return None

    def _dispatch(self) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(self._take()), name="regioncache: bulk")
        self._carriers.add(task)
        task.add_done_callback(self._carried)

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._carriers.discard(task)
        self._collect()

    def _take(self) -> list[_Parcel]:
        """The oldest writes that one request may carry; of the first resource's as many as may."""
        taken: list[_Parcel] = []
        count = size = 0
        for parcel in self._waiting:
            count += len(parcel.items)
            size += parcel.size
            if taken and (count > self._limit or size > self.bulk.max_bytes):
                break
            taken.append(parcel)
        self._waiting = self._waiting[len(taken) :]
        for parcel in taken:
            self._forget(parcel)
            del parcel.items[self._limit :]
        return taken

    # --- sending ---

    async def _carry(self, parcels: list[_Parcel]) -> None:
        try:
            await self._deliver(parcels)
        except Exception as error:
            for parcel in parcels:
                parcel.fail(error)

    async def _deliver(self, parcels: list[_Parcel]) -> None:
        """Send some parcels in one request, and again in halves when it was refused as a whole."""
        parcels = [parcel for parcel in parcels if not parcel.done.done()]
        if not parcels:
            return
        async with self._leases.admitted([parcel.claim for parcel in parcels], self._sender) as ours:
            sendable = set(ours)
            sent = [parcel for parcel in parcels if parcel.claim in sendable]
            again = await self._send(sent) if sent else []
        for parcel in parcels:
            if parcel.claim not in sendable:
                parcel.resolve()
        for part in again:
            await self._deliver(part)

    async def _send(self, parcels: list[_Parcel]) -> list[list[_Parcel]]:
        """Send one request; returns the parts in which it is to be sent again."""
        items = [item for parcel in parcels for item in parcel.items]
        request = self._form.encode(items)
        if request is None:
            for parcel in parcels:
                parcel.resolve(alone=True)
            return []
        seconds = min(parcel.claim.remaining for parcel in parcels)
        attempt = await self._post(self.bulk.endpoint, request, len(items), seconds)
        attempts = self._form.decode(attempt, items)
        self._sender.note_health(telling(attempt, attempts))
        self._adapt(attempt, len(items), is_usable=attempts is not None)
        if attempts is None and may_be_partly_applied(attempt, len(items)):
            for parcel in parcels:
                parcel.doubted = True
        if attempts is not None or is_whole(attempt):
            _hand_out(parcels, attempts or [attempt] * len(items))
            return []
        if len(items) == 1:
            # What says yes or no at an address of its own, not to this write, need not mean it.
            parcels[0].resolve(alone=True)
            return []
        return _halves(parcels)

    def _adapt(self, attempt: Attempt, count: int, *, is_usable: bool) -> None:
        if is_usable:
            self._limit = min(self.bulk.max_writes, self._limit * 2)
        elif is_overtaxing(attempt) or (count > 1 and 200 <= attempt.status < 300):
            self._limit = max(1, min(self._limit, count) // 2)
            said = attempt.problem or f"status {attempt.status} for all"
            logger.info("bulk request to %s, writes: %d: %s", self.bulk.endpoint, count, said)


def _hand_out(parcels: Sequence[_Parcel], attempts: Sequence[Attempt]) -> None:
    start = 0
    for parcel in parcels:
        end = start + len(parcel.items)
        parcel.resolve(attempts[start:end])
        start = end


def _halves(parcels: list[_Parcel]) -> list[list[_Parcel]]:
    """Two parts of a refused request; of one resource's writes the first half, whose outcomes the rest waits for."""
    middle = (len(parcels) + 1) // 2
    if len(parcels) > 1:
        return [parcels[:middle], parcels[middle:]]
    del parcels[0].items[(len(parcels[0].items) + 1) // 2 :]
    return [parcels]
