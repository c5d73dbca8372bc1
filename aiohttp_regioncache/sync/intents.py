"""Look after what writes may have changed that nobody reported: their edge has died, or stopped to wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from ..errors import StoreError
from ..store import intents
from ..store.keyspace import Partition
from ..store.region import RegionStore

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
AT_ONCE: Final = 100


class Sweeper:
    """Fulfil one region's overdue intents. Any number of sweepers may work on one region."""

    def __init__(self, store: RegionStore) -> None:
        self._store = store
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work in the background."""
        self._task = asyncio.get_running_loop().create_task(self._work(), name="regioncache: intents")

    async def stop(self) -> None:
        """Finish what is under way, then end."""
        self._stopped.set()
        if self._task:
            await self._task

    async def turn(self) -> int:
        """Fulfil what is overdue; returns how many intents that were. Raises `RegionUnavailableError`."""
        return sum([await self._sweep(partition) for partition in self._store.partitions])

    async def _sweep(self, partition: Partition) -> int:
        found = await intents.overdue(self._store, partition, AT_ONCE)
        for intent in found:
            await intents.fulfil(intent)
        if found:
            logger.info(
                "region %s: %d writes were not reported; what they may have changed is invalidated",
                self._store.name,
                len(found),
            )
        return len(found)

    async def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                await self.turn()
            except StoreError as error:
                logger.debug("%s", error)
            except Exception:  # one that dies leaves old entries in every region
                logger.exception("region %s: intents cannot be looked after", self._store.name)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), POLL_SECONDS)
