"""Deliver a region's invalidations and sites to the other regions: at least once, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import StoreError
from ..store import outbox, sites
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
    """Carry one region's outboxes to every registered region, woken by settles and by its poll.

    Each region has a task of its own: one that does not answer holds up no other.
    """

    def __init__(self, source: RegionStore, find: FindRegion) -> None:
        self._source = source
        self._find = find
        self._name = secrets.token_hex(8)
        self._regions: dict[str, str] = {}
        self._wakes: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._carriers: dict[str, asyncio.Task[None]] = {}
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
        self._wake()
        if self._task:
            await self._task

    async def turn(self) -> int:
        """Deliver what every reachable region has not heard yet; returns the number of items delivered."""
        await self._look_around()
        return sum(await asyncio.gather(*map(self._serve, self._regions)))

    def _changed(self, _change: Changed) -> None:
        self._wake()

    def _wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()

    async def _work(self) -> None:
        """Keep a carrier for every registered region."""
        loop = asyncio.get_running_loop()
        last = False
        while not last:
            last = self._stopping
            self._wakes[self._source.name].clear()
            try:
                await self._look_around()
            except StoreError as error:
                logger.debug("%s", error)
            except Exception:
                logger.exception("region %s: its outboxes cannot be kept", self._source.name)
            for name in self._regions:
                if name not in self._carriers or self._carriers[name].done():
                    self._carriers[name] = loop.create_task(self._carry_on(name), name="regioncache: carrier")
            if not last:
                await self._woken(self._source.name)
        await asyncio.gather(*self._carriers.values())

    async def _look_around(self) -> None:
        """Learn which regions there are; now and then drop what all of them have heard."""
        registered = await self._source.registered()
        self._regions = {name: url for name, url in registered.items() if name != self._source.name}
        self._turns += 1
        if self._turns % TRIM_TURNS == 0:
            for partition in self._source.partitions:
                await outbox.trim(self._source, partition, tuple(self._regions))

    async def _carry_on(self, name: str) -> None:
        """Serve one region for as long as it is registered; leave nothing behind that is known at the end."""
        while name in self._regions:
            last = self._stopping
            self._wakes[name].clear()
            await self._serve(name)
            if last:
                break
            await self._woken(name)
        await self._resign(name)

    async def _woken(self, name: str) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wakes[name].wait(), POLL_SECONDS)

    async def _resign(self, name: str) -> None:
        with contextlib.suppress(StoreError):
            for partition in self._source.partitions:
                await outbox.resign(self._source, partition, name, self._name)

    async def _serve(self, name: str) -> int:
        url = self._regions[name]
        try:
            target = await self._find(name, url)
            if target is None:
                return 0
            if not target.is_checked:
                await target.check()  # its number of partitions may still be unknown
            return sum([await self._carry(partition, target) for partition in self._source.partitions])
        except StoreError as error:
            logger.debug("not delivered to region %s: %s", name, error)
        except Exception:
            logger.exception("region %s: a delivery to region %s failed", self._source.name, name)
        return 0

    async def _carry(self, partition: Partition, target: RegionStore) -> int:
        cursor = await outbox.be_courier(self._source, partition, target.name, self._name)
        if cursor is None:
            return 0
        run = target.run  # of the server that the deliveries below reach, unless it restarts meanwhile
        after = outbox.resume(cursor, run, self._source.now())
        newest = await outbox.gap_end(self._source, partition, cursor)
        if newest:
            logger.warning("region %s is too far behind region %s: flushed", target.name, self._source.name)
            await outbox.flush(target)
            after = newest
        if partition.number == 0 and (newest or cursor.run != run):  # it may have forgotten sites, or never known them
            await sites.take_all(self._source, target)
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
