"""Ask the origin on behalf of the cache, and make a record of what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from ..exchange import Exchange, Handler, Inquiry, as_before
from ..features import own_names
from ..pin import without_pins
from ..problems import Unanswered
from ..records import NO_TERMS, CacheRecord, form_of, to_lines
from ..responses import Streaming, ask, unmodified
from ..semantics import conditional
from ..semantics.dates import format_date
from ..semantics.fields import Headers, end_to_end, first, names_any, remove
from ..semantics.freshness import initial_age, terms
from ..semantics.groups import response_tags
from ..semantics.ranges import content_range, missing, requested, strong_validator
from ..semantics.storing import Storability, answers_get, may_store, unstorable_fields
from ..semantics.vary import NOTHING_KNOWN, Known, learn, selecting, selecting_names
from ..settings import Cache
from ..store.entries import Remembered
from ..transforms.runner import Transformer
from . import featured, parts
from .snapshot import Snapshot, as_sent, take

Clock = Callable[[], float]
"""Seconds since the epoch."""

SERVER_ERRORS: Final = frozenset({500, 502, 503, 504})
"""Answers after which a stale response may be served instead (RFC 5861 section 4)."""
_FOR_THE_WHOLE: Final = frozenset({200, *SERVER_ERRORS})
"""Answers to a completion that are for the client, who has asked for no part."""
ALLOWED_BY_FIELDS: Final = frozenset({"", "feature", "region", "unsound", "malformed"})
"""Why answers are not stored though their fields allow it."""
_TRIED_AGAIN: Final = 30.0
"""Seconds for which what there was no time to transform is fresh."""
_PRIVATE_REQUEST_FIELDS: Final = ("authorization", "cookie", "proxy-authorization")
_ANSWERED_HERE: Final = conditional.precondition_fields | {"range"}


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What the origin's answer came to.

    `response` is the very answer, for the request that asked. `snapshot` is None when it is no complete response;
    `record` when it may not be stored, for which `reason` is the ground. `is_whole`: the snapshot is another than the
    answer, with what was stored already. `known`: of the fields that it varies on. `selectors`: what features were
    to do for the request, and `problem` what went wrong with that.
    """

    request: web.Request
    response: web.StreamResponse
    snapshot: Snapshot | None = None
    record: CacheRecord | None = None
    reason: str = ""
    revalidated: bool = False
    is_whole: bool = False
    vary: tuple[str, ...] = ()
    known: Known = NOTHING_KNOWN
    selectors: tuple[tuple[str, str], ...] = ()
    problem: str = ""

    @property
    def failed(self) -> bool:
        """Whether the origin failed, and nothing of its answer has gone out yet."""
        return self.response.status in SERVER_ERRORS and not self.response.prepared

    @property
    def is_unanswered(self) -> bool:
        """Whether the origin gave no answer at all."""
        return isinstance(self.response, Unanswered)


class Stored(msgspec.Struct, frozen=True):
    """What is stored when the origin is asked, as far as the question and the answer depend on it.

    `entry` lends its validators; `is_usable`: it holds still, so that a part may be completed. `remembered` is None
    when nothing can be stored. `known`: of the fields that select the entries. `by_parts`: the
    part that the client wants may be all that is asked for; not so where writes are to be folded over the answer.
    """

    entry: CacheRecord | None
    is_usable: bool
    remembered: Remembered | None
    known: Known = NOTHING_KNOWN
    by_parts: bool = False

    @property
    def snapshot(self) -> Snapshot | None:
        """The entry as a response."""
        entry = self.entry
        if entry is None:
            return None
        return Snapshot(entry.status, entry.reason.decode("latin-1"), tuple(entry.headers), entry.body)


class Arrival(NamedTuple):
    """How an answer came: its fields, which tell its age also when it only confirms what is stored (RFC 9111 4.3.4),
    when it was asked for and received by the region's clock, and the seconds that it took.
    """

    headers: Headers
    sent: float
    received: float
    cost: float


class Question(msgspec.Struct, frozen=True):
    """What is asked of the origin: conditions and range in place of the client's own.

    `completes`: the range is what a stored part lacks, for a request that wants the whole.
    """

    fields: tuple[tuple[str, str], ...] = ()
    completes: bool = False

    @property
    def validates(self) -> bool:
        """Whether a 304 may be the answer."""
        return any(name in _VALIDATING for name, _ in self.fields)


_VALIDATING: Final = ("If-None-Match", "If-Modified-Since")
_PLAIN_QUESTION: Final = Question()


def question(exchange: Exchange, stored: Stored, max_body: int) -> Question:
    """Decide what to ask the origin for.

    A complete entry is validated. A part is validated when it holds what the request wants, completed when the whole is
    wanted, `max_body` bytes at most, and a strong validator names it, and else it does not count (RFC 9111 sections 3.4
    and 4.3.1).
    """
    method, headers, saved = exchange.request.method, exchange.headers, stored.snapshot
    if saved is None and first(headers, "range") is None:
        return _PLAIN_QUESTION
    ranged = tuple(pair for pair in headers if pair[0].lower() in ("range", "if-range"))
    asks_range = stored.by_parts and method == "GET" and requested(headers) is not None
    if saved is None:
        return Question(ranged if asks_range else ())
    checks = tuple(validators(featured.as_given(saved.headers)))
    if saved.status != 206:
        return Question(checks if checks or not asks_range else ranged)
    if asks_range:
        covered = stored.is_usable and parts.covers(method, headers, saved.status, saved.headers)
        return Question((*checks, *ranged) if covered and checks else ranged)
    return _completion(saved, max_body) if stored.is_usable else Question()


def _completion(saved: Snapshot, max_body: int) -> Question:
    part, validator = content_range(saved.headers), strong_validator(saved.headers)
    span = missing(part) if part is not None and part.length <= max_body else None
    if span is None or validator is None or not _is_sendable(validator):
        return Question()
    return Question((("Range", f"bytes={span[0]}-{span[1]}"), ("If-Range", validator)), completes=True)


async def posted(
    exchange: Exchange,
    request: web.Request,
    response: web.StreamResponse,
    remembered: Remembered,
    settings: Cache,
    *,
    asked: float,
    answered: float,
) -> tuple[CacheRecord, Known] | None:
    """Make the record of an answer to POST that represents its target (RFC 9110 9.3.3); None of any other."""
    taken = await take(request, response, settings.max_body)
    if taken is None:
        return None
    governing = await as_sent(request, taken)
    if not answers_get(exchange.target.url, governing, response_time=answered, shared=not exchange.owner):
        return None
    stored = Stored(None, False, remembered)
    arrival = Arrival(taken.headers, asked, answered, max(0.0, answered - asked))
    record, _, known = record_of(exchange, taken, governing, stored, settings, arrival)
    # What features make of it is for a GET to ask for.
    return (record, known) if record is not None and not own_names(record.vary) else None


def range_of(exchange: Exchange) -> str:
    """The part that a request asks for, as far as another must ask for the same to share its answer; else empty."""
    if exchange.request.method != "GET" or requested(exchange.headers) is None:
        return ""
    return "\n".join(value for name, value in exchange.headers if name.lower() in ("range", "if-range"))


def validators(headers: Headers) -> list[tuple[str, str]]:
    """The conditions that validate what is stored; a date that does not identify the bytes is none."""
    found = [pair for pair in conditional.validators(headers) if _is_sendable(pair[1])]
    if conditional.is_strong_date(headers):
        return found
    return [pair for pair in found if pair[0] != "If-Modified-Since"]


def _is_sendable(value: str) -> bool:
    """Whether aiohttp can send a field value; octets that are no UTF-8 it leaves out."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def conditioned(exchange: Exchange, fields: Sequence[tuple[str, str]], *, no_cache: bool) -> web.Request:
    """Make the request for the origin, the client's own conditions and range replaced by `fields`.

    Raises `UnicodeEncodeError` for header octets that aiohttp cannot send on.
    """
    is_featured = bool(exchange.features)
    if not (fields or no_cache or is_featured or names_any(exchange.headers, _ANSWERED_HERE)):
        return exchange.request
    headers = CIMultiDict(remove(exchange.headers, _ANSWERED_HERE))
    headers.extend(fields)
    if no_cache:
        headers["Cache-Control"] = "no-cache"
    return featured.for_origin(exchange, headers) if is_featured else exchange.request.clone(headers=headers)


async def fetch(
    exchange: Exchange,
    handler: Handler,
    stored: Stored,
    settings: Cache,
    transformer: Transformer,
    *,
    no_cache: bool,
    clock: Clock,
    streaming: Streaming,
) -> Fetched:
    """Ask the origin; once more for the whole, when its answer does not go with what is stored.

    `transformer` does what the features of the site want. `streaming` as in `ask`.
    """
    asked = question(exchange, stored, settings.max_body)
    fetched = await _fetch(exchange, handler, stored, settings, asked, no_cache, clock, streaming)
    if fetched is None:
        whole = msgspec.structs.replace(stored, entry=None)
        fetched = await _fetch(exchange, handler, whole, settings, _PLAIN_QUESTION, no_cache, clock, streaming)
        assert fetched is not None  # noqa: S101 - only what is stored can be the reason
    return await _transformed(exchange, fetched, transformer) if exchange.features else fetched


async def _transformed(exchange: Exchange, fetched: Fetched, transformer: Transformer) -> Fetched:
    """What was fetched, as the features of the site want it: once for each variant, when it is to be stored."""
    record = fetched.record
    if record is None or not featured.is_affected(record):
        return fetched
    selectors = tuple(exchange.features.selectors(exchange.asked))
    fetched = msgspec.structs.replace(fetched, selectors=selectors)
    if fetched.revalidated:
        return fetched
    worked = await featured.worked(exchange, record, transformer)
    lines = to_lines(worked.headers)
    # What was made may be of a type that others of the features change.
    names = {*own_names(record.vary), *exchange.features.names_for(worked.headers)}
    vary = (*sorted(names), *record.vary[len(own_names(record.vary)) :])
    terms = record.terms
    if worked.is_to_be_tried_again:
        terms = msgspec.structs.replace(terms, lifetime=min(terms.lifetime, record.initial_age + _TRIED_AGAIN))
    record = msgspec.structs.replace(
        record,
        sent_lines=lines.sent,
        held_lines=lines.held,
        form=form_of(record.status, record.reason.decode("latin-1"), lines.sent),
        body=worked.body,
        vary=vary,
        terms=terms,
    )
    snapshot = Snapshot(record.status, record.reason.decode("latin-1"), tuple(worked.headers), worked.body)
    return msgspec.structs.replace(
        fetched, record=record, snapshot=snapshot, is_whole=True, vary=vary, problem=worked.problem
    )


async def _fetch(
    exchange: Exchange,
    handler: Handler,
    stored: Stored,
    settings: Cache,
    asked: Question,
    no_cache: bool,
    clock: Clock,
    streaming: Streaming,
) -> Fetched | None:
    """Ask the origin once; None for an answer that completes nothing, or forbids what was made of the stored."""
    request = conditioned(exchange, asked.fields, no_cache=no_cache)
    began, sent = time.monotonic(), clock()
    try:
        response = await ask(request, handler, _watched(exchange, streaming, completes=asked.completes))
    except _PieceError:
        as_before(request)
        return None
    except _UnchangedError as unchanged:
        as_before(request)
        return Fetched(request=exchange.request, response=unmodified(unchanged.args), reason="no complete response")
    answer = await take(request, response, settings.max_body)
    if not response.prepared and _is_useless(exchange, asked, answer):
        return None
    if answer is None:
        return Fetched(request=exchange.request, response=response, reason="no complete response")
    received = clock()
    revalidated = answer.status == 304 and asked.validates
    whole = _together(stored, answer, settings.max_body, revalidated=revalidated)
    if asked.completes and answer.status == 206 and whole.status != 200:
        return None
    if revalidated and not response.prepared and featured.is_forbidden_now(stored.snapshot, whole):
        return None
    governing = await as_sent(request, whole)
    cost = time.monotonic() - began  # not by the region's clock, which may be set right meanwhile
    arrival = Arrival(answer.headers, sent, received, cost)
    record, storability, known = record_of(exchange, whole, governing, stored, settings, arrival)
    return Fetched(
        request=exchange.request,
        response=response,
        # A client that asked for a range gets what the origin gave it, not all that is stored by now.
        snapshot=whole if revalidated or asked.completes else answer,
        record=record,
        reason=storability.reason,
        revalidated=revalidated,
        is_whole=asked.completes or answer.is_coded,
        vary=record.vary if record is not None else (),
        known=known,
    )


def _is_useless(exchange: Exchange, asked: Question, answer: Snapshot | None) -> bool:
    """Whether an answer does not go with what is stored, or with what the client has."""
    if asked.completes and (answer is None or answer.status not in (206, *_FOR_THE_WHOLE)):
        return True
    return answer is not None and answer.status == 206 and featured.is_mixed(exchange, answer)


class _PieceError(Exception):
    """A piece that goes out as it comes, where a stored part was to be completed."""


class _UnchangedError(Exception):
    """An answer that goes out as it comes, to a client that has it already. `args` are its fields."""


def _watched(exchange: Exchange, streaming: Streaming, *, completes: bool) -> Streaming:
    """Hear of an answer that goes out as it comes, and raise where it is not to."""

    def note(response: web.StreamResponse) -> None:
        if completes and response.status not in _FOR_THE_WHOLE:
            raise _PieceError
        fields = tuple(response.headers.items())
        streaming(response)
        is_named = bool(conditional.validators(fields))
        if is_named and conditional.not_modified(exchange.request.method, exchange.headers, response.status, fields):
            raise _UnchangedError(*fields)

    return note


async def fetch_head(
    exchange: Exchange,
    handler: Handler,
    stored: Stored,
    entry: CacheRecord,
    settings: Cache,
    *,
    clock: Clock,
    streaming: Streaming,
) -> Fetched:
    """Ask the origin for a head: the record is `entry`, renewed by it or known to be out of date (RFC 9111 4.3.5)."""
    request = conditioned(exchange, (), no_cache=False)
    sent = clock()
    response = await ask(request, handler, streaming)
    answer = await take(request, response, settings.max_body)
    received = clock()
    nothing = Fetched(request=exchange.request, response=response)
    if answer is None or stored.remembered is None or response.status in SERVER_ERRORS:
        return nothing
    outdated = msgspec.structs.replace(nothing, record=msgspec.structs.replace(entry, terms=NO_TERMS))
    described = answer.headers
    if answer.body:  # of a handler, which leaves it to aiohttp to count and to drop it
        described = (*described, ("Content-Length", str(len(answer.body))))
    told = featured.head_of(entry.headers, described)
    agrees = conditional.head_agrees(entry.headers, len(entry.body), told)
    if answer.status != entry.status or not agrees:
        return outdated
    whole = _together(stored, answer, settings.max_body, revalidated=True)
    if featured.is_forbidden_now(stored.snapshot, whole):
        return outdated
    governing = await as_sent(request, whole)
    # What the head took says nothing of the whole.
    arrival = Arrival(answer.headers, sent, received, entry.cost)
    record, _, known = record_of(exchange, whole, governing, stored, settings, arrival)
    if record is None:
        return outdated
    return msgspec.structs.replace(nothing, snapshot=whole, record=record, is_whole=True, known=known)


def _together(stored: Stored, answer: Snapshot, max_body: int, *, revalidated: bool) -> Snapshot:
    """The answer with what it confirms or adds to, within `max_body` bytes (RFC 9111 sections 3.4 and 4.3.4)."""
    saved = stored.snapshot
    if saved is not None and revalidated:
        headers = conditional.update_stored(saved.headers, featured.news(saved.headers, answer.headers))
        return Snapshot(saved.status, saved.reason, tuple(headers), saved.body)
    if saved is None or answer.status != 206 or not stored.is_usable or not parts.is_sound(answer):
        return answer
    together = parts.combined(saved, answer)
    return together if together is not None and len(together.body) <= max_body else answer


def record_of(
    exchange: Exchange,
    snapshot: Snapshot,
    governing: Headers,
    stored: Stored,
    settings: Cache,
    arrival: Arrival,
) -> tuple[CacheRecord | None, Storability, Known]:
    """Make the record of a response, if it may be stored by the fields `governing` it."""
    answered = arrival.received
    storability = _storability(exchange, snapshot, governing, stored, settings, answered)
    if not storability.allowed or stored.remembered is None:
        return None, storability, NOTHING_KNOWN
    vary = _selecting_names(exchange, governing)
    known = learn(stored.known, vary, exchange.headers, governing)
    headers = remove(_dated(end_to_end(snapshot.headers), answered), unstorable_fields(governing))
    try:
        lines = to_lines(headers)
        asked = to_lines(remove(selecting(exchange.headers, vary), _PRIVATE_REQUEST_FIELDS))
    except ValueError:  # a handler's doing, which aiohttp refuses to send; or a middleware's
        return None, Storability(False, "malformed"), known
    record = CacheRecord(
        url=exchange.cached_as.url,
        request_lines=asked.sent,
        vary=vary,
        token=stored.remembered.token,
        asof=stored.remembered.asof,
        status=snapshot.status,
        reason=snapshot.reason.encode("latin-1", "replace"),
        sent_lines=lines.sent,
        held_lines=lines.held,
        form=form_of(snapshot.status, snapshot.reason, lines.sent),
        body=snapshot.body,
        terms=terms(snapshot.status, governing, exchange.policy, response_time=answered, shared=not exchange.owner),
        initial_age=initial_age(arrival.headers, request_time=arrival.sent, response_time=answered),
        response_time=answered,
        owner=exchange.owner,
        cost=arrival.cost,
        tags=response_tags(governing),
        purge=stored.remembered.purge,
    )
    return record, storability, known


def allowed(inquiry: Inquiry, status: int, governing: Headers, settings: Cache, answered: float) -> Storability:
    """Whether a response to what is asked for may be stored by the fields `governing` it."""
    return may_store(
        "GET",
        inquiry.headers,
        status,
        governing,
        inquiry.policy,
        shared=not inquiry.owner,
        credentials=inquiry.has_credentials,
        store_set_cookie=settings.store_set_cookie,
        response_time=answered,
    )


def _storability(
    exchange: Exchange,
    snapshot: Snapshot,
    governing: Headers,
    stored: Stored,
    settings: Cache,
    answered: float,
) -> Storability:
    """Whether a response may be stored, and can be here."""
    found = allowed(exchange, snapshot.status, governing, settings, answered)
    if not found.allowed:
        return found
    if snapshot.status == 206 and own_names(_selecting_names(exchange, governing)):
        return Storability(False, "feature")  # a part of what is stored as another whole
    if stored.remembered is None:
        return Storability(False, "region")
    return found if parts.is_sound(snapshot) else Storability(False, "unsound")


def _selecting_names(exchange: Exchange, governing: Headers) -> tuple[str, ...]:
    """What selects a response: the fields that it varies on, and the features that may change it."""
    return (*exchange.features.names_for(governing), *(selecting_names(governing) or ()))


def _dated(headers: Headers, answered: float) -> Headers:
    """The fields with the time of arrival where there is none of origin (RFC 9110 section 6.6.1)."""
    return headers if first(headers, "date") is not None else (*headers, ("Date", format_date(answered)))


def is_fresh(record: CacheRecord | None) -> bool:
    """Whether a response was fresh when it arrived, and need not be validated."""
    return record is not None and not record.terms.no_cache and record.terms.lifetime > record.initial_age


def shareable(exchange: Exchange, fetched: Fetched) -> bool:
    """Whether another request's answer may go to this one: it may be stored, fields and features agree."""
    if fetched.record is None or not exchange.is_current(fetched.record):
        return False
    theirs = [*without_pins(end_to_end(list(fetched.request.headers.items()))), *fetched.selectors]
    names, known = fetched.vary, fetched.known
    return selecting(theirs, names, known) == selecting(exchange.selecting_headers, names, known)


def marker_of(exchange: Exchange, record: CacheRecord, known: Known) -> CacheRecord:
    """The marker that stands under the resource's plain key and names the selecting fields."""
    url = exchange.cached_as.url
    return CacheRecord(url=url, vary=record.vary, token=record.token, asof=record.asof, known=known)
