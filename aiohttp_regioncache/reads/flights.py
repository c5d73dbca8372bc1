"""Single flight: one fetch per entry, state and process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A fetch that others may join until it has landed.

    `shared` is its result; None: it is for nobody else. `begun` is when it was, in seconds of the loop's clock.
    """

    def __init__(self, under_way: dict[Hashable, Flight[T]], key: Hashable) -> None:
        loop = asyncio.get_running_loop()
        self.shared: asyncio.Future[T | None] = loop.create_future()
        self.begun = loop.time()
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
        age: float = 0.0,
        unfinished: bool = False,
    ) -> tuple[T | None, bool]:
        """Join the flight of `key` or begin it with `fetch`.

        After `age` seconds without a result, 0 for never, the next to come or the first of those who wait begins
        another one; who waits takes what comes first. `unfinished`: a fetch that has its result already is not good
        enough. Returns the result, or None when it took longer than `timeout` seconds or is for nobody else, and
        whether it was begun here. The exception of a fetch is raised for whoever began it and whoever joined.
        """
        now = asyncio.get_running_loop().time
        deadline, joined = now() + timeout, set[asyncio.Future[T | None]]()
        while (flight := self._joinable(key, age or math.inf, unfinished)) is not None:
            joined.add(flight.shared)
            until = min(deadline, flight.begun + (age or math.inf))
            done, _ = await asyncio.wait(joined, timeout=max(0.0, until - now()), return_when=asyncio.FIRST_COMPLETED)
            if done:
                return done.pop().result(), False
            if now() >= deadline:
                return None, False
        return await self._begin(key, fetch), True

    def _joinable(self, key: Hashable, age: float, unfinished: bool) -> Flight[T] | None:
        flight = self._under_way.get(key)
        if flight is None:
            return None
        if flight.shared.done():
            return None if unfinished else flight
        return flight if asyncio.get_running_loop().time() - flight.begun < age else None

    async def _begin(self, key: Hashable, fetch: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> T:
        flight = Flight(self._under_way, key)
        task = asyncio.get_running_loop().create_task(fetch(flight), name="regioncache: fetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(flight.end)
        return await _led(flight, task)

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
