"""Ask the origin on behalf of the cache, and make a record of what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from ..exchange import Exchange, Handler
from ..pin import without_pins
from ..records import CacheRecord, from_wire, to_wire
from ..responses import Streaming, ask
from ..semantics import conditional
from ..semantics.dates import format_date
from ..semantics.fields import Headers, end_to_end, first, remove
from ..semantics.freshness import initial_age, terms
from ..semantics.storing import Storability, may_store
from ..semantics.vary import selecting, vary_names
from ..settings import Cache
from ..store.entries import Remembered
from .snapshot import Snapshot, take

Clock = Callable[[], float]
"""Seconds since the epoch."""

SERVER_ERRORS: Final = frozenset({500, 502, 503, 504})
"""Answers after which a stale response may be served instead (RFC 5861 section 4)."""
_PRIVATE_REQUEST_FIELDS: Final = ("authorization", "cookie", "proxy-authorization")
_ANSWERED_HERE: Final = conditional.precondition_fields | {"range"}


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What the origin's answer came to.

    `response` is the very answer, for the request that asked; `raised` that it was raised. `snapshot` is None when it
    is no complete response; `record` when it may not be stored, for which `reason` is the ground.
    """

    request: web.Request
    response: web.StreamResponse
    raised: bool
    snapshot: Snapshot | None = None
    record: CacheRecord | None = None
    reason: str = ""
    revalidated: bool = False
    vary: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the origin failed, and nothing of its answer has gone out yet."""
        return self.response.status in SERVER_ERRORS and not self.response.prepared


def conditioned(exchange: Exchange, validators: Sequence[tuple[str, str]], *, no_cache: bool) -> web.Request:
    """Make the request for the origin: for the whole of it, the client's own conditions replaced by ours.

    Raises `UnicodeEncodeError` for header octets that aiohttp cannot send on.
    """
    present = {name.lower() for name, _ in exchange.headers}
    own = _ANSWERED_HERE & present
    if not own and not validators and not no_cache:
        return exchange.request
    headers = CIMultiDict(remove(exchange.headers, _ANSWERED_HERE))
    headers.extend(validators)
    if no_cache:
        headers["Cache-Control"] = "no-cache"
    return exchange.request.clone(headers=headers)


async def fetch(
    exchange: Exchange,
    handler: Handler,
    entry: CacheRecord | None,
    remembered: Remembered | None,
    settings: Cache,
    *,
    no_cache: bool,
    clock: Clock,
    streaming: Streaming,
) -> Fetched:
    """Ask the origin once.

    `entry` lends its validators; `remembered` is None when nothing can be stored; `streaming` as in `ask`.
    """
    validators = conditional.validators(from_wire(entry.headers)) if entry is not None else []
    if entry is not None and not conditional.is_strong_date(from_wire(entry.headers)):
        validators = [pair for pair in validators if pair[0] != "If-Modified-Since"]
    request = conditioned(exchange, validators, no_cache=no_cache)
    asked = clock()
    response, raised = await ask(request, handler, streaming)
    snapshot = await take(response, settings.max_body)
    if snapshot is None:
        return Fetched(request=exchange.request, response=response, raised=raised, reason="no complete response")
    revalidated = snapshot.status == 304 and entry is not None and bool(validators)
    answered = clock()
    # The age is that of the answer, also when it only confirms what is stored (RFC 9111 section 4.3.4).
    age = initial_age(snapshot.headers, request_time=asked, response_time=answered)
    if revalidated and entry is not None:
        snapshot = _updated(entry, snapshot)
    record, storability = _record(exchange, snapshot, remembered, settings, age, answered)
    return Fetched(
        request=exchange.request,
        response=response,
        raised=raised,
        snapshot=snapshot,
        record=record,
        reason=storability.reason,
        revalidated=revalidated,
        vary=vary_names(snapshot.headers) or (),
    )


def _updated(entry: CacheRecord, answer: Snapshot) -> Snapshot:
    """The stored response with the fields of the 304 (RFC 9111 section 4.3.4)."""
    headers = conditional.update_stored(from_wire(entry.headers), answer.headers)
    return Snapshot(entry.status, entry.reason.decode("latin-1"), tuple(headers), entry.body)


def _record(
    exchange: Exchange,
    snapshot: Snapshot,
    remembered: Remembered | None,
    settings: Cache,
    age: float,
    answered: float,
) -> tuple[CacheRecord | None, Storability]:
    shared = not exchange.owner
    storability = may_store(
        "GET",
        exchange.headers,
        snapshot.status,
        snapshot.headers,
        exchange.policy,
        shared=shared,
        credentials=exchange.has_credentials,
        store_set_cookie=settings.store_set_cookie,
        response_time=answered,
    )
    if not storability.allowed:
        return None, storability
    if remembered is None:
        return None, Storability(False, "region")
    headers = _dated(end_to_end(snapshot.headers), answered)
    vary = vary_names(headers) or ()
    record = CacheRecord(
        url=exchange.target.url,
        request_headers=to_wire(remove(selecting(exchange.headers, vary), _PRIVATE_REQUEST_FIELDS)),
        vary=vary,
        token=remembered.token,
        asof=remembered.asof,
        status=snapshot.status,
        reason=snapshot.reason.encode("latin-1", "replace"),
        headers=to_wire(headers),
        body=snapshot.body,
        terms=terms(snapshot.status, headers, exchange.policy, response_time=answered, shared=shared),
        initial_age=age,
        response_time=answered,
        owner=exchange.owner,
    )
    return record, storability


def _dated(headers: Headers, answered: float) -> Headers:
    """The fields with the time of arrival where there is none of origin (RFC 9110 section 6.6.1)."""
    return headers if first(headers, "date") is not None else (*headers, ("Date", format_date(answered)))


def is_fresh(record: CacheRecord | None) -> bool:
    """Whether a response was fresh when it arrived, and need not be validated."""
    return record is not None and not record.terms.no_cache and record.terms.lifetime > record.initial_age


def shareable(exchange: Exchange, fetched: Fetched) -> bool:
    """Whether another request's answer may go to this one: it may be stored, and the varying fields agree."""
    if fetched.record is None:
        return False
    theirs = selecting(without_pins(end_to_end(list(fetched.request.headers.items()))), fetched.vary)
    return theirs == selecting(exchange.headers, fetched.vary)


def marker_of(exchange: Exchange, record: CacheRecord) -> CacheRecord:
    """The marker that stands under the resource's plain key and names the selecting fields."""
    return CacheRecord(url=exchange.target.url, vary=record.vary, token=record.token, asof=record.asof)
