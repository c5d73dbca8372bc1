"""Write-behind: check a write, queue it in the region, answer at once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from ..effects import AUTO, DELETE, UNKNOWN_EFFECT, effect_for
from ..errors import RegionUnavailableError
from ..exchange import Exchange, described_body
from ..keys import Groups
from ..principal import Signer
from ..problems import problem, unavailable
from ..records import WriteRecord, to_wire
from ..responses import CACHE_STATUS, cache_name, respond
from ..rules import CompiledRule, effect_name
from ..semantics.cache_status import cache_status
from ..semantics.fields import remove
from ..semantics.prefer import Preferences, parse_prefer
from ..settings import Settings
from ..store import queue
from ..store.keyspace import Partition
from ..store.queue import Acceptance, Accepted, Verdict
from ..store.region import RegionStore

logger = logging.getLogger(__name__)

MAX_KEY: Final = 255
"""Characters of the longest `Idempotency-Key` accepted."""
MAX_WAIT: Final = 60
"""Seconds of the longest `Prefer: wait` honoured."""
_POLL_SECONDS: Final = 1.0
_FULL: Final = {
    "writes": "the region's queue is full",
    "bytes": "the region's queue is full",
    "resource": "too many writes of this resource are pending",
    "principal": "too many of your writes are pending",
}

LocationOf = Callable[[str], str]
"""The path of a write's status page, by its id."""


class Accepter:
    """Take writes behind. `location_of` makes the path of a status page."""

    def __init__(self, settings: Settings, groups: Groups, signer: Signer, location_of: LocationOf) -> None:
        self._settings = settings
        self._groups = groups
        self._signer = signer
        self._location_of = location_of

    async def accept(self, exchange: Exchange, rule: CompiledRule) -> web.Response:
        """Queue a write in the user's region and answer it.

        202 with its status page, or what `Prefer: wait` asked for; 403 when `authorize` says no; 400, 413 or 422 for
        what is wrong with it; 503 with `Retry-After` when the region cannot take it.
        """
        return _marked(await self._take(exchange, rule), exchange.stores[0])

    async def _take(self, exchange: Exchange, rule: CompiledRule) -> web.Response:
        authorize = rule.rule.authorize
        if callable(authorize) and not await authorize(exchange.request):
            return problem(403, "Forbidden", "This write is not allowed.")
        key = exchange.request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= MAX_KEY:
            return problem(400, "Bad Request", f"Idempotency-Key must have 1 to {MAX_KEY} characters.")
        limit = self._settings.queue.max_body
        try:
            body = await _body_of(exchange.request, limit)
        except (web.RequestPayloadError, ContentEncodingError):
            return problem(400, "Bad Request", "The body is not what its Content-Encoding says.")
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "Content Too Large", f"A write has at most {limit} bytes.")
        store = exchange.stores[0]
        partition = store.partition(exchange.resource)
        if not store.is_checked:
            return unavailable("The region has not been checked yet.")
        acceptance = self._acceptance(exchange, rule, store, partition, body, key)
        try:
            accepted = await self._store(store, partition, acceptance)
        except RegionUnavailableError as error:
            logger.debug("a write of %s was refused: %s", exchange.target.path, error)
            return unavailable("The region cannot take writes now.", retry_after=error.retry_after)
        return await self._answer(exchange, rule, store, partition, acceptance, accepted)

    async def _store(self, store: RegionStore, partition: Partition, acceptance: Acceptance) -> Accepted:
        # Known for as long as the write can be pending, and for a while after.
        known_for = self._settings.queue.idempotency_seconds + (
            acceptance.record.max_age or self._settings.sync.max_age
        )
        return await queue.accept(store, partition, acceptance, self._settings.queue, idempotency_seconds=known_for)

    def _acceptance(
        self,
        exchange: Exchange,
        rule: CompiledRule,
        store: RegionStore,
        partition: Partition,
        body: bytes,
        client_key: str | None,
    ) -> Acceptance:
        write_id = f"{store.name}-{partition.number}-{secrets.token_hex(16)}"
        record = self._record(exchange, rule, store, write_id, body, client_key)
        affected = tuple(
            (
                self._groups.resource(exchange.site.id, other.path),
                self._copy(record, exchange.target.sibling(other.path).url, other.effect),
            )
            for other in rule.affected(exchange.target.path, self._groups)
        )
        record = msgspec.structs.replace(record, affects=tuple(resource.path for resource, _ in affected))
        scope = (exchange.site.id, exchange.principal.id, record.method, exchange.target.url)
        return Acceptance(
            record,
            exchange.resource,
            affected,
            idempotency=self._signer.sign("client-key", *scope, client_key) if client_key else "",
            fingerprint=_fingerprint(exchange, body),
            size=len(body) + sum(len(name) + len(value) for name, value in record.headers),
            body=body if record.body_stored else b"",
        )

    def _record(
        self,
        exchange: Exchange,
        rule: CompiledRule,
        store: RegionStore,
        write_id: str,
        body: bytes,
        client_key: str | None,
    ) -> WriteRecord:
        stored = len(body) > self._settings.queue.inline_body
        method = exchange.request.method
        content_type = exchange.request.headers.get("Content-Type", "")
        key_parts = (exchange.principal.id, method, exchange.target.url, client_key or write_id)
        return WriteRecord(
            id=write_id,
            site=exchange.site.id,
            url=exchange.target.url,
            endpoint=exchange.target.endpoint,
            method=method,
            headers=to_wire(remove(described_body(exchange.headers), ("content-length",))),
            body=b"" if stored else body,
            body_stored=stored,
            principal=exchange.principal.id,
            shared=rule.rule.shared,
            effect=effect_for(effect_name(rule.rule.effect), method, content_type),
            path=exchange.target.path,
            group=exchange.resource.group,
            idempotency_key=self._signer.sign("origin-key", *key_parts),
            accepted=int(store.now() * 1000),
            max_tries=rule.rule.max_tries or 0,
            max_age=rule.rule.max_age or 0.0,
            repeatable=rule.rule.repeatable,
        )

    @staticmethod
    def _copy(record: WriteRecord, url: str, effect: str) -> WriteRecord:
        """The write as it stands with a resource that it affects: only as much of it as its effect there needs."""
        effect = effect_for(effect, record.method, "") if effect == AUTO else effect
        if effect in (UNKNOWN_EFFECT, DELETE):
            return msgspec.structs.replace(record, url=url, effect=effect, headers=(), body=b"", body_stored=False)
        content_type = tuple(pair for pair in record.headers if pair[0].lower() == b"content-type")
        return msgspec.structs.replace(record, url=url, effect=effect, headers=content_type)

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
        if accepted.verdict is Verdict.FULL:
            return unavailable(f"Try again later: {_FULL[accepted.detail]}.")
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
        response = web.json_response(
            {"id": write_id, "state": state, "status": location},
            status=202,
            headers={"Location": location, "Cache-Control": "no-store"},
        )
        if wishes.respond_async:
            response.headers["Preference-Applied"] = "respond-async"
        elif wishes.wait is not None:
            response.headers["Preference-Applied"] = f"wait={min(wishes.wait, MAX_WAIT)}"
        return response

    async def _settled(
        self, store: RegionStore, partition: Partition, write_id: str, seconds: float
    ) -> dict[str, str] | None:
        """Wait a bounded time for a write to settle; None when it has not."""
        deadline = time.monotonic() + seconds
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


async def _body_of(request: web.Request, limit: int) -> bytes:
    """Read a body within our own limit, which need not be the application's; raises 413 beyond it."""
    try:
        return await request.clone(client_max_size=limit).read()
    except RuntimeError:  # an outer middleware has read it already
        body = await request.read()
    if len(body) > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=len(body))
    return body


def _fingerprint(exchange: Exchange, body: bytes) -> str:
    content_type = exchange.request.headers.get("Content-Type", "").encode("utf-8", "surrogateescape")
    return hashlib.sha256(content_type + b"\n" + body).hexdigest()


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
    headers = [(name, value) for name, value in json.loads(status.get("answer_headers", "[]"))]
    body = status.get("answer_body", "").encode("latin-1")
    extra = [("Cache-Control", "no-store"), ("Preference-Applied", "wait")]
    return respond(int(status["answer"]), "", headers, body, extra=extra)


def _marked(response: web.Response, store: RegionStore) -> web.Response:
    response.headers[CACHE_STATUS] = cache_status(cache_name(store.name), detail="write-behind")
    return response
