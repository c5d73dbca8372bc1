"""Write-through: the origin answers, then every region stops serving the old state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from ..errors import RegionUnavailableError
from ..exchange import Exchange, Handler
from ..keys import Groups, Resource, normalize_path
from ..problems import unavailable
from ..reads.memory import Memory
from ..responses import CACHE_STATUS, as_it_came, ask, cache_name, with_status
from ..semantics.cache_status import cache_status
from ..semantics.methods import invalidated_targets, invalidates
from ..settings import Settings
from ..store.entries import glance, invalidate
from ..store.outbox import announce
from ..store.region import RegionStore

logger = logging.getLogger(__name__)

_MAY_HAVE_WRITTEN: Final = frozenset({500, 502, 503, 504})
"""Failures that do not tell whether the write was applied."""


class Through:
    """Take writes through to the origin. `memories` are those of this process, which hear of them at once."""

    def __init__(self, settings: Settings, groups: Groups, memories: Collection[Memory]) -> None:
        self._dirty_wait = settings.cache.dirty_wait
        self._groups = groups
        self._memories = memories

    async def write(self, exchange: Exchange, handler: Handler, *, is_replay: bool = False) -> web.StreamResponse:
        """Answer a request with a method that does not read.

        A write to a resource with pending writes waits for them, at most `dirty_wait` seconds, and is refused with 503
        otherwise: it must not overtake them. A replay does not wait: it is what the others wait for.
        """
        region = exchange.stores[0].name if exchange.stores else None
        status = cache_status(cache_name(region), fwd="method")
        if exchange.touched and not is_replay and not await self._is_clean(exchange):
            refused = unavailable("Earlier writes to this resource are still on their way to the origin.")
            return with_status(refused, cache_status(cache_name(region), detail="dirty"))
        try:
            response, raised = await ask(
                exchange.request, handler, lambda streamed: streamed.headers.add(CACHE_STATUS, status)
            )
        except BaseException:  # also when the client leaves: the origin may have applied it
            await asyncio.shield(self._invalidate(exchange, ()))
            raise
        method = exchange.request.method
        if invalidates(method, response.status) or response.status in _MAY_HAVE_WRITTEN:
            headers = list(response.headers.items())
            await self._invalidate(exchange, invalidated_targets(exchange.target.url, headers))
        return as_it_came(with_status(response, status), raised)

    async def _is_clean(self, exchange: Exchange) -> bool:
        store = exchange.stores[0]
        wait = self._dirty_wait if exchange.dirty_wait is None else exchange.dirty_wait
        deadline = time.monotonic() + wait
        with store.events.watch(exchange.resource.digest) as changed:
            while True:
                changed.clear()
                try:
                    seen = await glance(store, store.partition(exchange.resource), "", exchange.resource)
                except RegionUnavailableError:
                    return False  # its predecessors are unknown
                if seen.state is None or not seen.state.pending:
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(remaining, 1.0))

    async def _invalidate(self, exchange: Exchange, targets: tuple[str, ...]) -> None:
        """Stop serving the target, what the rule says it affects, and what the answer names, in every region."""
        paths = [exchange.target.path, *(normalize_path(urlsplit(target).path) for target in targets)]
        if exchange.rule is not None:
            paths += [other.path for other in exchange.rule.affected(exchange.target.path, self._groups)]
        resources = [self._groups.resource(exchange.site.id, path) for path in dict.fromkeys(paths)]
        for store in exchange.stores:
            try:
                await self._in_region(store, resources)
            except RegionUnavailableError as error:
                logger.warning("%s: not invalidated in its region: %s", exchange.target.path, error)
            else:
                break  # this region's outbox tells the others
        for memory in self._memories:
            memory.forget(resource.digest for resource in resources)

    @staticmethod
    async def _in_region(store: RegionStore, resources: list[Resource]) -> None:
        by_group: dict[str, list[str]] = {}
        for resource in resources:
            by_group.setdefault(resource.group, []).append(resource.digest)
        first = {resource.group: resource for resource in resources}
        for group, digests in by_group.items():
            names = tuple(digests)
            await invalidate(store, store.partition(first[group]), names, announce=announce(group, names))
