"""Misses of requests that were misses before and whose answers nobody shares: on to the origin without detours.

What was found out about such a request is kept in a `MissPlan`. What the region knows is looked at each time, and what
the origin answers is judged each time; where either is not plain any more, the request goes the whole way, or the
answer is stored as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from aiohttp import web

from ..errors import RegionUnavailableError
from ..exchange import ASKER, SERVED_SITE, Asker, Exchange, Handler, Inquiry
from ..origins.letters import Letter
from ..responses import as_it_came, ask, cache_name, mark, respond, with_status
from ..semantics.cache_status import cache_status
from ..semantics.fields import Headers, Indexed
from ..settings import Cache
from ..store import entries
from ..store.entries import Remembered
from ..store.glances import Values
from ..store.region import RegionStore
from .fetch import Arrival, Fetched, Stored, allowed, record_of
from .fetching import Fetching
from .filling import Fills
from .lookup import entry_key
from .snapshot import Snapshot, as_sent, take

Key = tuple[str, str, str, str, bool, tuple[tuple[bytes, bytes], ...]]
"""What a request without a body says: method, raw path, host, scheme, whether its peer is trusted, and its fields."""
Make = Callable[[], Exchange]
"""Makes the exchange of a request, for which everything is found out anew."""


def miss_status(region: str) -> str:
    """Our `Cache-Status` of an answer that is not stored."""
    return cache_status(cache_name(region), fwd="miss")


class MissPlan:
    """How the requests of one kind go to the origin while nothing is stored for them.

    `asked` is what they say, by which the plan is found; `path` their target as it goes on, and `letter` what the one
    of a peer says to the origin, if that has been written out. `status` is our `Cache-Status`, `streamed` that of an
    answer that goes out as it comes. `is_void`: it serves none any more.
    """

    overhead: ClassVar = 8192
    """Octets that a plan takes beside its key, about."""
    __slots__ = (
        "asked", "host", "inquiry", "is_trusted", "is_void", "key", "keys", "letter", "match", "partition", "path",
        "scheme", "status", "store", "streamed",
    )  # fmt: skip

    def __init__(
        self, asked: Key, inquiry: Inquiry, path: str, store: RegionStore, match: web.UrlMappingMatchInfo | None
    ) -> None:
        self.asked = asked
        self.path = path
        self.letter: tuple[str | None, Letter] | None = None
        self.inquiry = inquiry
        self.host = inquiry.target.host
        self.is_trusted = asked[4]
        self.scheme = inquiry.target.scheme
        self.store = store
        self.match = match
        self.is_void = False
        self.partition = partition = store.partition(inquiry.resource)
        self.key = entry_key(inquiry)
        self.keys = entries.glanced_at(partition, inquiry.resource, self.key)
        self.status = miss_status(store.name)
        self.streamed = cache_status(cache_name(store.name), fwd="miss", detail="stream")

    def remembered(self, values: Values) -> Remembered | None:
        """What to store the answer under, by what the region says; None where it is no plain miss."""
        entry, raw_state, raw_purge = values
        state = entries.parse_state(raw_state)
        if entry is not None or state is None or state.pending or self.inquiry.resource.digest in self.store.untold:
            return None
        return entries.remembered(self.store, state, entries.purge_number(raw_purge))

    def asker(self, peer: str | None) -> Asker:
        """Who asks, from the address of a connection."""
        return Asker(peer, self.is_trusted, self.scheme)

    def mark_streamed(self, response: web.StreamResponse) -> None:
        """Mark an answer that goes out as it comes."""
        mark(response, self.streamed)


class Misses:
    """Answer by the plans of misses."""

    def __init__(self, settings: Cache, fetching: Fetching, fills: Fills) -> None:
        self._settings = settings
        self._fetching = fetching
        self._fills = fills

    async def follow(
        self, plan: MissPlan, request: web.Request, asker: Asker, handler: Handler, make: Make
    ) -> web.StreamResponse | None:
        """Answer a request with the handler's answer, if it is a plain miss again; None when it is not."""
        inquiry, store = plan.inquiry, plan.store
        if not self.may_follow(plan):
            return None
        try:
            values = await store.glances.get(plan.partition, plan.keys)
        except RegionUnavailableError:
            return None
        remembered = plan.remembered(values)
        if remembered is None:
            plan.is_void = True
            return None
        request[SERVED_SITE] = inquiry.served
        request[ASKER] = asker
        began, sent = time.monotonic(), store.now()
        try:
            response = await ask(request, handler, plan.mark_streamed)
        except UnicodeEncodeError:  # the whole way has a word on it
            return None
        answer = await take(request, response, self._settings.max_body)
        if answer is None:
            return as_it_came(with_status(response, plan.status))
        received = store.now()
        governing = await as_sent(request, answer)
        if not allowed(inquiry, answer.status, governing, self._settings, received).allowed:
            return _marked(response, answer, plan.status)
        plan.is_void = True
        exchange = make()
        arrival = Arrival(answer.headers, sent, received, time.monotonic() - began)
        stored = Stored(None, False, remembered)
        record, storability, known = record_of(exchange, answer, governing, stored, self._settings, arrival)
        fetched = Fetched(
            request=request,
            response=response,
            snapshot=answer,
            record=record,
            reason=storability.reason,
            vary=record.vary if record is not None else (),
            known=known,
        )
        self._fetching.settle(exchange, store, plan.key, fetched, remembered)
        status = cache_status(cache_name(store.name), fwd="miss", stored=record is not None or None)
        return _marked(response, answer, status)

    def is_unstorable(self, plan: MissPlan, status: int, fields: Headers) -> bool:
        """Whether an answer that arrives now is not stored, whatever its body is."""
        return not allowed(plan.inquiry, status, Indexed(fields), self._settings, plan.store.now()).allowed

    def may_follow(self, plan: MissPlan) -> bool:
        """Whether the answer will be for nobody else, and nothing of its resource is being stored."""
        inquiry = plan.inquiry
        is_shared = self._fetching.may_be_shared(plan.store, plan.key, inquiry)
        return not (is_shared or self._fills.is_under_way(plan.store, inquiry.resource))


def _marked(response: web.StreamResponse, answer: Snapshot, status: str) -> web.StreamResponse:
    """An answer with our `Cache-Status`; one that has been compressed here as it is by now."""
    if answer.is_coded:
        response = respond(answer.status, answer.reason, answer.headers, answer.body)
    return as_it_came(with_status(response, status))
