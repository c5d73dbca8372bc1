"""What operators do with queued writes: list, show, retry, drop. For the control API and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from ..errors import (
    RecordError,
    RegionUnavailableError,
    UnknownWriteError,
    WriteBusyError,
    WriteEndedError,
    WriteError,
)
from ..hooks import Hooks, ended_event
from ..records import WriteRecord
from ..settings import Settings
from ..store import ended, queue
from ..store.ended import Kind, Place
from ..store.keyspace import Partition
from ..store.outbox import announce
from ..store.queue import Claimed, SettleLimits, Settlement
from ..store.region import RegionStore
from ..store.sealed import open_record
from . import listing
from .depths import QueueDepth, queue_depths
from .listing import EVERY, Order, WriteDetail, WriteFilter, WritePage, WriteSummary
from .status import find_write

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 10.0
"""How long a write is asked for whose resource a sender holds."""
LOOKED_AT: Final = 5_000
"""Writes that one page looks through for those that its filter means."""
AT_MOST: Final = 1_000
"""Writes that are retried or dropped together unless it is said otherwise."""
SEIZE_SECONDS: Final = 10.0
"""How long a resource stays seized whose operator vanished."""
_READ_AHEAD: Final = 100
_AT_ONCE: Final = 32
_POLL_SECONDS: Final = 0.1


class Treated(msgspec.Struct, frozen=True):
    """How many writes a filter meant, for how many of them it was done, and which of them could not be and why.

    `more` says that there are more than were asked for.
    """

    meant: int
    done: int
    failed: tuple[tuple[str, str], ...]
    more: bool


class _Next(Enum):
    """What a step towards the end of a write comes to."""

    DONE = "done"
    LOOK_AGAIN = "look-again"
    BUSY = "busy"


class WriteDesk:
    """The writes of some regions, for an operator.

    Everything here may be repeated, at the same time as any sender or other operator works, and broken off anywhere.
    All of it raises `RegionUnavailableError` for a region that cannot be reached. `hooks` hear of the writes that end
    here.
    """

    def __init__(self, stores: Mapping[str, RegionStore], settings: Settings, hooks: Hooks | None = None) -> None:
        self._stores = stores
        self._settings = settings
        self._limits = msgspec.structs.replace(SettleLimits.of(settings), lease=SEIZE_SECONDS)
        self._hooks = hooks or Hooks()

    async def depths(self) -> list[QueueDepth]:
        """Tell how much each region has pending, and how full it is."""
        return await queue_depths(self._stores.values(), self._settings.queue)

    async def find(
        self,
        region: str,
        kind: Kind,
        where: WriteFilter = EVERY,
        *,
        order: Order = "newest",
        limit: int = 50,
        cursor: str = "",
    ) -> WritePage:
        """List the writes of a region: pending ones by when they were accepted, others by when they ended.

        A page has up to `limit` writes. It may have fewer before the list is at its end, for it looks through a
        bounded number: go on while there is a cursor. Raises `KeyError` for an unknown region, `ValueError` for an
        unknown kind and for a cursor that is none.
        """
        if kind not in ended.KINDS:
            raise ValueError(f"kind {kind!r} is none of {', '.join(map(repr, ended.KINDS))}")
        store, newest = self._stores[region], order == "newest"
        positions = listing.read_cursor(cursor)
        lists = [
            _List(store, partition, kind, newest=newest, after=positions.get(partition.number))
            for partition in store.partitions
        ]
        where = where.normalized()
        found: list[WriteSummary] = []
        for _ in range(LOOKED_AT):
            ahead = [(head, each) for each in lists if (head := await each.head()) is not None]
            if not ahead or len(found) >= limit:
                break
            first, of = (max if newest else min)(ahead, key=lambda pair: _time(pair[0], kind))
            of.take()
            found += [first] if where.matches(first) else []
        is_end = not [each for each in lists if await each.head() is not None]
        reached = {} if is_end else {each.number: each.position for each in lists if each.position is not None}
        return WritePage(tuple(found), listing.make_cursor(reached))

    async def show(self, write_id: str) -> WriteDetail:
        """Show one write with its request, its answer and what waits for it. Raises `UnknownWriteError`."""
        store, partition, known = await self._known(write_id)
        digest = known.get("digest", "")
        blocked_by, waiting, element = await asyncio.gather(
            ended.blocker(store, partition, digest),
            ended.waiting(store, partition, digest),
            ended.element(store, partition, known, write_id),
        )
        record, body, unreadable = await _request(store, partition, element, write_id)
        return WriteDetail(
            summary=listing.summary_of(write_id, store.name, known),
            headers=listing.request_headers(record) if record else (),
            body=None if body is None else listing.preview(body),
            unreadable=unreadable,
            effect=record.effect if record else "",
            answer=listing.answer_of(known),
            superseded_by=known.get("by", ""),
            affected=tuple(known.get("affected", "").split()),
            waiting=max(0, waiting - (known["state"] == "pending")),
            blocked_by=blocked_by if blocked_by != write_id else "",
        )

    async def retry(self, write_id: str, *, wait: float = WAIT_SECONDS) -> None:
        """Queue a dead or rejected write again, at its old place; nothing happens to one that is pending.

        It keeps its id and its idempotency key; what it blocked waits until it has ended. While a sender holds its
        resource it is tried again for `wait` seconds. Raises `UnknownWriteError`, `WriteEndedError`, `WriteBusyError`.
        """
        await self._until_done(write_id, self._retry, wait)

    async def drop(self, write_id: str, *, wait: float = WAIT_SECONDS) -> None:
        """Let a write go for good: a pending one ends dead, and of a dead or rejected one only the status stays.

        What it blocked goes on. While a sender holds the resource of a pending one it is tried again for `wait`
        seconds. Raises `UnknownWriteError`, `WriteEndedError`, `WriteBusyError`.
        """
        await self._until_done(write_id, self._drop, wait)

    async def retry_all(
        self, region: str, kind: Kind, where: WriteFilter = EVERY, *, limit: int = AT_MOST, wait: float = WAIT_SECONDS
    ) -> Treated:
        """Queue the dead or rejected writes that a filter means again, the oldest first. Raises `KeyError`."""
        return await self._treat(region, kind, where, limit, lambda write_id: self.retry(write_id, wait=wait))

    async def drop_all(
        self, region: str, kind: Kind, where: WriteFilter = EVERY, *, limit: int = AT_MOST, wait: float = WAIT_SECONDS
    ) -> Treated:
        """Let the writes that a filter means go. Raises `KeyError`."""
        return await self._treat(region, kind, where, limit, lambda write_id: self.drop(write_id, wait=wait))

    # --- one write ---

    async def _known(self, write_id: str) -> tuple[RegionStore, Partition, dict[str, str]]:
        place = find_write(write_id, self._stores)
        known = await queue.status(*place, write_id) if place else None
        if place is None or known is None:
            raise UnknownWriteError(write_id)
        return *place, known

    async def _until_done(
        self,
        write_id: str,
        step: Callable[[RegionStore, Partition, str, dict[str, str]], Awaitable[_Next]],
        wait: float,
    ) -> None:
        deadline = time.monotonic() + wait
        while True:
            store, partition, known = await self._known(write_id)
            with store.events.watch(known["digest"]) as changed:
                came_to = await step(store, partition, write_id, known)
                if came_to is _Next.DONE:
                    return
                if came_to is _Next.BUSY:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        raise WriteBusyError(write_id)
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(changed.wait(), min(remaining, _POLL_SECONDS))

    async def _retry(self, store: RegionStore, partition: Partition, write_id: str, known: dict[str, str]) -> _Next:
        affected = known.get("affected", "").split()
        answer = await ended.revive(
            store, partition, write_id, known["digest"], affected, idempotency=known.get("idempotency", "")
        )
        if answer == "revived" and known["state"] != "pending":
            logger.info("write %s is queued again", write_id)
        return _next_after(answer, write_id)

    async def _drop(self, store: RegionStore, partition: Partition, write_id: str, known: dict[str, str]) -> _Next:
        if known["state"] == "pending":
            return await self._end(store, partition, write_id, known)
        answer = await ended.dismiss(store, partition, write_id, known["digest"], self._settings.queue.status_seconds)
        return _next_after(answer, write_id)

    async def _end(self, store: RegionStore, partition: Partition, write_id: str, known: dict[str, str]) -> _Next:
        """End a pending write; its request is let go of at the next look."""
        claimed = await ended.seize(store, partition, known["digest"], secrets.token_hex(8), SEIZE_SECONDS)
        if claimed is None:
            return _Next.BUSY
        try:
            if claimed.stalls:
                with contextlib.suppress(RecordError):
                    queued = await queue.read_queue(store, partition, claimed.digest)
                    await queue.doubt_successors(store, partition, claimed, queued)
            await self._settle(store, partition, claimed, write_id, known)
        finally:
            await ended.release(store, partition, claimed)
        return _Next.LOOK_AGAIN

    async def _settle(
        self, store: RegionStore, partition: Partition, claimed: Claimed, write_id: str, known: dict[str, str]
    ) -> None:
        affected = tuple(known.get("affected", "").split())
        may_be_applied = known.get("tries", "0") != "0" or known.get("unknown", "0") not in ("", "0") or claimed.stalls
        settlement = Settlement(
            "dead",
            {"reason": "dropped"},
            announce=announce(known.get("group", ""), (claimed.digest, *affected)) if may_be_applied else b"",
            attempted=False,
            anywhere=True,
            idempotency=known.get("idempotency", ""),
        )
        seq = int(known["seq"])
        answer, _ = await queue.settle(store, partition, claimed, write_id, seq, settlement, affected, self._limits)
        if answer in ("settled", "already"):
            logger.warning("write %s is dead: dropped", write_id)
            self._hooks.announce(ended_event(write_id, store.name, "dead", settlement.fields, known, now=store.now()))

    # --- many writes ---

    async def _treat(
        self, region: str, kind: Kind, where: WriteFilter, limit: int, treat: Callable[[str], Awaitable[None]]
    ) -> Treated:
        """Treat the writes that are there now: those of one resource one after another, in their order."""
        writes, more = await self._all(region, kind, where, limit)
        by_resource: defaultdict[str, list[WriteSummary]] = defaultdict(list)
        for write in sorted(writes, key=lambda write: write.number):
            by_resource[write.resource].append(write)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def treat_each(some: Sequence[WriteSummary]) -> list[tuple[str, str]]:
            async with slots:
                outcomes = [(write.id, await _problem_of(treat(write.id))) for write in some]
            return [(write_id, problem) for write_id, problem in outcomes if problem]

        failed = await asyncio.gather(*(treat_each(some) for some in by_resource.values()))
        problems = tuple(failure for some in failed for failure in some)
        return Treated(len(writes), len(writes) - len(problems), problems, more)

    async def _all(self, region: str, kind: Kind, where: WriteFilter, limit: int) -> tuple[list[WriteSummary], bool]:
        writes: list[WriteSummary] = []
        cursor = ""
        while True:
            page = await self.find(region, kind, where, order="oldest", limit=limit + 1 - len(writes), cursor=cursor)
            writes += page.writes
            cursor = page.cursor
            if not cursor or len(writes) > limit:
                return writes[:limit], len(writes) > limit


class _List:
    """One partition's list of writes, read ahead. `position` is how far it has been taken."""

    def __init__(
        self, store: RegionStore, partition: Partition, kind: Kind, *, newest: bool, after: tuple[int, str] | None
    ) -> None:
        self.number = partition.number
        self.position = after
        self._store = store
        self._partition = partition
        self._kind: Kind = kind
        self._newest = newest
        self._read_to = Place(*after) if after else None
        self._ahead: deque[tuple[Place, WriteSummary | None]] = deque()
        self._is_end = False

    async def head(self) -> WriteSummary | None:
        """The next write; None at the end."""
        while True:
            while self._ahead:
                summary = self._ahead[0][1]
                if summary is not None:
                    return summary
                self.take()
            if self._is_end:
                return None
            await self._read()

    def take(self) -> None:
        """Go past the next write."""
        place, _ = self._ahead.popleft()
        self.position = (place.number, place.write_id)

    async def _read(self) -> None:
        found = await ended.places(
            self._store, self._partition, self._kind, newest=self._newest, after=self._read_to, count=_READ_AHEAD
        )
        self._is_end = len(found) < _READ_AHEAD
        self._read_to = found[-1] if found else self._read_to
        known = await ended.overviews(self._store, self._partition, [place.write_id for place in found])
        gone = [place.write_id for place, fields in zip(found, known, strict=True) if fields is None]
        await ended.forget(self._store, self._partition, self._kind, gone)
        for place, fields in zip(found, known, strict=True):
            shown = listing.summary_of(place.write_id, self._store.name, fields) if fields else None
            self._ahead.append((place, shown))


async def _request(
    store: RegionStore, partition: Partition, element: bytes | None, write_id: str
) -> tuple[WriteRecord | None, bytes | None, str]:
    """The request of a write and its body; if one of them cannot be read, why."""
    if element is None:
        return None, None, ""
    record: WriteRecord | None = None
    try:
        record = open_record(store.cipher, element.partition(b"\n")[2])
        body = await queue.read_body(store, partition, write_id) if record.body_stored else record.body
    except RecordError as error:
        return record, None, str(error)
    return record, body, "" if body is not None else "its body is lost"


async def _problem_of(treated: Awaitable[Any]) -> str:
    try:
        await treated
    except (WriteError, RegionUnavailableError) as error:
        return str(error)
    return ""


def _next_after(answer: str, write_id: str) -> _Next:
    """What the answer of a script means. Raises `UnknownWriteError`, `WriteEndedError`."""
    if answer in ("revived", "dropped"):
        return _Next.DONE
    if answer == "busy":
        return _Next.BUSY
    if answer == "unknown":
        raise UnknownWriteError(write_id)
    if answer == "pending":  # it has been retried since it was looked at
        return _Next.LOOK_AGAIN
    raise WriteEndedError(write_id, answer)


def _time(write: WriteSummary, kind: Kind) -> float:
    return write.accepted if kind == "pending" else write.settled or 0.0
