"""Keep an intent for as long as a write through is under way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence

from ..errors import RegionUnavailableError
from ..keys import Resource
from ..store import intents
from ..store.intents import Intent
from ..store.region import RegionStore
from ..tasks import Tasks

logger = logging.getLogger(__name__)


class Noted:
    """An intent in a region, renewed until `leave` or `take_back`. `seconds` as in `Intents`."""

    def __init__(self, intent: Intent, seconds: float, tasks: Tasks) -> None:
        self.intent = intent
        self._seconds = seconds
        self._tasks = tasks
        self._timer = self._renew_later()

    def leave(self) -> None:
        """Renew it no more: what it names is being invalidated."""
        self._timer.cancel()

    def take_back(self) -> None:
        """Forget it: nothing was changed."""
        self.leave()
        self._tasks.spawn(self._forget(), "forget an intent")

    def _renew_later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._seconds / 2, self._renew)

    def _renew(self) -> None:
        self._timer = self._renew_later()
        self._tasks.spawn(self._renewed(), "renew an intent")

    async def _renewed(self) -> None:
        with contextlib.suppress(RegionUnavailableError):
            await intents.renew(self.intent, self._seconds)

    async def _forget(self) -> None:
        with contextlib.suppress(RegionUnavailableError):  # then somebody invalidates for nothing
            await intents.forget(self.intent)


class Intents:
    """Note what writes through are about to change.

    `seconds`: how long an edge is waited for before another one invalidates in its place.
    """

    def __init__(self, seconds: float, tasks: Tasks) -> None:
        self._seconds = seconds
        self._tasks = tasks

    async def note(self, stores: Iterable[RegionStore], resources: Sequence[Resource]) -> Noted | None:
        """Note that resources of one group are about to change, in the first region that takes it; None: none did."""
        for store in stores:
            try:
                intent = await intents.intend(store, resources, self._seconds)
            except RegionUnavailableError as error:
                logger.debug("%s", error)
            else:
                return Noted(intent, self._seconds, self._tasks)
        logger.warning("%s: no region notes this write; if its edge dies, what is stored stays", resources[0].path)
        return None
