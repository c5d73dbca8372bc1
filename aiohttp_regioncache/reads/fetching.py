"""Fetches for the store: together with others that want the same, or in the background."""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from ..bounded import Bounded
from ..errors import RegionUnavailableError
from ..exchange import Exchange, Handler, Inquiry, apart
from ..overlay import Outcome
from ..records import CacheRecord
from ..responses import Streaming, cache_name, mark, unattended
from ..semantics.cache_status import cache_status
from ..semantics.freshness import Judgement
from ..semantics.requests import PLAIN_REQUEST
from ..semantics.storing import shared_despite_credentials
from ..settings import Cache
from ..store import entries
from ..store.entries import Remembered
from ..store.region import RegionStore
from ..tasks import Tasks
from ..transforms.runner import Transformer
from . import answers
from .fetch import Fetched, Stored, fetch, fetch_head, is_fresh, range_of, shareable
from .filling import Fills
from .flights import Flight, Flights
from .judging import forwarded, is_kept, is_outdated, may_cover, may_lack_writes
from .lookup import Found


class _StreamedError(Exception):
    """An answer that goes out as it comes, where there is nobody to take it."""


_UNSHARED_OCTETS: Final = 256
"""What it takes to remember that nobody shares what is fetched under a key, about."""


class Got(NamedTuple):
    """What was fetched, what was remembered before, and whether this request's own fetch it was."""

    fetched: Fetched
    remembered: Remembered | None
    is_own: bool


class Fetching:
    """Fetch what requests need from the origin, once for all who want the same, and store it."""

    def __init__(self, settings: Cache, fills: Fills, tasks: Tasks) -> None:
        self._settings = settings
        self._transformer = Transformer()
        self._fills = fills
        self._tasks = tasks
        self._flights: Flights[Fetched] = Flights()
        self._unshared: Bounded[tuple[str, str], bool] = Bounded(settings.table_bytes)
        self._renewing: set[tuple[str, str]] = set()

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for fetches under way."""
        await self._flights.drain(timeout)

    def close(self) -> None:
        """Transform nothing more."""
        self._transformer.close()

    async def get(self, exchange: Exchange, handler: Handler, found: Found, judgement: Judgement | None) -> Got:
        """Fetch, together with others if what they get may be had by this request too.

        Raises what the handler raises, and `UnicodeEncodeError` for header octets that cannot be sent on.
        """
        fetched, remembered, begun = await self._fly(exchange, handler, found)
        if fetched is not None:
            failed = fetched.failed and may_cover(exchange, found, judgement, silent=fetched.is_unanswered)
            if begun or failed or shareable(exchange, fetched):
                return Got(fetched, remembered, begun)
        own = None if fetched is None else remembered  # who waited too long stores nothing
        by_parts = not may_lack_writes(found, remembered)
        return Got(await self._fetch_once(exchange, handler, found, own, by_parts=by_parts), remembered, True)

    async def head(self, exchange: Exchange, handler: Handler, found: Found, entry: CacheRecord) -> Fetched:
        """Ask for the head alone, which renews `entry` or shows that it is out of date. Raises as `get` does."""
        stored = Stored(entry, True, await self._remember(exchange, found), found.known)
        fetched = await fetch_head(
            exchange,
            handler,
            stored,
            entry,
            self._settings,
            clock=found.store.now,
            streaming=_marking(exchange, found),
        )
        if fetched.record is not None:
            self._fills.begin(found.store, exchange, fetched.record, fetched.known)
        return fetched

    def refresh_for_all(self, exchange: Exchange, handler: Handler, found: Found, entry: CacheRecord) -> None:
        """Refresh an entry, unless the answer would be for the request's principal alone."""
        is_free = exchange.owner or not exchange.has_credentials
        if is_free or shared_despite_credentials(entry.headers):
            self.refresh(exchange, handler, found)

    def refresh(self, exchange: Exchange, handler: Handler, found: Found) -> None:
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
        alone = msgspec.structs.replace(exchange, request=apart(exchange.request))
        with contextlib.suppress(_StreamedError, UnicodeEncodeError), unattended():
            await self._fly(alone, handler, found, in_background=True)

    async def _fly(
        self, exchange: Exchange, handler: Handler, found: Found, *, in_background: bool = False
    ) -> tuple[Fetched | None, Remembered | None, bool]:
        """Fetch, together with others that want the same.

        None: the fetch that was joined takes too long, or its answer goes out as it comes.
        """
        remembered = await self._remember(exchange, found)
        # Nobody waits for a renewal's part: it fetches the whole, unless a part is all that there is.
        by_parts = not (may_lack_writes(found, remembered) or (in_background and not _is_part(found.usable)))

        async def fetch_for(flight: Flight[Fetched] | None) -> Fetched:
            return await self._fetch_once(
                exchange, handler, found, remembered, by_parts=by_parts, flight=flight, in_background=in_background
            )

        if remembered is None or not self.may_be_shared(found.store, found.key, exchange):
            return await fetch_for(None), remembered, True
        ranged = range_of(exchange) if by_parts else ""
        untold = found.store.untold[exchange.resource.digest]
        key = (found.store.name, found.key, remembered.token, remembered.asof, remembered.purge, untold, ranged)
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
        known = entries.remembered(found.store, found.state, found.purge)
        if known is not None and not self._settings.holdoff:
            return known
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
        by_parts: bool,
        flight: Flight[Fetched] | None = None,
        in_background: bool = False,
    ) -> Fetched:
        marking = _marking(exchange, found)

        def streaming(response: web.StreamResponse) -> None:
            if flight is not None:
                flight.leave_alone()
            if in_background:
                raise _StreamedError
            marking(response)

        fetched = await fetch(
            exchange,
            handler,
            Stored(found.entry, found.usable is not None, remembered, found.known, by_parts),
            self._settings,
            self._transformer,
            no_cache=is_outdated(found),
            clock=found.store.now,
            streaming=streaming,
        )
        if fetched.failed and is_kept(exchange, found):
            fetched = msgspec.structs.replace(fetched, record=None)
        self.settle(exchange, found.store, found.key, fetched, remembered, flight)
        return fetched

    def may_be_shared(self, store: RegionStore, key: str, inquiry: Inquiry) -> bool:
        """Whether what is fetched for a request, whose entry has this key, may be for others too."""
        return _may_share(inquiry) and not self._unshared.get((store.name, key))

    def settle(
        self,
        exchange: Exchange,
        store: RegionStore,
        key: str,
        fetched: Fetched,
        remembered: Remembered | None,
        flight: Flight[Fetched] | None = None,
    ) -> None:
        """Store what was fetched where it is asked for under a key, and remember whether others may share it."""
        self._note(exchange, (store.name, key), fetched, remembered)
        self._fill(exchange, store, fetched, flight)

    def _note(self, exchange: Exchange, name: tuple[str, str], fetched: Fetched, remembered: Remembered | None) -> None:
        """Remember whether others may share what is fetched, until it is otherwise: who cannot need not wait for it."""
        if fetched.record is not None:
            self._unshared.drop(name)
        elif _may_share(exchange) and remembered is not None and not (fetched.failed or exchange.asks_range):
            self._unshared.put(name, True, _UNSHARED_OCTETS)

    def _fill(self, exchange: Exchange, store: RegionStore, fetched: Fetched, flight: Flight[Fetched] | None) -> None:
        """Store what was fetched. What is fresh serves new arrivals until it is stored."""
        record, landed = fetched.record, flight.land if flight is not None else None
        begun = record is not None and self._fills.begin(store, exchange, record, fetched.known, landed)
        if landed is not None and not (begun and is_fresh(record)):
            landed()


def _may_share(inquiry: Inquiry) -> bool:
    """Whether an answer may be for others than the request's bearer."""
    return not inquiry.has_credentials or bool(inquiry.owner)


def _is_part(entry: CacheRecord | None) -> bool:
    return entry is not None and entry.status == 206


def _marking(exchange: Exchange, found: Found) -> Streaming:
    """What marks an answer that goes out as it comes."""

    def note(response: web.StreamResponse) -> None:
        is_dirty = found.fold.outcome is not Outcome.CLEAN
        detail = "dirty" if is_dirty else "stream"
        mark(response, cache_status(cache_name(found.store.name), fwd=forwarded(exchange, found), detail=detail))
        if is_dirty:
            answers.keep_out_of_caches(response.headers)

    return note
