"""Background tasks that are known, and awaited at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Tasks:
    """A set of background tasks. A failure is logged; `drain` waits for all of them."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any] | None:
        """Run a coroutine in the background; None, and it is dropped, when too many run already."""
        if len(self._tasks) >= self._limit:
            coroutine.close()
            return None
        task = asyncio.get_running_loop().create_task(coroutine, name=f"regioncache: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for what runs and what it spawns, then cancel what is left."""
        deadline = time.monotonic() + timeout
        while self._tasks and (remaining := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=remaining)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s failed", task.get_name(), exc_info=error)
