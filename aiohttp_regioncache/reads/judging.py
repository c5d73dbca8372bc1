"""What a found entry is worth to a request. Pure."""

from __future__ import annotations

from typing import Final

from ..exchange import Exchange
from ..overlay import Outcome
from ..records import CacheRecord
from ..semantics.freshness import Judgement, Verdict, judge, refreshes_early
from ..semantics.requests import PLAIN_REQUEST, RequestTerms
from ..store.entries import Remembered
from ..store.region import RegionStore
from . import parts
from .decide import Standing
from .lookup import Found

_TOLD: Final = (Outcome.CLEAN, Outcome.FOLDED, Outcome.GONE)
"""What a fold comes to when nothing about it is unknown."""


def judged(exchange: Exchange, record: CacheRecord, store: RegionStore, asked: RequestTerms | None = None) -> Judgement:
    """Judge the freshness of an entry now; by the terms of the request, or by those `asked`."""
    return judge(
        asked or exchange.terms,
        record.terms,
        initial_age=record.initial_age,
        response_time=record.response_time,
        now=store.now(),
    )


def covers(exchange: Exchange, record: CacheRecord | None) -> bool:
    """Whether a stored response, which may be a part, holds what a request asks for."""
    if record is None or record.status != 206:
        return True
    return parts.covers(exchange.request.method, exchange.headers, record.status, record.headers)


def is_servable(exchange: Exchange, found: Found, judgement: Judgement) -> bool:
    """Whether a usable entry, with the writes over it, is an answer."""
    is_known = found.fold.outcome in _TOLD
    return is_known and judgement.verdict in (Verdict.FRESH, Verdict.STALE_USABLE) and covers(exchange, found.entry)


def is_early(exchange: Exchange, record: CacheRecord, judgement: Judgement) -> bool:
    """Whether this request is one for which a fresh entry is fetched anew."""
    beta = exchange.policy.early_refresh
    return beta > 0 and refreshes_early(judgement.ttl, cost=record.cost, beta=beta, chance=exchange.chance)


def may_cover(exchange: Exchange, found: Found, judgement: Judgement | None, *, silent: bool) -> bool:
    """Whether what is stored may stand in for a failure (RFC 5861 section 4, RFC 9111 section 4.2.4).

    `silent`: the origin gave no answer at all.
    """
    if found.entry is None or judgement is None or not covers(exchange, found.entry):
        return False
    lacks_landed = found.state is not None and found.entry.asof < found.state.landed
    stands = found.standing is Standing.USABLE or (found.standing is Standing.OTHER_RUN and not lacks_landed)
    allowed = judgement.stale_if_unreachable if silent else judgement.stale_if_error
    return stands and allowed and found.fold.outcome in _TOLD


def is_kept(exchange: Exchange, found: Found) -> bool:
    """Whether what is stored may stand in for failures, whoever asks: none takes its place then."""
    entry = found.entry
    judgement = None if entry is None else judged(exchange, entry, found.store, PLAIN_REQUEST)
    return may_cover(exchange, found, judgement, silent=False)


def may_lack_writes(found: Found, remembered: Remembered | None) -> bool:
    """Whether an answer of the origin may lack writes that its reader must see."""
    if found.state is None:
        return False
    return found.state.pending > 0 or remembered is None or found.state.landed > remembered.asof


def forwarded(exchange: Exchange, found: Found) -> str:
    """Why a request went to the origin (RFC 9211 section 2.2)."""
    if found.entry is None:
        return "miss"
    was_fresh = judged(exchange, found.entry, found.store, PLAIN_REQUEST).verdict is Verdict.FRESH
    return "request" if found.usable and was_fresh and found.fold.outcome is Outcome.CLEAN else "stale"


def is_outdated(found: Found) -> bool:
    """Whether what is stored was invalidated or purged: the origin's own caches must not answer then."""
    invalidated = found.standing in (Standing.INVALIDATED, Standing.OTHER_RUN) or found.made_stale
    return invalidated or found.fold.outcome is Outcome.UNKNOWN_LANDED
