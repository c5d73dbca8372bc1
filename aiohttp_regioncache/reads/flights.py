"""Single flight: one fetch per entry, state and process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Fetches under way by their key.

    A fetch runs in a task of its own, so that a client that leaves does not end it for the others. It serves new
    arrivals until it is landed: until its result is stored.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    async def join(
        self, key: Hashable, fetch: Callable[[], Coroutine[Any, Any, T]], timeout: float
    ) -> tuple[T | None, bool]:
        """Join the flight of `key` or begin it with `fetch`.

        Returns its result, or None when a joined flight took longer than `timeout` seconds, and whether it was begun
        here. The exception of a fetch is raised for whoever began it and whoever joined.
        """
        if task := self._tasks.get(key):
            done, _ = await asyncio.wait((task,), timeout=timeout)
            return (task.result() if done else None), False
        task = asyncio.get_running_loop().create_task(fetch(), name="regioncache: fetch")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task), True

    def landed(self, key: Hashable) -> None:
        """Serve no new arrivals from the flight of `key` any more."""
        self._tasks.pop(key, None)

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for what is under way."""
        if running := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.wait(running, timeout=timeout)

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            self.landed(key)
