"""Answer reads with the origin's answer, and the writes over it that it may not contain yet."""

from __future__ import annotations

import functools
import logging
from typing import Final

from aiohttp import web

from ..errors import RegionUnavailableError
from ..exchange import Exchange, Handler
from ..overlay import Fold, Folder, Outcome
from ..problems import Unanswered
from ..responses import CACHE_STATUS, as_it_came, cache_name, with_status
from ..semantics.cache_status import cache_status
from ..semantics.fields import names_any
from ..semantics.freshness import Judgement
from ..settings import Cache
from ..store import entries
from ..store.entries import Remembered
from . import answers
from .decide import base_of
from .fetch import ALLOWED_BY_FIELDS, SERVER_ERRORS, Fetched
from .fetching import Fetching, Got
from .judging import forwarded, may_cover, may_lack_writes
from .lookup import Found, look_again, refold, wait_until_told
from .passing import pass_found
from .plans import Plans

logger = logging.getLogger(__name__)

REFETCHES: Final = 3
"""Fetches for one request, should writes of unknown effect land during each."""
_UNKNOWN_YET: Final = (Outcome.UNKNOWN_PENDING, Outcome.NEEDS_BASE)
"""What a fold over the origin's own answer comes to while nobody can tell what a pending write does."""
_CLEAN: Final = Fold(Outcome.CLEAN)
_UNTOLD: Final = Fold(Outcome.UNKNOWN_PENDING)
_CONDITIONS: Final = ("if-none-match", "if-modified-since", "range")


class OriginReads:
    """Answer reads that what is stored cannot answer."""

    def __init__(self, settings: Cache, folder: Folder, fetching: Fetching, plans: Plans) -> None:
        self._settings = settings
        self._folder = folder
        self._fetching = fetching
        self._plans = plans

    async def read(
        self, exchange: Exchange, handler: Handler, found: Found, judgement: Judgement | None
    ) -> web.StreamResponse:
        """Answer from the origin; where it fails, with what is stored if that is allowed."""
        if exchange.request.method == "HEAD":
            return await self._head(exchange, handler, found, judgement)
        for attempt in range(1, REFETCHES + 1):
            try:
                got = await self._fetching.get(exchange, handler, found, judgement)
            except UnicodeEncodeError:  # header octets that cannot be sent on in another request
                return await pass_found(exchange, handler, found, "bypass", "header")
            except Exception:
                if (stale := _instead(exchange, found, judgement)) is None:
                    raise
                logger.warning("%s: the origin failed; served stale", exchange.target.path, exc_info=True)
                return stale
            if got.fetched.failed:
                silent = got.fetched.is_unanswered
                if (stale := _instead(exchange, found, judgement, silent=silent)) is not None:
                    return stale
            fold = await self._refolded(exchange, found, got)
            renewed = await self._renewed(exchange, found, fold, attempt) if fold else None
            if renewed is None:
                self._learn(exchange, found, got)
                return _fetched(exchange, found, got.fetched, fold or _UNTOLD, is_own=got.is_own)
            found = renewed
        raise AssertionError("the last attempt returns")

    def _learn(self, exchange: Exchange, found: Found, got: Got) -> None:
        """Plan to go on without detours, where an answer was for the asker alone and is not stored."""
        is_plain = found.entry is None and got.is_own and not self._settings.holdoff
        fetched = got.fetched
        is_unstorable = fetched.record is None and fetched.reason not in ALLOWED_BY_FIELDS
        if is_plain and is_unstorable and fetched.snapshot is not None and not fetched.failed:
            self._plans.learn_miss(exchange, found.store, found.key)

    async def _head(
        self, exchange: Exchange, handler: Handler, found: Found, judgement: Judgement | None
    ) -> web.StreamResponse:
        """Ask for the head alone: it renews what is stored, or shows that it is out of date (RFC 9111 4.3.5)."""
        try:
            response = await self._head_of(exchange, handler, found)
        except Exception as error:
            stale = _instead(exchange, found, judgement)
            if stale is None or getattr(error, "status", 500) not in SERVER_ERRORS:
                raise
            return stale
        failed = response.status in SERVER_ERRORS and not response.prepared
        silent = isinstance(response, Unanswered)
        stale = _instead(exchange, found, judgement, silent=silent) if failed else None
        return response if stale is None else stale

    async def _head_of(self, exchange: Exchange, handler: Handler, found: Found) -> web.StreamResponse:
        entry = found.usable
        # What one user's head says of everybody's entry, nobody knows.
        is_own = exchange.owner or not exchange.has_credentials
        if entry is None or not is_own or entry.status == 206 or found.fold.outcome is not Outcome.CLEAN:
            return await pass_found(exchange, handler, found, "miss")
        try:
            fetched = await self._fetching.head(exchange, handler, found, entry)
        except UnicodeEncodeError:  # header octets that cannot be sent on in another request
            return await pass_found(exchange, handler, found, "bypass", "header")
        return _fetched(exchange, found, fetched, _CLEAN, is_own=True)

    async def _renewed(self, exchange: Exchange, found: Found, fold: Fold, attempt: int) -> Found | None:
        """Look whether another fetch would show more than one whose fold came to this; None when it would not."""
        if attempt == REFETCHES:
            return None
        if fold.outcome is Outcome.UNKNOWN_LANDED and not self._settings.holdoff:
            return await look_again(found, exchange, self._folder)
        if fold.outcome in _UNKNOWN_YET and attempt == 1:
            waited = await wait_until_told(found, exchange, self._folder, self._settings.dirty_wait, _UNKNOWN_YET)
            return None if waited.fold.outcome in _UNKNOWN_YET else waited
        return None

    async def _refolded(self, exchange: Exchange, found: Found, got: Got) -> Fold | None:
        """Fold over the origin's answer what it may not contain yet; None when that cannot be told any more."""
        remembered, snapshot = got.remembered, got.fetched.snapshot
        if not may_lack_writes(found, remembered):
            return _CLEAN
        untold = None if found.fold.outcome is not Outcome.CLEAN else _CLEAN
        if remembered is None or snapshot is None:
            return untold
        try:
            return await self._refold(exchange, found, got.fetched, remembered)
        except RegionUnavailableError:
            return untold

    async def _refold(self, exchange: Exchange, found: Found, fetched: Fetched, remembered: Remembered) -> Fold:
        ids, url = exchange.principal.ids, exchange.cached_as.url
        looked = await entries.look(found.store, found.partition, found.key, exchange.resource, ids, url)
        state = looked.state
        are_listed = state is not None and remembered.asof >= state.trimmed
        if state is None or not are_listed or (remembered.asof < state.landed and not looked.is_whole):
            return Fold(Outcome.UNKNOWN_LANDED)  # landed writes that the answer may lack are listed no more
        snapshot = fetched.snapshot
        assert snapshot is not None  # noqa: S101 - asked for by the caller
        private = bool(exchange.owner or fetched.vary or exchange.key_parts) or fetched.record is None
        base = base_of(snapshot.status, snapshot.headers, snapshot.body, remembered.asof, private=private)
        lists = (looked.landed, looked.pending)
        return await refold(found.store, found.partition, exchange, self._folder, base, *lists)


def _instead(
    exchange: Exchange, found: Found, judgement: Judgement | None, *, silent: bool = False
) -> web.StreamResponse | None:
    """A stale answer in place of a failure, where that is allowed."""
    entry = found.entry
    if entry is None or judgement is None or not may_cover(exchange, found, judgement, silent=silent):
        return None
    if found.fold.outcome is not Outcome.CLEAN:
        return answers.folded_over(exchange, found.store.name, found.fold, entry)
    status = answers.hit_status(found.store.name, judgement, f"stale-if-{'unreachable' if silent else 'error'}")
    return answers.stored(exchange, entry, judgement.age, status)


def _fetched(exchange: Exchange, found: Found, fetched: Fetched, fold: Fold, *, is_own: bool) -> web.StreamResponse:
    """Answer with what was fetched, and what is folded over it."""
    region = found.store.name
    if fold.outcome in (Outcome.FOLDED, Outcome.GONE):
        headers = fetched.snapshot.headers if fetched.snapshot else ()
        return answers.folded(exchange, region, fold, headers, fwd=forwarded(exchange, found))
    dirty = fold.outcome is not Outcome.CLEAN
    status = _status(
        region,
        forwarded(exchange, found),
        fetched.response.status if fetched.revalidated else None,
        fetched.record is not None or None,
        not is_own,
        "dirty" if dirty else fetched.problem or None,
    )
    response = _from_fetched(exchange, fetched, status)
    return as_it_came(answers.not_for_storage(response) if dirty else response)


@functools.lru_cache(maxsize=1024)
def _status(
    region: str, fwd: str, fwd_status: int | None, stored: bool | None, collapsed: bool, detail: str | None
) -> str:
    name = cache_name(region)
    return cache_status(name, fwd=fwd, fwd_status=fwd_status, stored=stored, collapsed=collapsed, detail=detail)


def _from_fetched(exchange: Exchange, fetched: Fetched, status: str) -> web.StreamResponse:
    if fetched.request is not exchange.request and fetched.record is not None:
        return answers.stored(exchange, fetched.record, fetched.record.initial_age, status)
    snapshot = fetched.snapshot
    conditions = names_any(exchange.headers, _CONDITIONS)
    # A part that the origin has cut is the client's as it is.
    is_ready = conditions and snapshot is not None and snapshot.status != 206
    if snapshot is None or not (fetched.revalidated or fetched.is_whole or is_ready):
        return with_status(fetched.response, status)
    return answers.conditionally(exchange, snapshot, [(CACHE_STATUS, status)])
