"""Write-behind: check a write, queue it in the region, answer at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from ..durability import parse_durability
from ..effects import AUTO, DELETE, UNKNOWN_EFFECT, effect_for
from ..errors import RegionUnavailableError
from ..exchange import Exchange, body_at_hand, described_body, fingerprint_of, idempotency_key, read_body
from ..hooks import Hooks, WriteEvent
from ..pin import PIN_COOKIE, PIN_HEADER, make_pin
from ..principal import Signer
from ..problems import problem, unavailable
from ..records import WirePairs, WriteRecord, to_wire
from ..responses import CACHE_STATUS, ReadyResponse, Whole, cache_name, respond
from ..rules import CompiledRule, effect_name
from ..semantics.cache_status import cache_status
from ..semantics.fields import Headers, remove
from ..semantics.prefer import NO_PREFERENCES, Preferences, parse_prefer
from ..settings import Settings
from ..sites.serving import Sites
from ..store import queue
from ..store.accepting import Acceptance, Accepted, Verdict, accept, new_write_id
from ..store.keyspace import Partition
from ..store.region import RegionStore
from . import preconditions
from .plans import WritePlan, WritePlans
from .receipts import Receipts
from .through import Past

logger = logging.getLogger(__name__)

MAX_TOLD: Final = 16
"""What is kept of the fields that origins are told for the same fields, by host and peer."""
MAX_WAIT: Final = 60
"""Seconds of the longest `Prefer: wait` honoured."""
_POLL_SECONDS: Final = 1.0
_FULL: Final = {
    "writes": "the region's queue is full",
    "bytes": "the region's queue is full",
    "resource": "too many writes of this resource are pending",
    "principal": "too many of your writes are pending",
}

_DESCRIBES_BODY: Final = frozenset({b"content-type", b"content-encoding", b"content-range"})
_LENGTH: Final = frozenset({"content-length"})
_CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})

LocationOf = Callable[[str], str]
"""The path of a write's status page, by its id."""


class Accepter:
    """Take writes behind. `location_of` makes the path of a status page; `hooks` hear of what is queued.

    `sites` None when the settings' site is the only one.
    """

    def __init__(
        self,
        settings: Settings,
        signer: Signer,
        location_of: LocationOf,
        hooks: Hooks | None = None,
        sites: Sites | None = None,
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._location_of = location_of
        # What is replayed under a credential of our own needs nobody else's.
        self._dropped = _LENGTH | (_CREDENTIALS if settings.sync.authorization else frozenset())
        self._hooks = hooks or Hooks()
        self._kinds: dict[tuple[str, int, bool], Receipts] = {}
        self.plans = WritePlans(settings, sites)

    async def accept(self, exchange: Exchange, rule: CompiledRule) -> web.Response | Past:
        """Queue a write in the user's region and answer it.

        202 with its status page, or what `Prefer: wait` asked for; 403 when `authorize` says no; 400, 413 or 422 for
        what is wrong with it; 503 with `Retry-After` when the region cannot take it, or `Past` when the write may go
        to the origin instead: the queue is full, yet has nothing of this resource, or the rule lets it when the region
        cannot be reached.
        """
        answer = await self._take(exchange, rule)
        return answer if isinstance(answer, Past) else _marked(answer, exchange.stores[0])

    async def follow(self, plan: WritePlan, request: web.Request) -> web.Response | None:
        """Queue a write by its plan, and answer it; None for one that has to go the whole way."""
        settings = self._settings.queue
        most = min(settings.max_body, request.client_max_size or settings.max_body)
        body = body_at_hand(request)
        if body is None and (request.content_length or 0) <= most:
            try:
                body = await request.read()
            except web.RequestPayloadError:
                return None
        if body is None or len(body) > most:
            return None
        store = plan.store
        try:
            _require_checked(store)
            accepted = await plan.queue.ask(plan.next(body))
        except RegionUnavailableError as error:
            logger.debug("a write of %s was not queued: %s", request.path, error)
            return _unavailable(store, error)
        if accepted.verdict is not Verdict.ACCEPTED:
            return None
        if self._hooks.are_heard("pending"):
            self._hooks.announce(_accepted_event(plan.record(accepted.detail), store.name))
        return ReadyResponse(plan.receipts, accepted.detail)

    async def _take(self, exchange: Exchange, rule: CompiledRule) -> web.Response | Past:
        authorize = rule.rule.authorize
        if callable(authorize) and not await authorize(exchange.request):
            return problem(403, "Forbidden", "This write is not allowed.")
        try:
            key = idempotency_key(exchange.request)
        except ValueError as error:
            return problem(400, "Bad Request", str(error))
        limit = self._settings.queue.max_body
        try:
            body = await read_body(exchange.request, limit)
        except (web.RequestPayloadError, ContentEncodingError):
            return problem(400, "Bad Request", "The body is not what its Content-Encoding says.")
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "Content Too Large", f"A write has at most {limit} bytes.")
        return await self._queue(exchange, rule, body, key)

    async def _queue(self, exchange: Exchange, rule: CompiledRule, body: bytes, key: str | None) -> web.Response | Past:
        store = exchange.stores[0]
        partition = store.partition(exchange.resource)
        acceptance = self._acceptance(exchange, rule, store, partition, body, key)
        try:
            checked = await self._checked(exchange, store, partition, acceptance)
            if checked is None:
                return problem(412, "Precondition Failed", "The state that If-Match names has vanished; read it again.")
            _require_checked(store)
            accepted = await accept(store, partition, checked, self._settings.queue)
        except RegionUnavailableError as error:
            logger.debug("a write of %s was not queued: %s", exchange.target.path, error)
            if rule.rule.when_region_down == "through":
                return Past(acceptance.record, body, "through-down")
            return _unavailable(store, error)
        self._announce(acceptance.record, store, accepted)
        if accepted.verdict is Verdict.FULL:
            return _full(store, checked, body, accepted)
        answer = await self._answer(exchange, rule, store, partition, acceptance, accepted)
        if accepted.verdict is not Verdict.MISMATCH:
            self._pin(store, answer, is_secure=exchange.target.scheme == "https")
        if accepted.verdict is Verdict.ACCEPTED and checked is acceptance:
            is_secure = exchange.target.scheme == "https"
            self.plans.learn(exchange, rule, partition, acceptance, self._receipts(store, partition, is_secure))
        return answer

    def _receipts(self, store: RegionStore, partition: Partition, is_secure: bool) -> Receipts:
        """How the writes of plans are answered."""
        kind = (store.name, partition.number, is_secure)
        if kind not in self._kinds:

            def make(write_id: str) -> web.Response:
                answer = self._accepted(write_id, NO_PREFERENCES, "pending")
                self._pin(store, answer, is_secure=is_secure)
                return _marked(answer, store)

            self._kinds[kind] = Receipts(make)
        return self._kinds[kind]

    def _pin(self, store: RegionStore, answer: web.Response, *, is_secure: bool) -> None:
        """Keep the writer on this region, where their write is and its idempotency key is known."""
        seconds = int(self._settings.queue.pin_seconds)
        if len(self._settings.regions) == 1 or not seconds:
            return
        pin = make_pin(self._signer, store.name, int(time.time()) + seconds)
        answer.headers[PIN_HEADER] = pin
        answer.set_cookie(PIN_COOKIE, pin, max_age=seconds, path="/", httponly=True, samesite="Lax", secure=is_secure)

    @staticmethod
    async def _checked(
        exchange: Exchange, store: RegionStore, partition: Partition, acceptance: Acceptance
    ) -> Acceptance | None:
        """The write with its If-Match resolved; None when it cannot hold any more and the write is not known yet."""
        resolved = await preconditions.resolve(
            store, partition, acceptance.record, exchange.resource.digest, exchange.principal.ids
        )
        if resolved is acceptance.record:
            return acceptance
        if resolved is not None:
            return msgspec.structs.replace(acceptance, record=resolved)
        return acceptance if await queue.is_known(store, partition, acceptance.record.idempotency) else None

    def _announce(self, record: WriteRecord, store: RegionStore, accepted: Accepted) -> None:
        """Tell who listens of a write that is queued now, and was not before."""
        is_new = accepted.detail == record.id and accepted.verdict in (Verdict.ACCEPTED, Verdict.UNCONFIRMED)
        if is_new and self._hooks.are_heard("pending"):
            self._hooks.announce(_accepted_event(record, store.name))

    def _acceptance(
        self,
        exchange: Exchange,
        rule: CompiledRule,
        store: RegionStore,
        partition: Partition,
        body: bytes,
        client_key: str | None,
    ) -> Acceptance:
        write_id = new_write_id(store, partition)
        paths = rule.affected(exchange.target.path, exchange.served.groups)
        resources = [exchange.resource_at(other.path) for other in paths]
        headers, size = self._told(exchange)
        digests = tuple([resource.digest for resource in resources])
        record = self._record(exchange, rule, store, write_id, body, client_key, headers, digests)
        copies = [self._copy(record, exchange.target.sibling(other.path).url, other.effect) for other in paths]
        return Acceptance(
            record,
            exchange.resource,
            tuple(zip(resources, copies, strict=True)),
            # Nobody compares it where no key says that another request is the same.
            fingerprint=fingerprint_of(exchange.request, body) if client_key else "",
            size=len(body) + size,
            body=body if record.body_stored else b"",
            durability=parse_durability(record.durability),
        )

    def _record(
        self,
        exchange: Exchange,
        rule: CompiledRule,
        store: RegionStore,
        write_id: str,
        body: bytes,
        client_key: str | None,
        headers: WirePairs,
        affected: tuple[str, ...],
    ) -> WriteRecord:
        stored = len(body) > self._settings.queue.inline_body
        method = exchange.request.method
        content_type = exchange.request.headers.get("Content-Type", "")
        if client_key:
            scope = (exchange.principal.oldest, method, exchange.target.url, client_key)
            known_by = self._signer.sign_oldest("client-key", exchange.site.id, *scope)
            origin_key = self._signer.sign_oldest("origin-key", *scope)
        else:
            known_by, origin_key = "", store.nonces.new()
        return WriteRecord(
            id=write_id,
            idempotency_key=origin_key,
            accepted=int(store.now() * 1000),
            body_stored=stored,
            body=b"" if stored else body,
            site=exchange.site.id,
            url=exchange.cached_as.url,
            endpoint=exchange.target.endpoint,
            method=method,
            headers=headers,
            principal=exchange.principal.id,
            shared=rule.rule.shared,
            effect=effect_for(effect_name(rule.rule.effect), method, content_type),
            path=exchange.target.path,
            group=exchange.resource.group,
            max_tries=rule.rule.max_tries or 0,
            max_age=rule.rule.max_age or 0.0,
            repeatable=rule.rule.replay == "safe",
            bulk=rule.rule.bulk.endpoint if rule.rule.bulk else "",
            coalesce=rule.rule.coalesce,
            on_dead=rule.rule.on_dead or "",
            durability=rule.rule.durability or self._settings.queue.durability,
            affected=affected,
            idempotency=known_by,
        )

    def _told(self, exchange: Exchange) -> tuple[WirePairs, int]:
        """The fields of a write as its origin gets them, and their octets."""
        asker, host = exchange.asker, exchange.request.host
        key = (exchange.served.site is None, exchange.method, host, asker.peer, asker.scheme)
        told = exchange.said.told.get(key)
        if told is None:
            headers = to_wire(self._headers(exchange))
            told = headers, sum(len(name) + len(value) for name, value in headers)
            if len(exchange.said.told) < MAX_TOLD:
                exchange.said.told[key] = told
        return told

    def _headers(self, exchange: Exchange) -> Headers:
        """The fields of a write as its origin gets them."""
        # The service's credential is for the origin of the settings; other origins get the user's.
        dropped = self._dropped if exchange.served.site is None else _LENGTH
        kept = remove(described_body(exchange.headers), dropped)
        return exchange.asker.told(kept, exchange.request.method, exchange.request.host)

    @staticmethod
    def _copy(record: WriteRecord, url: str, effect: str) -> WriteRecord:
        """The write as it stands with a resource that it affects: only as much of it as its effect there needs."""
        effect = effect_for(effect, record.method, "") if effect == AUTO else effect
        if effect in (UNKNOWN_EFFECT, DELETE):
            return msgspec.structs.replace(record, url=url, effect=effect, headers=(), body=b"", body_stored=False)
        described = tuple(pair for pair in record.headers if pair[0].lower() in _DESCRIBES_BODY)
        return msgspec.structs.replace(record, url=url, effect=effect, headers=described)

    # --- answers ---

    async def _answer(
        self,
        exchange: Exchange,
        rule: CompiledRule,
        store: RegionStore,
        partition: Partition,
        acceptance: Acceptance,
        accepted: Accepted,
    ) -> web.Response:
        if accepted.verdict is Verdict.MISMATCH:
            return problem(
                422, "Unprocessable Content", "This Idempotency-Key was used for another request to this resource."
            )
        if accepted.verdict is Verdict.UNCONFIRMED:
            return unavailable(
                "The write is queued, but not yet as safe as it has to be. Send it again with the same Idempotency-Key "
                "to learn whether it is by then."
            )
        write_id = accepted.detail
        wishes = parse_prefer(exchange.headers)
        if wishes.wait is not None and not wishes.respond_async:
            settled = await self._settled(store, partition, write_id, min(wishes.wait, MAX_WAIT))
            if settled is not None:
                return _origins_answer(settled)
        if rule.rule.answer == "optimistic" and (expected := _optimistic(exchange, acceptance.record, acceptance)):
            expected.headers["Location"] = self._location_of(write_id)
            return expected
        state = "pending"
        if accepted.verdict is Verdict.KNOWN:
            state = await self._state(store, partition, write_id)
        return self._accepted(write_id, wishes, state)

    @staticmethod
    async def _state(store: RegionStore, partition: Partition, write_id: str) -> str:
        with contextlib.suppress(RegionUnavailableError):
            found = await queue.status(store, partition, write_id)
            return found["state"] if found else "pending"
        return "pending"

    def _accepted(self, write_id: str, wishes: Preferences, state: str) -> web.Response:
        location = self._location_of(write_id)
        response = Whole(
            status=202,
            body=msgspec.json.encode({"id": write_id, "state": state, "status": location}),
            headers={
                "Location": location,
                "Cache-Control": "no-store",
                "Content-Type": "application/json; charset=utf-8",
            },
        )
        if wishes.respond_async:
            response.headers["Preference-Applied"] = "respond-async"
        elif wishes.wait is not None:
            response.headers["Preference-Applied"] = f"wait={min(wishes.wait, MAX_WAIT)}"
        return response

    async def _settled(
        self, store: RegionStore, partition: Partition, write_id: str, seconds: float
    ) -> dict[str, str] | None:
        """Wait a bounded time for a write, or the one that took its place, to settle; None when it has not."""
        deadline = time.monotonic() + seconds
        ended = await self._ended(store, partition, write_id, deadline)
        while ended is not None and "by" in ended:
            ended = await self._ended(store, partition, ended["by"], deadline)
        return ended

    async def _ended(
        self, store: RegionStore, partition: Partition, write_id: str, deadline: float
    ) -> dict[str, str] | None:
        with store.events.watch(write_id) as changed:
            while True:
                changed.clear()
                with contextlib.suppress(RegionUnavailableError):
                    found = await queue.status(store, partition, write_id)
                    if found is not None and found.get("state") != "pending":
                        return found
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(remaining, _POLL_SECONDS))


def _accepted_event(record: WriteRecord, region: str) -> WriteEvent:
    return WriteEvent(
        id=record.id,
        region=region,
        state="pending",
        method=record.method,
        url=record.url,
        principal=record.principal,
        accepted=record.accepted / 1000,
    )


def _require_checked(store: RegionStore) -> None:
    if not store.is_checked:
        raise RegionUnavailableError(store.name, "not checked yet")


def _optimistic(exchange: Exchange, record: WriteRecord, acceptance: Acceptance) -> web.Response | None:
    """The answer that the origin is expected to give, where the effect alone tells it."""
    if record.effect == "replace":
        content_type = exchange.request.headers.get("Content-Type", "application/octet-stream")
        body = acceptance.body or record.body
        return web.Response(
            status=200, body=body, headers={"Content-Type": content_type, "Cache-Control": "private, no-store"}
        )
    return web.Response(status=204) if record.effect in (DELETE, "merge-patch") else None


def _origins_answer(status: dict[str, str]) -> web.Response:
    """The origin's own answer to a settled write, or why there is none."""
    if "answer" not in status:
        return problem(502, "Bad Gateway", f"The write is {status['state']}: {status.get('reason', 'unknown')}.")
    body = status.get("answer_body", "").encode("latin-1")
    extra = [("Cache-Control", "no-store"), ("Preference-Applied", "wait")]
    return respond(int(status["answer"]), "", queue.answer_headers(status), body, extra=extra)


def _full(store: RegionStore, acceptance: Acceptance, body: bytes, accepted: Accepted) -> web.Response | Past:
    if not accepted.seq:  # there is nothing that it could overtake
        return Past(acceptance.record, body, "through-full")
    return _refused(store, "full", f"Try again later: {_FULL[accepted.detail]}.")


def _unavailable(store: RegionStore, error: RegionUnavailableError) -> web.Response:
    return _refused(store, "down", "The region cannot take writes now.", error.retry_after)


def _refused(store: RegionStore, why: str, detail: str, retry_after: int = 1) -> web.Response:
    response = unavailable(detail, retry_after=retry_after)
    response.headers[CACHE_STATUS] = cache_status(cache_name(store.name), detail=f"refused-{why}")
    return response


def _marked(response: web.Response, store: RegionStore) -> web.Response:
    response.headers.setdefault(CACHE_STATUS, _taken_by(store.name))
    return response


@functools.lru_cache(maxsize=256)
def _taken_by(region: str) -> str:
    return cache_status(cache_name(region), detail="write-behind")
