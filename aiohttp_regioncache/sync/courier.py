"""Deliver a region's invalidations to the other regions: at least once, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import StoreError
from ..store import outbox
from ..store.events import Changed
from ..store.keyspace import Partition
from ..store.outbox import Cursor
from ..store.region import RegionStore

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
TRIM_TURNS: Final = 10

FindRegion = Callable[[str, str], Awaitable[RegionStore | None]]
"""`(name, address)` -> the store of a region; None for one that cannot be used."""


class Courier:
    """Carry one region's outboxes to every registered region, woken by settles and by its poll."""

    def __init__(self, source: RegionStore, find: FindRegion) -> None:
        self._source = source
        self._find = find
        self._name = secrets.token_hex(8)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._turns = 0

    def start(self) -> None:
        """Begin to deliver in the background."""
        self._source.events.on_change(self._changed)
        self._task = asyncio.get_running_loop().create_task(self._work(), name="regioncache: courier")

    async def stop(self) -> None:
        """Deliver what is there once more, then end."""
        self._stopping = True
        self._wake.set()
        if self._task:
            await self._task

    async def turn(self) -> int:
        """Deliver what every reachable region has not heard yet; returns the number of items delivered."""
        regions = {n: url for n, url in (await self._source.registered()).items() if n != self._source.name}
        delivered = await asyncio.gather(*(self._serve(name, url) for name, url in regions.items()))
        self._turns += 1
        if self._turns % TRIM_TURNS == 0:
            for partition in self._source.partitions:
                await outbox.trim(self._source, partition, tuple(regions))
        return sum(delivered)

    def _changed(self, _change: Changed) -> None:
        self._wake.set()

    async def _work(self) -> None:
        while True:
            last = self._stopping
            self._wake.clear()
            try:
                await self.turn()
            except StoreError as error:
                logger.debug("%s", error)
            except Exception:
                logger.exception("region %s: a delivery failed", self._source.name)
            if last:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def _serve(self, name: str, url: str) -> int:
        try:
            target = await self._find(name, url)
            if target is None:
                return 0
            return sum([await self._carry(partition, target) for partition in self._source.partitions])
        except StoreError as error:
            logger.debug("not delivered to region %s: %s", name, error)
            return 0

    async def _carry(self, partition: Partition, target: RegionStore) -> int:
        if not await outbox.be_courier(self._source, partition, target.name, self._name):
            return 0
        run = target.run  # of the server that the deliveries below reach, unless it restarts meanwhile
        cursor = await outbox.read_cursor(self._source, partition, target.name)
        after = outbox.resume(cursor, run, self._source.now())
        if newest := await outbox.gap_end(self._source, partition, cursor):
            logger.warning("region %s is too far behind region %s: flushed", target.name, self._source.name)
            await outbox.flush(target)
            after = newest
        count = 0
        while True:
            last, items = await outbox.read_items(self._source, partition, after)
            await outbox.deliver(target, items)
            if cursor != (cursor := Cursor(last, run)):
                await outbox.write_cursor(self._source, partition, target.name, cursor)
            if last == after:
                return count
            count += len(items)
            after = last
