"""The way of a read: memory, region, origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from ..effects import Effects
from ..errors import RegionUnavailableError
from ..exchange import Exchange, Handler
from ..overlay import Folder, Outcome
from ..records import CacheRecord
from ..responses import ReadyResponse, streaming_too
from ..semantics.freshness import Judgement, Verdict
from ..settings import Settings
from ..sites.serving import Sites
from ..store.region import RegionStore
from ..tasks import Tasks
from . import answers
from .bypass import bypass_reason
from .fetch import marker_of
from .fetching import Fetching
from .filling import Fills
from .judging import covers, is_early, is_servable, judged
from .lookup import Found, entry_key, find, is_known, wait_until_told
from .memory import Memory
from .misses import Misses
from .origin import OriginReads
from .passing import pass_by, pass_dirty
from .plans import Plan, Plans

RENEW_AT: Final = 4
"""A base is renewed when it lacks this part of the landed writes that are kept: one in four."""
_FOLDED_ALL_THE_SAME: Final = ("no-store",)
"""Reasons to bypass the cache under which one's own pending writes are folded; under the others they are admitted."""
_UNKNOWN: Final = (Outcome.UNKNOWN_PENDING,)


class Reader:
    """Answer reads. `memories` by region name; `tasks` for what goes on after an answer."""

    def __init__(
        self, settings: Settings, effects: Effects, memories: Mapping[str, Memory], tasks: Tasks, sites: Sites | None
    ) -> None:
        self._settings = settings.cache
        self._folder = Folder(effects)
        self._memories = memories
        self._fills = Fills(memories, tasks, settings.cache.keep)
        self._fetching = Fetching(settings.cache, self._fills, tasks)
        self.misses = Misses(settings.cache, self._fetching, self._fills)
        self.plans = Plans(settings, memories, self._fills, sites)
        self._origin = OriginReads(settings.cache, self._folder, self._fetching, self.plans)

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for fetches under way."""
        await self._fetching.drain(timeout)

    def close(self) -> None:
        """Transform nothing more, when nothing is read any more."""
        self._fetching.close()

    async def follow(self, plan: Plan) -> web.Response | None:
        """Answer a request by its plan, where that is a plain hit again; else None."""
        now = plan.store.now()
        ready = self.plans.kept(plan, now)
        if ready is None:
            ready, now = await self.plans.read(plan), plan.store.now()
        return None if ready is None else ReadyResponse(ready, now)

    async def read(self, exchange: Exchange, handler: Handler) -> web.StreamResponse:
        """Answer a request with a method that reads.

        While a region that comes first cannot be reached, answers that a write behind can change admit that they may
        lack what is pending there.
        """
        skipped: list[RegionStore] = []
        if not exchange.touched:
            return await self._read(exchange, handler, skipped)

        def admit(streamed: web.StreamResponse) -> None:
            if skipped:
                answers.admit_unreachable(streamed.headers)

        try:
            with streaming_too(admit):
                response = await self._read(exchange, handler, skipped)
        except web.HTTPException as answer:
            if skipped:
                answers.may_lack_pending(answer)
            raise
        return answers.may_lack_pending(response) if skipped else response

    async def _read(self, exchange: Exchange, handler: Handler, skipped: list[RegionStore]) -> web.StreamResponse:
        reason = bypass_reason(exchange)
        if reason and not exchange.touched:
            return await pass_by(exchange, handler, "bypass", detail=reason)
        for store in exchange.stores:
            if (kept := self._kept(exchange, store)) is not None:
                return kept
            generation = self._memories[store.name].generation
            await self._fills.settled(store, exchange)
            try:
                found = await find(store, exchange, self._folder)
            except RegionUnavailableError:
                skipped.append(store)
                continue
            if reason and found.fold.outcome is Outcome.CLEAN:
                break
            if reason and reason not in _FOLDED_ALL_THE_SAME:
                return await pass_dirty(exchange, handler, store)
            return await self._answer(exchange, handler, found, generation)
        if reason:
            return await pass_by(exchange, handler, "bypass", detail=reason)
        if exchange.terms.only_if_cached:
            return answers.not_cached(None)
        return await pass_by(exchange, handler, "miss", detail="no-region" if skipped else None)

    def _kept(self, exchange: Exchange, store: RegionStore) -> web.Response | None:
        """Answer from the process's own memory, if a fresh entry is there."""
        memory = self._memories[store.name]
        if exchange.touched or not len(memory):
            return None
        record = _recalled(exchange, memory)
        if record is None or not covers(exchange, record):
            return None
        judgement = judged(exchange, record, store)
        if judgement.verdict is not Verdict.FRESH or is_early(exchange, record, judgement):
            return None  # the region may have a newer one, or what is needed to fetch it
        self.plans.learn(exchange, store, record.vary)
        return answers.stored(exchange, record, judgement.age, answers.hit_status(store.name, judgement, "memory"))

    def _keep(self, exchange: Exchange, found: Found, record: CacheRecord, generation: int) -> None:
        if exchange.touched:
            return
        memory = self._memories[found.store.name]
        base_key = entry_key(exchange)
        if found.key != base_key:
            memory.put(base_key, marker_of(exchange, record, found.known), exchange.resource.digest, generation)
        memory.put(found.key, record, exchange.resource.digest, generation)

    async def _answer(self, exchange: Exchange, handler: Handler, found: Found, generation: int) -> web.StreamResponse:
        if found.fold.outcome is Outcome.UNKNOWN_PENDING and not exchange.terms.only_if_cached:
            found = await wait_until_told(found, exchange, self._folder, self._settings.dirty_wait, _UNKNOWN)
            if found.fold.outcome is Outcome.UNKNOWN_PENDING:
                return await pass_dirty(exchange, handler, found.store)
        if found.fold.absolute:
            self._renew(exchange, handler, found)
            return answers.folded_over(exchange, found.store.name, found.fold, found.entry)
        entry = found.entry
        judgement = judged(exchange, entry, found.store) if entry is not None else None
        if found.usable and judgement and is_servable(exchange, found, judgement):
            return self._serve(exchange, handler, found, found.usable, judgement, generation)
        if exchange.terms.only_if_cached:
            return answers.not_cached(found.store.name)
        return await self._origin.read(exchange, handler, found, judgement)

    def _serve(
        self,
        exchange: Exchange,
        handler: Handler,
        found: Found,
        record: CacheRecord,
        judgement: Judgement,
        generation: int,
    ) -> web.StreamResponse:
        detail = answers.stale_detail(exchange, judgement)
        if detail is not None:
            self._fetching.refresh(exchange, handler, found)
        if found.fold.outcome is not Outcome.CLEAN:
            self._renew(exchange, handler, found)
            return answers.folded_over(exchange, found.store.name, found.fold, record)
        if detail is None:
            if is_early(exchange, record, judgement):
                self._fetching.refresh_for_all(exchange, handler, found, record)
            self._keep(exchange, found, record, generation)
            self.plans.learn(exchange, found.store, record.vary)
        return answers.stored(exchange, record, judgement.age, answers.hit_status(found.store.name, judgement, detail))

    def _renew(self, exchange: Exchange, handler: Handler, found: Found) -> None:
        """Renew a base that lacks landed writes, so that what is folded over it does not stay for ever.

        While writes go on arriving that is done now and then: before so many have landed that the base is given up.
        """
        entry = found.usable
        is_due = not found.has_pending or found.lacking >= self._settings.landed_count // RENEW_AT
        if entry is not None and is_due:
            self._fetching.refresh_for_all(exchange, handler, found, entry)


def _recalled(exchange: Exchange, memory: Memory) -> CacheRecord | None:
    """The entry for a request that a memory has."""
    record = memory.get(entry_key(exchange))
    if record is None or not record.is_marker:
        return record if record is None or exchange.is_current(record) else None
    names, known = record.vary, record.known
    record = memory.get(entry_key(exchange, names, known))
    is_right = record is not None and not record.is_marker and is_known(exchange, names, known, record)
    is_right = is_right and record is not None and exchange.is_current(record)
    return record if is_right else None
