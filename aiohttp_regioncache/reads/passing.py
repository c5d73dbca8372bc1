"""Leave requests to the handler, and say why."""

from __future__ import annotations

from aiohttp import web

from ..exchange import Exchange, Handler
from ..overlay import Outcome
from ..responses import as_it_came, ask, ask_marked, cache_name, mark
from ..semantics.cache_status import cache_status
from ..store.region import RegionStore
from . import answers
from .lookup import Found


async def pass_by(
    exchange: Exchange, handler: Handler, fwd: str, *, region: str | None = None, detail: str | None = None
) -> web.StreamResponse:
    """Leave a request to the handler as it is."""
    return await ask_marked(exchange.request, handler, cache_status(cache_name(region), fwd=fwd, detail=detail))


async def pass_found(
    exchange: Exchange, handler: Handler, found: Found, fwd: str, detail: str | None = None
) -> web.StreamResponse:
    """Leave a request to the handler that cannot be folded for; pending writes that it misses are admitted."""
    if found.fold.outcome is not Outcome.CLEAN:
        return await pass_dirty(exchange, handler, found.store)
    return await pass_by(exchange, handler, fwd, region=found.store.name, detail=detail)


async def pass_dirty(exchange: Exchange, handler: Handler, store: RegionStore) -> web.StreamResponse:
    """Give the origin's answer, which lacks a pending write of the principal's own."""
    status = cache_status(cache_name(store.name), fwd="stale", detail="dirty")

    def admit(response: web.StreamResponse) -> None:
        mark(response, status)
        answers.keep_out_of_caches(response.headers)

    response = await ask(exchange.request, handler, admit)
    if not response.prepared:
        admit(response)
    return as_it_came(response)
