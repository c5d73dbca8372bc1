"""Store what was fetched, after the answer has gone out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from ..errors import RegionUnavailableError
from ..exchange import Exchange
from ..keys import Resource
from ..records import CacheRecord
from ..semantics.vary import Known
from ..store import entries
from ..store.region import RegionStore
from ..tasks import Tasks
from .fetch import marker_of
from .lookup import entry_key
from .memory import Memory

logger = logging.getLogger(__name__)


async def store_record(store: RegionStore, exchange: Exchange, record: CacheRecord, known: Known, keep: float) -> bool:
    """Store a response where a GET of the exchange's target finds it, `keep` seconds longer than it is fresh (C1).

    Says whether it was; it is not when the resource has changed since the origin was asked, or the region is down.
    """
    key = entry_key(exchange, record.vary, known)
    marker = (entry_key(exchange), marker_of(exchange, record, known)) if record.vary else None
    lifetime = record.terms.lifetime + keep
    try:
        partition = store.partition(exchange.resource)
        return await entries.fill(store, partition, exchange.resource, key, record, lifetime, marker)
    except RegionUnavailableError as error:
        logger.debug("not stored: %s", error)
        return False


class Fills:
    """What is being stored by this process. `memories` by region name; `keep` as in `store_record`."""

    def __init__(self, memories: Mapping[str, Memory], tasks: Tasks, keep: float) -> None:
        self._memories = memories
        self._tasks = tasks
        self._keep = keep
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}

    def begin(
        self,
        store: RegionStore,
        exchange: Exchange,
        record: CacheRecord,
        known: Known,
        landed: Callable[[], None] | None = None,
    ) -> bool:
        """Store a response in the background, then call `landed`; says whether it was begun."""
        name = (store.name, exchange.resource.digest)
        task = self._tasks.spawn(self._fill(store, exchange, record, known, landed), "fill")
        if task is None:
            return False
        self._under_way[name] = task
        self._memories[store.name].forget((exchange.resource.digest,))  # what it keeps is older

        def done(_task: asyncio.Task[None]) -> None:
            if self._under_way.get(name) is task:
                del self._under_way[name]

        task.add_done_callback(done)
        return True

    def is_under_way(self, store: RegionStore, resource: Resource) -> bool:
        """Whether something of a resource is being stored."""
        return bool(self._under_way) and (store.name, resource.digest) in self._under_way

    async def settled(self, store: RegionStore, exchange: Exchange) -> None:
        """Wait for what is being stored of a resource, so that a request sees what the one before it fetched."""
        if self._under_way and (task := self._under_way.get((store.name, exchange.resource.digest))) is not None:
            await asyncio.wait((task,))

    async def _fill(
        self,
        store: RegionStore,
        exchange: Exchange,
        record: CacheRecord,
        known: Known,
        landed: Callable[[], None] | None,
    ) -> None:
        try:
            await store_record(store, exchange, record, known, self._keep)
            self._memories[store.name].forget((exchange.resource.digest,))  # and what others read meanwhile
        finally:
            if landed is not None:
                landed()
