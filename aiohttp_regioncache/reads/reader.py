"""The way of a read: memory, region, origin."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from ..effects import Effects
from ..errors import RegionUnavailableError
from ..exchange import Exchange, Handler
from ..overlay import Fold, Folder, Outcome
from ..problems import Unanswered
from ..records import CacheRecord, from_wire
from ..responses import (
    CACHE_STATUS,
    Streaming,
    as_it_came,
    ask,
    ask_marked,
    cache_name,
    mark,
    streaming_too,
    unattended,
    with_status,
)
from ..semantics.cache_status import cache_status
from ..semantics.freshness import Judgement, Verdict, judge, refreshes_early
from ..semantics.requests import PLAIN_REQUEST, RequestTerms
from ..semantics.storing import shared_despite_credentials
from ..semantics.vary import Known
from ..settings import Cache
from ..store import entries
from ..store.entries import Remembered
from ..store.region import RegionStore
from ..tasks import Tasks
from . import answers
from .bypass import Bypass
from .decide import Standing, base_of
from .fetch import SERVER_ERRORS, Fetched, Stored, fetch, fetch_head, is_fresh, marker_of, range_of, shareable
from .flights import Flight, Flights
from .lookup import Found, entry_key, find, refold
from .memory import Memory
from .parts import covers

logger = logging.getLogger(__name__)

REFETCHES: Final = 3
"""Fetches for one request, should writes of unknown effect land during each."""
RENEW_AT: Final = 4
"""A base is renewed when it lacks this part of the landed writes that are kept: one in four."""
_FOLDED_ALL_THE_SAME: Final = ("no-store",)
"""Reasons to bypass the cache under which one's own pending writes are folded; under the others they are admitted."""
_UNKNOWN_YET: Final = (Outcome.UNKNOWN_PENDING, Outcome.NEEDS_BASE)
"""What a fold over the origin's own answer comes to while nobody can tell what a pending write does."""
_CLEAN: Final = Fold(Outcome.CLEAN)
_UNTOLD: Final = Fold(Outcome.UNKNOWN_PENDING)


class _StreamedError(Exception):
    """An answer that goes out as it comes, where there is nobody to take it."""


class Reader:
    """Answer reads. `memories` by region name; `tasks` for what goes on after an answer."""

    def __init__(self, settings: Cache, effects: Effects, memories: Mapping[str, Memory], tasks: Tasks) -> None:
        self._settings = settings
        self._folder = Folder(effects)
        self._memories = memories
        self._tasks = tasks
        self._flights: Flights[Fetched] = Flights()
        self._bypass = Bypass(settings.exclude)
        self._renewing: set[tuple[str, str]] = set()
        self._filling: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for fetches under way."""
        await self._flights.drain(timeout)

    async def read(self, exchange: Exchange, handler: Handler) -> web.StreamResponse:
        """Answer a request with a method that reads.

        While a region that comes first cannot be reached, answers that a write behind can change admit that they may
        lack what is pending there.
        """
        skipped: list[RegionStore] = []

        def admit(streamed: web.StreamResponse) -> None:
            if skipped and exchange.touched:
                answers.admit_unreachable(streamed.headers)

        try:
            with streaming_too(admit):
                response = await self._read(exchange, handler, skipped)
        except web.HTTPException as answer:
            if skipped and exchange.touched:
                answers.may_lack_pending(answer)
            raise
        return answers.may_lack_pending(response) if skipped and exchange.touched else response

    async def _read(self, exchange: Exchange, handler: Handler, skipped: list[RegionStore]) -> web.StreamResponse:
        reason = self._bypass.reason(exchange)
        if reason and not exchange.touched:
            return await self._pass(exchange, handler, "bypass", detail=reason)
        for store in exchange.stores:
            if (kept := self._kept(exchange, store)) is not None:
                return kept
            generation = self._memories[store.name].generation
            await self._until_filled(store, exchange)
            try:
                found = await find(store, exchange, self._folder)
            except RegionUnavailableError:
                skipped.append(store)
                continue
            if reason and found.fold.outcome is Outcome.CLEAN:
                break
            if reason and reason not in _FOLDED_ALL_THE_SAME:
                return await self._dirty(exchange, handler, store)
            return await self._answer(exchange, handler, found, generation)
        if reason:
            return await self._pass(exchange, handler, "bypass", detail=reason)
        if exchange.terms.only_if_cached:
            return answers.not_cached(None)
        return await self._pass(exchange, handler, "miss", detail="no-region" if skipped else None)

    async def _pass(
        self, exchange: Exchange, handler: Handler, fwd: str, *, region: str | None = None, detail: str | None = None
    ) -> web.StreamResponse:
        """Leave a request to the handler as it is."""
        status = cache_status(cache_name(region), fwd=fwd, detail=detail)
        return await ask_marked(exchange.request, handler, status)

    async def _as_it_is(
        self, exchange: Exchange, handler: Handler, found: Found, fwd: str, detail: str | None = None
    ) -> web.StreamResponse:
        """Leave a request to the handler that cannot be folded for; pending writes that it misses are admitted."""
        if found.fold.outcome is not Outcome.CLEAN:
            return await self._dirty(exchange, handler, found.store)
        return await self._pass(exchange, handler, fwd, region=found.store.name, detail=detail)

    # --- memory ---

    def _kept(self, exchange: Exchange, store: RegionStore) -> web.Response | None:
        """Answer from the process's own memory, if a fresh entry is there."""
        memory = self._memories[store.name]
        if exchange.touched or not len(memory):
            return None
        record = memory.get(entry_key(exchange))
        if record is not None and record.is_marker:
            record = memory.get(entry_key(exchange, record.vary, record.known))
        if record is None or record.is_marker or not _covers(exchange, record):
            return None
        judgement = _judge(exchange, record, store)
        if judgement.verdict is not Verdict.FRESH or _is_early(exchange, record, judgement):
            return None  # the region may have a newer one, or what is needed to fetch it
        return answers.stored(exchange, record, judgement.age, answers.hit_status(store.name, judgement, "memory"))

    def _keep(self, exchange: Exchange, found: Found, record: CacheRecord, generation: int) -> None:
        if exchange.touched:
            return
        memory = self._memories[found.store.name]
        base_key = entry_key(exchange)
        if found.key != base_key:
            marker = marker_of(exchange, record, found.known)
            memory.put(base_key, marker, exchange.resource.digest, generation)
        memory.put(found.key, record, exchange.resource.digest, generation)

    # --- region ---

    async def _answer(self, exchange: Exchange, handler: Handler, found: Found, generation: int) -> web.StreamResponse:
        if found.fold.outcome is Outcome.UNKNOWN_PENDING and not exchange.terms.only_if_cached:
            found = await self._wait(exchange, found, (Outcome.UNKNOWN_PENDING,))
            if found.fold.outcome is Outcome.UNKNOWN_PENDING:
                return await self._dirty(exchange, handler, found.store)
        if found.fold.absolute:
            self._renew(exchange, handler, found)
            return self._folded(exchange, found.store, found.fold, found.entry)
        entry = found.entry
        judgement = _judge(exchange, entry, found.store) if entry is not None else None
        if found.usable and judgement and self._is_servable(exchange, found, judgement):
            return self._serve(exchange, handler, found, found.usable, judgement, generation)
        if exchange.terms.only_if_cached:
            return answers.not_cached(found.store.name)
        return await self._from_origin(exchange, handler, found, judgement)

    @staticmethod
    def _is_servable(exchange: Exchange, found: Found, judgement: Judgement) -> bool:
        known = found.fold.outcome in (Outcome.CLEAN, Outcome.FOLDED, Outcome.GONE)
        return known and judgement.verdict in (Verdict.FRESH, Verdict.STALE_USABLE) and _covers(exchange, found.entry)

    def _serve(
        self,
        exchange: Exchange,
        handler: Handler,
        found: Found,
        record: CacheRecord,
        judgement: Judgement,
        generation: int,
    ) -> web.StreamResponse:
        stale = judgement.verdict is Verdict.STALE_USABLE
        if stale:
            self._refresh(exchange, handler, found)
        if found.fold.outcome is not Outcome.CLEAN:
            self._renew(exchange, handler, found)
            return self._folded(exchange, found.store, found.fold, record)
        if not stale:
            if _is_early(exchange, record, judgement):
                self._refresh_for_all(exchange, handler, found, record)
            self._keep(exchange, found, record, generation)
        status = answers.hit_status(found.store.name, judgement, "stale-while-revalidate" if stale else None)
        return answers.stored(exchange, record, judgement.age, status)

    def _folded(
        self, exchange: Exchange, store: RegionStore, fold: Fold, base: CacheRecord | None
    ) -> web.StreamResponse:
        headers = from_wire(base.headers) if base is not None else ()
        return answers.folded(exchange, store.name, fold, headers)

    async def _wait(self, exchange: Exchange, found: Found, unknown: Sequence[Outcome]) -> Found:
        """Wait a bounded time for one's own write of unknown effect to land."""
        limit = self._settings.dirty_wait if exchange.dirty_wait is None else exchange.dirty_wait
        deadline = time.monotonic() + limit
        with found.store.events.watch(exchange.resource.digest) as changed:
            while True:
                changed.clear()
                found = await self._again(exchange, found)
                remaining = deadline - time.monotonic()
                if remaining <= 0 or found.fold.outcome not in unknown:
                    return found
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(remaining, 1.0))  # an announcement may get lost

    async def _again(self, exchange: Exchange, found: Found) -> Found:
        """Look once more; what was found before stands while the region cannot be reached."""
        with contextlib.suppress(RegionUnavailableError):
            return await find(found.store, exchange, self._folder)
        return found

    async def _dirty(self, exchange: Exchange, handler: Handler, store: RegionStore) -> web.StreamResponse:
        """Give the origin's answer, which lacks a pending write of the principal's own."""
        status = cache_status(cache_name(store.name), fwd="stale", detail="dirty")

        def admit(response: web.StreamResponse) -> None:
            mark(response, status)
            answers.keep_out_of_caches(response.headers)

        response, raised = await ask(exchange.request, handler, admit)
        if not response.prepared:
            admit(response)
        return as_it_came(response, raised)

    # --- origin ---

    def _renew(self, exchange: Exchange, handler: Handler, found: Found) -> None:
        """Renew a base that lacks landed writes, so that what is folded over it does not stay for ever.

        While writes go on arriving that is done now and then: before so many have landed that the base is given up.
        """
        entry = found.usable
        is_due = not found.has_pending or found.lacking >= self._settings.landed_count // RENEW_AT
        if entry is not None and is_due:
            self._refresh_for_all(exchange, handler, found, entry)

    def _refresh_for_all(self, exchange: Exchange, handler: Handler, found: Found, entry: CacheRecord) -> None:
        """Refresh an entry, unless the answer would be for the request's principal alone."""
        is_free = exchange.owner or not exchange.has_credentials
        if is_free or shared_despite_credentials(from_wire(entry.headers)):
            self._refresh(exchange, handler, found)

    def _refresh(self, exchange: Exchange, handler: Handler, found: Found) -> None:
        """Refresh an entry in the background, never twice at once."""
        name = (found.store.name, found.key)
        if exchange.request.method != "GET" or name in self._renewing:
            return
        task = self._tasks.spawn(self._refreshed(exchange, handler, found), "refresh")
        if task is not None:
            self._renewing.add(name)
            task.add_done_callback(lambda _: self._renewing.discard(name))

    async def _refreshed(self, exchange: Exchange, handler: Handler, found: Found) -> None:
        """Fetch for the store alone: the request has its answer, and its connection may serve another by now."""
        with contextlib.suppress(_StreamedError, UnicodeEncodeError), unattended():
            await self._fly(exchange, handler, found, in_background=True)

    async def _from_origin(
        self, exchange: Exchange, handler: Handler, found: Found, judgement: Judgement | None
    ) -> web.StreamResponse:
        if exchange.request.method == "HEAD":
            return await self._head(exchange, handler, found, judgement)
        for attempt in range(1, REFETCHES + 1):
            try:
                fetched, remembered, begun = await self._ask(exchange, handler, found, judgement)
            except UnicodeEncodeError:  # header octets that cannot be sent on in another request
                return await self._as_it_is(exchange, handler, found, "bypass", "header")
            except Exception:
                if (stale := self._instead(exchange, found, judgement)) is None:
                    raise
                logger.warning("%s: the origin failed; served stale", exchange.target.path, exc_info=True)
                return stale
            if fetched.failed and (stale := self._instead(exchange, found, judgement, silent=fetched.is_unanswered)):
                return stale
            fold = await self._refolded(exchange, found, fetched, remembered)
            renewed = await self._renewed(exchange, found, fold, attempt) if fold else None
            if renewed is None:
                return await self._fetched(exchange, found, fetched, fold or _UNTOLD, begun)
            found = renewed
        raise AssertionError("the last attempt returns")

    async def _head(
        self, exchange: Exchange, handler: Handler, found: Found, judgement: Judgement | None
    ) -> web.StreamResponse:
        """Ask for the head alone: it renews what is stored, or shows that it is out of date (RFC 9111 4.3.5)."""
        try:
            response = await self._head_of(exchange, handler, found)
        except Exception as error:
            if getattr(error, "status", 500) not in SERVER_ERRORS:
                raise
            if (stale := self._instead(exchange, found, judgement)) is None:
                raise
            return stale
        failed = response.status in SERVER_ERRORS and not response.prepared
        silent = isinstance(response, Unanswered)
        stale = self._instead(exchange, found, judgement, silent=silent) if failed else None
        return response if stale is None else stale

    async def _head_of(self, exchange: Exchange, handler: Handler, found: Found) -> web.StreamResponse:
        entry = found.usable
        if entry is None or entry.status == 206 or found.fold.outcome is not Outcome.CLEAN:
            return await self._as_it_is(exchange, handler, found, "miss")
        stored = Stored(entry, True, await self._remember(exchange, found), found.known)
        try:
            fetched = await fetch_head(
                exchange,
                handler,
                stored,
                entry,
                self._settings,
                clock=found.store.now,
                streaming=self._streaming(exchange, found),
            )
        except UnicodeEncodeError:  # header octets that cannot be sent on in another request
            return await self._as_it_is(exchange, handler, found, "bypass", "header")
        if fetched.record is not None:
            self._spawn_fill(exchange, found, fetched.record, fetched.known, None)
        return await self._fetched(exchange, found, fetched, _CLEAN, True)

    async def _renewed(self, exchange: Exchange, found: Found, fold: Fold, attempt: int) -> Found | None:
        """Look whether another fetch would show more than one whose fold came to this; None when it would not."""
        if attempt == REFETCHES:
            return None
        if fold.outcome is Outcome.UNKNOWN_LANDED and not self._settings.holdoff:
            return await self._again(exchange, found)
        if fold.outcome in _UNKNOWN_YET and attempt == 1:
            waited = await self._wait(exchange, found, _UNKNOWN_YET)
            return None if waited.fold.outcome in _UNKNOWN_YET else waited
        return None

    async def _ask(
        self, exchange: Exchange, handler: Handler, found: Found, judgement: Judgement | None
    ) -> tuple[Fetched, Remembered | None, bool]:
        """Fetch, together with others if what they get may be had by this request too."""
        fetched, remembered, begun = await self._fly(exchange, handler, found)
        if fetched is not None and (begun or shareable(exchange, fetched)):
            return fetched, remembered, begun
        if (
            fetched is not None
            and fetched.failed
            and self._may_cover(exchange, found, judgement, silent=fetched.is_unanswered)
        ):
            return fetched, remembered, False
        own = None if fetched is None else remembered  # who waited too long stores nothing
        return await self._fetch_once(exchange, handler, found, own), remembered, True

    async def _fly(
        self, exchange: Exchange, handler: Handler, found: Found, *, in_background: bool = False
    ) -> tuple[Fetched | None, Remembered | None, bool]:
        """Fetch, together with others that want the same.

        None: the fetch that was joined takes too long, or its answer goes out as it comes.
        """
        remembered = await self._remember(exchange, found)

        async def fetch_for(flight: Flight[Fetched] | None) -> Fetched:
            return await self._fetch_once(
                exchange, handler, found, remembered, flight=flight, in_background=in_background
            )

        if (exchange.has_credentials and not exchange.owner) or remembered is None:
            return await fetch_for(None), remembered, True
        by_parts = not (in_background or self._may_lack_writes(found, remembered))
        ranged = range_of(exchange) if by_parts else ""
        key = (found.store.name, found.key, remembered.token, remembered.asof, remembered.purge, ranged)
        joined, begun = await self._flights.join(
            key,
            fetch_for,
            self._settings.flight_wait,
            age=self._settings.flight_age,
            unfinished=exchange.terms is not PLAIN_REQUEST,
        )
        return joined, remembered, begun

    async def _remember(self, exchange: Exchange, found: Found) -> Remembered | None:
        """What to store the answer under; None when it is not to be stored, or the region does not answer any more."""
        state = found.state
        is_known = state is not None and state.token.startswith(found.store.run) and found.purge > 0
        if state is not None and is_known and not self._settings.holdoff:
            return Remembered(state.token, state.landed, found.purge)
        try:
            begun = await entries.begin(found.store, found.partition, exchange.resource)
        except RegionUnavailableError:
            return None
        return begun if begun.token else None

    async def _fetch_once(
        self,
        exchange: Exchange,
        handler: Handler,
        found: Found,
        remembered: Remembered | None,
        *,
        flight: Flight[Fetched] | None = None,
        in_background: bool = False,
    ) -> Fetched:
        def streaming(response: web.StreamResponse) -> None:
            if flight is not None:
                flight.leave_alone()
            if in_background:
                raise _StreamedError
            note(response)

        note = self._streaming(exchange, found)
        by_parts = not (in_background or self._may_lack_writes(found, remembered))
        fetched = await fetch(
            exchange,
            handler,
            Stored(found.entry, found.usable is not None, remembered, found.known, by_parts),
            self._settings,
            no_cache=_is_outdated(found),
            clock=found.store.now,
            streaming=streaming,
        )
        if fetched.failed and self._is_kept(exchange, found):
            fetched = msgspec.structs.replace(fetched, record=None)
        record = fetched.record
        filling = self._spawn_fill(exchange, found, record, fetched.known, flight) if record else None
        if flight is not None and (filling is None or not is_fresh(record)):
            flight.land()
        return fetched

    @staticmethod
    def _streaming(exchange: Exchange, found: Found) -> Streaming:
        def note(response: web.StreamResponse) -> None:
            is_dirty = found.fold.outcome is not Outcome.CLEAN
            detail = "dirty" if is_dirty else "stream"
            status = cache_status(cache_name(found.store.name), fwd=_forwarded(exchange, found), detail=detail)
            mark(response, status)
            if is_dirty:
                answers.keep_out_of_caches(response.headers)

        return note

    def _spawn_fill(
        self, exchange: Exchange, found: Found, record: CacheRecord, known: Known, flight: Flight[Fetched] | None
    ) -> asyncio.Task[None] | None:
        name = (found.store.name, exchange.resource.digest)
        task = self._tasks.spawn(self._fill(exchange, found, record, known, flight), "fill")
        if task is None:
            return None
        self._filling[name] = task

        def done(_task: asyncio.Task[None]) -> None:
            if self._filling.get(name) is task:
                del self._filling[name]

        task.add_done_callback(done)
        return task

    async def _until_filled(self, store: RegionStore, exchange: Exchange) -> None:
        """Wait for what is being stored of a resource, so that a request sees what the one before it fetched."""
        if self._filling and (task := self._filling.get((store.name, exchange.resource.digest))) is not None:
            await asyncio.wait((task,))

    async def _fill(
        self, exchange: Exchange, found: Found, record: CacheRecord, known: Known, flight: Flight[Fetched] | None
    ) -> None:
        key = entry_key(exchange, record.vary, known)
        marker = (entry_key(exchange), marker_of(exchange, record, known)) if record.vary else None
        lifetime = record.terms.lifetime + self._settings.keep
        try:
            await entries.fill(found.store, found.partition, exchange.resource, key, record, lifetime, marker)
            self._memories[found.store.name].forget((exchange.resource.digest,))  # what it keeps is older
        except RegionUnavailableError as error:
            logger.debug("not stored: %s", error)
        finally:
            if flight is not None:
                flight.land()

    def _is_kept(self, exchange: Exchange, found: Found) -> bool:
        """Whether what is stored may stand in for failures, whoever asks: none takes its place then."""
        entry = found.entry
        judgement = None if entry is None else _judge(exchange, entry, found.store, PLAIN_REQUEST)
        return self._may_cover(exchange, found, judgement, silent=False)

    @staticmethod
    def _may_cover(exchange: Exchange, found: Found, judgement: Judgement | None, *, silent: bool) -> bool:
        """Whether what is stored may stand in for a failure (RFC 5861 section 4, RFC 9111 section 4.2.4)."""
        if found.entry is None or judgement is None or not _covers(exchange, found.entry):
            return False
        lacks_landed = found.state is not None and found.entry.asof < found.state.landed
        stands = found.standing is Standing.USABLE or (found.standing is Standing.OTHER_RUN and not lacks_landed)
        allowed = judgement.stale_if_unreachable if silent else judgement.stale_if_error
        return stands and allowed and found.fold.outcome in (Outcome.CLEAN, Outcome.FOLDED, Outcome.GONE)

    def _instead(
        self, exchange: Exchange, found: Found, judgement: Judgement | None, *, silent: bool = False
    ) -> web.StreamResponse | None:
        """A stale answer in place of a failure, where that is allowed."""
        entry = found.entry
        if entry is None or judgement is None or not self._may_cover(exchange, found, judgement, silent=silent):
            return None
        if found.fold.outcome is not Outcome.CLEAN:
            return self._folded(exchange, found.store, found.fold, entry)
        status = answers.hit_status(found.store.name, judgement, f"stale-if-{'unreachable' if silent else 'error'}")
        return answers.stored(exchange, entry, judgement.age, status)

    async def _refolded(
        self, exchange: Exchange, found: Found, fetched: Fetched, remembered: Remembered | None
    ) -> Fold | None:
        """Fold over the origin's answer what it may not contain yet; None when that cannot be told any more."""
        if not self._may_lack_writes(found, remembered):
            return _CLEAN
        untold = None if found.fold.outcome is not Outcome.CLEAN else _CLEAN
        snapshot = fetched.snapshot
        if remembered is None or snapshot is None:
            return untold
        private = bool(exchange.owner or fetched.vary or exchange.key_parts) or fetched.record is None
        base = base_of(snapshot.status, snapshot.headers, snapshot.body, remembered.asof, private=private)
        try:
            ids, url = exchange.principal.ids, exchange.cached_as.url
            looked = await entries.look(found.store, found.partition, found.key, exchange.resource, ids, url)
            state = looked.state
            if (
                state is None
                or remembered.asof < state.trimmed
                or (remembered.asof < state.landed and not looked.is_whole)
            ):
                return Fold(Outcome.UNKNOWN_LANDED)  # landed writes that the answer may lack are listed no more
            lists = (looked.landed, looked.pending)
            return await refold(found.store, found.partition, exchange, self._folder, base, *lists)
        except RegionUnavailableError:
            return untold

    @staticmethod
    def _may_lack_writes(found: Found, remembered: Remembered | None) -> bool:
        if found.state is None:
            return False
        return found.state.pending > 0 or remembered is None or found.state.landed > remembered.asof

    async def _fetched(
        self, exchange: Exchange, found: Found, fetched: Fetched, fold: Fold, begun: bool
    ) -> web.StreamResponse:
        region = found.store.name
        if fold.outcome in (Outcome.FOLDED, Outcome.GONE):
            headers = fetched.snapshot.headers if fetched.snapshot else ()
            return answers.folded(exchange, region, fold, headers, fwd=_forwarded(exchange, found))
        dirty = fold.outcome is not Outcome.CLEAN
        status = cache_status(
            cache_name(region),
            fwd=_forwarded(exchange, found),
            fwd_status=fetched.response.status if fetched.revalidated else None,
            stored=fetched.record is not None or None,
            collapsed=not begun,
            detail="dirty" if dirty else None,
        )
        response = self._from_fetched(exchange, fetched, status)
        if dirty:
            response = answers.not_for_storage(response)
        return as_it_came(response, fetched.raised and response is fetched.response)

    @staticmethod
    def _from_fetched(exchange: Exchange, fetched: Fetched, status: str) -> web.StreamResponse:
        if fetched.request is not exchange.request and fetched.record is not None:
            return answers.stored(exchange, fetched.record, fetched.record.initial_age, status)
        snapshot = fetched.snapshot
        conditions = any(name in exchange.request.headers for name in ("If-None-Match", "If-Modified-Since", "Range"))
        # A part that the origin has cut is the client's as it is.
        is_ready = conditions and snapshot is not None and snapshot.status != 206
        if snapshot is None or not (fetched.revalidated or fetched.is_whole or is_ready):
            return with_status(fetched.response, status)
        return answers.conditionally(exchange, snapshot, [(CACHE_STATUS, status)])


def _covers(exchange: Exchange, record: CacheRecord | None) -> bool:
    """Whether a stored response, which may be a part, holds what a request asks for."""
    if record is None or record.status != 206:
        return True
    return covers(exchange.request.method, exchange.headers, record.status, from_wire(record.headers))


def _forwarded(exchange: Exchange, found: Found) -> str:
    """Why a request went to the origin (RFC 9211 section 2.2)."""
    if found.entry is None:
        return "miss"
    was_fresh = _judge(exchange, found.entry, found.store, PLAIN_REQUEST).verdict is Verdict.FRESH
    return "request" if found.usable and was_fresh and found.fold.outcome is Outcome.CLEAN else "stale"


def _is_early(exchange: Exchange, record: CacheRecord, judgement: Judgement) -> bool:
    """Whether this request is one for which a fresh entry is fetched anew."""
    beta = exchange.policy.early_refresh
    return beta > 0 and refreshes_early(judgement.ttl, cost=record.cost, beta=beta, chance=exchange.chance)


def _is_outdated(found: Found) -> bool:
    """Whether what is stored was invalidated or purged: the origin's own caches must not answer then."""
    invalidated = found.standing in (Standing.INVALIDATED, Standing.OTHER_RUN) or found.made_stale
    return invalidated or found.fold.outcome is Outcome.UNKNOWN_LANDED


def _judge(exchange: Exchange, record: CacheRecord, store: RegionStore, asked: RequestTerms | None = None) -> Judgement:
    return judge(
        asked or exchange.terms,
        record.terms,
        initial_age=record.initial_age,
        response_time=record.response_time,
        now=store.now(),
    )
