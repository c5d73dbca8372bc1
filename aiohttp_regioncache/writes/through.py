"""Write-through: the origin answers, then every region stops serving the old state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from ..errors import RegionUnavailableError
from ..exchange import Exchange, Handler, with_body
from ..keys import Resource, normalize_path
from ..problems import Unanswered, unavailable
from ..purges import Line
from ..reads.memory import Memory
from ..records import WriteRecord, from_wire
from ..responses import as_it_came, ask, cache_name, mark, with_status
from ..semantics.cache_status import cache_status
from ..semantics.fields import remove, values
from ..semantics.groups import invalidated_groups
from ..semantics.methods import invalidated_targets, invalidates
from ..settings import Cache
from ..store.entries import Exchanged, invalidate
from ..store.outbox import announce, announce_purge
from ..store.purging import purge
from ..store.queue import is_idle
from ..store.region import RegionStore
from ..tasks import Tasks
from .flush import RETRY_PAUSE, RETRY_SECONDS, Flush
from .intents import Intents, Noted
from .posting import Begun, Posting, Told

logger = logging.getLogger(__name__)

_UNANSWERED: Final = frozenset({502, 504})
"""Failures of a gateway before the origin, which do not tell whether the write was applied, or still will be."""


class Past(msgspec.Struct, frozen=True):
    """A write behind that its region's queue cannot take, and that goes past it to the origin.

    `record` is the write as it would have been queued, `body` what has been read of the request; `detail` is for
    `Cache-Status`.
    """

    record: WriteRecord
    body: bytes
    detail: str


class Through:
    """Take writes through to the origin.

    `memories` are those of this process, which hear of them at once; `tasks` for what goes on after an answer.
    """

    def __init__(self, settings: Cache, memories: Collection[Memory], intents: Intents, tasks: Tasks) -> None:
        self._dirty_wait = settings.dirty_wait
        self._posting = Posting(settings)
        self._memories = memories
        self._intents = intents
        self._tasks = tasks
        self._flush = Flush()

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for what every region has still to be told."""
        await self._flush.drain(timeout)

    async def write(self, exchange: Exchange, handler: Handler, *, is_replay: bool = False) -> web.StreamResponse:
        """Answer a request with a method that does not read.

        A write to a resource with pending writes waits for them, at most `dirty_wait` seconds, and is refused with 503
        otherwise: it must not overtake them. A replay does not wait: it is what the others wait for.
        """
        region = exchange.stores[0].name if exchange.stores else None
        if exchange.touched and not is_replay and not await self._is_clean(exchange):
            refused = unavailable("Earlier writes to this resource are still on their way to the origin.")
            return with_status(refused, cache_status(cache_name(region), detail="dirty"))
        status = cache_status(cache_name(region), fwd="method")
        # A replay's own record is what brings another edge to look after it.
        if is_replay:
            return await self._ask(exchange, exchange.request, handler, status, None)
        noted, begun = await asyncio.gather(self._note(exchange), self._posting.begin(exchange))
        return await self._ask(exchange, exchange.request, handler, status, noted, begun)

    async def past_queue(self, exchange: Exchange, handler: Handler, past: Past) -> web.StreamResponse:
        """Answer a write that could not be queued: the origin takes it now, whatever may be pending."""
        headers = CIMultiDict(remove(list(exchange.request.headers.items()), ("if-match", "idempotency-key")))
        # What If-Match names is resolved to what the origin knows.
        headers.extend([("If-Match", value) for value in values(from_wire(past.record.headers), "if-match")])
        # An origin that honours the key applies the write once, should it have been queued after all.
        headers["Idempotency-Key"] = f'"{past.record.idempotency_key}"'
        status = cache_status(cache_name(exchange.stores[0].name), fwd="method", detail=past.detail)
        request = with_body(exchange.request, headers, past.body)
        return await self._ask(exchange, request, handler, status, await self._note(exchange))

    async def _ask(
        self,
        exchange: Exchange,
        request: web.Request,
        handler: Handler,
        status: str,
        noted: Noted | None,
        begun: Begun | None = None,
    ) -> web.StreamResponse:
        try:
            response = await ask(request, handler, lambda streamed: mark(streamed, status))
        except BaseException:  # also when the client leaves: the origin may have applied it, or still be at it
            await asyncio.shield(self._invalidate(exchange, (), noted, is_over=False))
            raise
        method = exchange.request.method
        is_over = not (isinstance(response, Unanswered) or response.status in _UNANSWERED)
        if invalidates(method, response.status) or not is_over:
            headers = list(response.headers.items())
            _, *named = invalidated_targets(exchange.target.url, headers)  # the target itself need not be parsed
            groups = invalidated_groups(method, response.status, headers)
            lines = [Line("tag", site=exchange.site.id, value=group) for group in groups]
            told = await asyncio.shield(self._invalidate(exchange, named, noted, lines, is_over=is_over))
            if begun is not None and told is not None and is_over:
                await asyncio.shield(self._posting.store(exchange, begun, response, told))
        elif noted is not None:
            noted.take_back()
        return as_it_came(with_status(response, status))

    async def _note(self, exchange: Exchange) -> Noted | None:
        return await self._intents.note(exchange.stores, self._own(exchange))

    async def _is_clean(self, exchange: Exchange) -> bool:
        store = exchange.stores[0]
        wait = self._dirty_wait if exchange.dirty_wait is None else exchange.dirty_wait
        deadline = time.monotonic() + wait
        with store.events.watch(exchange.resource.digest) as changed:
            while True:
                changed.clear()
                try:
                    if await is_idle(store, exchange.resource):
                        return True
                except RegionUnavailableError:
                    # Its predecessors are unknown; those that may go past them say so.
                    return all(rule.rule.when_region_down == "through" for rule in exchange.touching)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(remaining, 1.0))

    def _own(self, exchange: Exchange) -> list[Resource]:
        """The target and what the rule says it affects, all of one group."""
        rule, path = exchange.rule, exchange.target.path
        affected = rule.affected(path, exchange.served.groups) if rule is not None else ()
        return [exchange.resource_at(each) for each in dict.fromkeys((path, *(other.path for other in affected)))]

    async def _invalidate(
        self,
        exchange: Exchange,
        targets: Sequence[str],
        noted: Noted | None,
        lines: Sequence[Line] = (),
        *,
        is_over: bool,
    ) -> Told | None:
        """Stop serving the target, what the rule says it affects, and what the answer names, in every region.

        `targets` and `lines` are what the answer names. Unless the write `is_over`, its intent stays: the origin may
        apply it later, and then all is invalidated again. Gives the region that was told at once, with what the
        target's token has become; None when there is none.
        """
        named = [exchange.resource_at(normalize_path(urlsplit(target).path)) for target in targets]
        resources = list(dict.fromkeys((*self._own(exchange), *named)))
        stores = list(exchange.stores)
        if noted is not None:
            noted.leave()
            first = noted.intent.store  # it could be reached just now
            stores.sort(key=lambda store: store is not first)
        fulfilled = noted if is_over else None
        told = await self._in_any(stores, resources, fulfilled, lines)
        if told is None:
            logger.warning("%s: no region can be told that it has changed; tried again", exchange.target.path)
            self._tell_later(stores, resources, fulfilled, lines)
        for memory in self._memories:
            memory.forget(resource.digest for resource in resources)
            if lines:
                memory.clear()
        return told

    async def _in_any(
        self, stores: Sequence[RegionStore], resources: list[Resource], noted: Noted | None, lines: Sequence[Line]
    ) -> Told | None:
        """Invalidate in the first region that can be reached: its outbox tells the others."""
        for store in stores:
            try:
                return Told(store, await self._in_region(store, resources, noted, lines))
            except RegionUnavailableError as error:
                logger.debug("not invalidated: %s", error)
        return None

    def _tell_later(
        self, stores: Sequence[RegionStore], resources: list[Resource], noted: Noted | None, lines: Sequence[Line]
    ) -> None:
        """Go on trying, for each change by itself; for all of them when there are too many to remember."""
        trying = self._keep_trying(stores, resources, noted, lines)
        if self._tasks.spawn(trying, "invalidate later") is not None:
            for store in stores:
                store.untold.take(resource.digest for resource in resources)
            return
        self._flush.want(stores)

    async def _keep_trying(
        self, stores: Sequence[RegionStore], resources: list[Resource], noted: Noted | None, lines: Sequence[Line]
    ) -> None:
        deadline = time.monotonic() + RETRY_SECONDS
        told = None
        while told is None and time.monotonic() < deadline:
            await asyncio.sleep(RETRY_PAUSE)
            told = await self._in_any(stores, resources, noted, lines)
        for store in stores:
            store.untold.let_go(resource.digest for resource in resources)
        if told is None:
            logger.error("%s: no region has been told that it has changed", resources[0].path)

    @staticmethod
    async def _in_region(
        store: RegionStore, resources: list[Resource], noted: Noted | None, lines: Sequence[Line]
    ) -> Exchanged:
        if lines:  # first: the intent stands until all is done
            await purge(store, lines, announce=announce_purge(lines))
        by_group: dict[str, list[Resource]] = {}
        for resource in resources:
            by_group.setdefault(resource.group, []).append(resource)
        tokens: list[Exchanged] = []
        for group, members in by_group.items():
            partition = store.partition(members[0])
            names = tuple(resource.digest for resource in members)
            is_noted = noted is not None and noted.intent.partition is partition and members[0] is resources[0]
            intent = noted.intent.octets if noted is not None and is_noted else b""
            tokens.append(await invalidate(store, partition, names, announce=announce(group, names), intent=intent))
        return tokens[0]
