"""Single flight: one fetch per entry, state and process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A fetch that others may join until it has landed. `shared` is its result; None: it is for nobody else."""

    def __init__(self, under_way: dict[Hashable, Flight[T]], key: Hashable) -> None:
        self.shared: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self.is_alone = False
        self._under_way = under_way
        self._key = key
        under_way[key] = self

    def land(self) -> None:
        """Serve no new arrivals any more."""
        if self._under_way.get(self._key) is self:
            del self._under_way[self._key]

    def leave_alone(self) -> None:
        """Let those who joined go: the answer is on its way to who began the flight, and cannot be had twice."""
        self.is_alone = True
        self.land()
        if not self.shared.done():
            self.shared.set_result(None)

    def end(self, task: asyncio.Task[T]) -> None:
        """Share what a fetch came to."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.leave_alone()
        elif error is not None:
            self.land()
        if self.shared.done():
            return
        if error is None:
            self.shared.set_result(task.result())
        else:
            self.shared.set_exception(error)
            self.shared.exception()  # nobody has to have joined


class Flights(Generic[T]):
    """Fetches under way by their key.

    A fetch runs in a task of its own, so that a client that leaves does not end it for the others. It serves new
    arrivals until it is landed: until its result is stored.
    """

    def __init__(self) -> None:
        self._under_way: dict[Hashable, Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def join(
        self,
        key: Hashable,
        fetch: Callable[[Flight[T]], Coroutine[Any, Any, T]],
        timeout: float,
        *,
        unfinished: bool = False,
    ) -> tuple[T | None, bool]:
        """Join the flight of `key` or begin it with `fetch`.

        `unfinished`: a fetch that has its result already is not good enough. Returns the result, or None when a joined
        flight took longer than `timeout` seconds or is for nobody else, and whether it was begun here. The exception of
        a fetch is raised for whoever began it and whoever joined.
        """
        flight = self._under_way.get(key)
        if flight is not None and not (unfinished and flight.shared.done()):
            await asyncio.wait((flight.shared,), timeout=timeout)
            return (flight.shared.result() if flight.shared.done() else None), False
        flight = Flight(self._under_way, key)
        task = asyncio.get_running_loop().create_task(fetch(flight), name="regioncache: fetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(flight.end)
        return await _led(flight, task), True

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for what is under way, then cancel what is left."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def __len__(self) -> int:
        return len(self._under_way)


async def _led(flight: Flight[T], task: asyncio.Task[T]) -> T:
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if flight.is_alone:  # an answer that nobody takes
            task.cancel()
        raise
