"""Invalidate everything, when more has changed than can be told one by one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from ..errors import RegionUnavailableError
from ..purges import EVERYTHING
from ..store.outbox import announce_purge
from ..store.purging import purge
from ..store.region import RegionStore
from ..tasks import Tasks

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 600.0
"""How long an edge that reaches no region goes on trying to tell one of a change."""
RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts."""


class Flush:
    """Purge everything as soon as a region can be told; until then nothing is served from the regions here."""

    def __init__(self) -> None:
        self._tasks = Tasks(2)
        self._stores: dict[str, RegionStore] = {}
        self._wanted = 0
        self._until = 0.0

    def want(self, stores: Iterable[RegionStore]) -> None:
        """Let everything in these regions count as changed."""
        is_at_work = bool(self._stores)
        self._wanted += 1
        self._until = time.monotonic() + RETRY_SECONDS
        for store in stores:
            self._stores[store.name] = store
            store.untold.take_all()
        if not is_at_work:
            self._tasks.spawn(self._keep_trying(), "invalidate everything later")

    async def drain(self, timeout: float) -> None:
        """Go on trying for up to `timeout` seconds."""
        await self._tasks.drain(timeout)

    async def _keep_trying(self) -> None:
        told = 0
        while told != self._wanted and time.monotonic() < self._until:
            await asyncio.sleep(RETRY_PAUSE)
            wanted = self._wanted
            told = wanted if await self._purge_in_any() else told
        if told != self._wanted:
            logger.error("no region has been told of many changes")
        for store in self._stores.values():
            store.untold.let_all_go()
        self._stores.clear()

    async def _purge_in_any(self) -> bool:
        """Purge everything in the first region that can be reached: its outbox tells the others."""
        for store in list(self._stores.values()):
            try:
                await purge(store, (EVERYTHING,), announce=announce_purge((EVERYTHING,)))
            except RegionUnavailableError as error:
                logger.debug("not invalidated: %s", error)
            else:
                return True
        return False
