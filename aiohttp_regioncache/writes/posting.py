"""Answers to POST that are a representation of their target: stored, so that a GET may have them (RFC 9110 9.3.3)."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from ..errors import RegionUnavailableError
from ..exchange import Exchange
from ..reads.bypass import unkeyed_field
from ..reads.fetch import posted
from ..reads.filling import store_record
from ..settings import Cache
from ..store import entries
from ..store.entries import Exchanged, Remembered
from ..store.region import RegionStore


class Begun(NamedTuple):
    """What was remembered of the target before the origin was asked, in which region and when."""

    store: RegionStore
    remembered: Remembered
    asked: float


class Told(NamedTuple):
    """The region that a write was told to first, and what the token of its target has become there."""

    store: RegionStore
    tokens: Exchanged


class Posting:
    """Store what POST is answered with, where GET would find it."""

    def __init__(self, settings: Cache) -> None:
        self._settings = settings

    async def begin(self, exchange: Exchange) -> Begun | None:
        """Remember the state of the target before the origin is asked; None when nothing will be stored."""
        if exchange.request.method != "POST" or not exchange.stores or not _is_read_alike(exchange):
            return None
        store = exchange.stores[0]
        if store.holdoff:  # what follows a change at once may come from a reader that lags
            return None
        try:
            remembered = await entries.begin(store, store.partition(exchange.resource), exchange.resource)
        except RegionUnavailableError:
            return None
        return Begun(store, remembered, store.now())

    async def store(self, exchange: Exchange, begun: Begun, response: web.StreamResponse, told: Told) -> None:
        """Store an answer under the token that its own invalidation made, if no other change came in between (C1)."""
        store, tokens = told
        if store is not begun.store or tokens.before != begun.remembered.token:
            return
        remembered = Remembered(tokens.after, begun.remembered.asof, begun.remembered.purge)
        found = await posted(
            exchange, exchange.request, response, remembered, self._settings, asked=begun.asked, answered=store.now()
        )
        if found is None:
            return
        await store_record(store, exchange, *found, self._settings.keep)


def _is_read_alike(exchange: Exchange) -> bool:
    """Whether a GET of the target goes by the same rule, and so by the same key."""
    rule = exchange.rule
    is_read = rule is None or rule.rule.read == "cache"
    keyed = is_read and not exchange.touched and exchange.served.rules.find("GET", exchange.target.path) is rule
    return keyed and unkeyed_field(exchange) is None
