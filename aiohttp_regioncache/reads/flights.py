"""Single flight: one fetch per entry, state and process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A fetch that others may join until it has landed.

    `begun` is when it was, in seconds of the loop's clock; `is_alone`: its result is for nobody else.
    """

    def __init__(self, under_way: dict[Hashable, Flight[T]], key: Hashable) -> None:
        self.begun = asyncio.get_running_loop().time()
        self.is_alone = False
        self._task: asyncio.Task[T] | None = None
        self._shared: asyncio.Future[T | None] | None = None
        self._under_way = under_way
        self._key = key
        under_way[key] = self

    @property
    def is_over(self) -> bool:
        """Whether there is a result, or will be none for anybody else."""
        return self.is_alone or (self._task is not None and self._task.done())

    @property
    def shared(self) -> asyncio.Future[T | None]:
        """The result for who joins; None: it is for nobody else. Made when somebody does, which is seldom."""
        if self._shared is None:
            self._shared = asyncio.get_running_loop().create_future()
            self._share()
        return self._shared

    def land(self) -> None:
        """Serve no new arrivals any more."""
        if self._under_way.get(self._key) is self:
            del self._under_way[self._key]

    def leave_alone(self) -> None:
        """Let those who joined go: the answer is on its way to who began the flight, and cannot be had twice."""
        self.is_alone = True
        self.land()
        self._share()

    async def lead(self, task: asyncio.Task[T]) -> T:
        """Wait for the task of the fetch, which goes on for the others when who began it leaves."""
        self._task = task
        task.add_done_callback(self._end)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self.is_alone:  # an answer that nobody takes
                task.cancel()
            raise

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.leave_alone()
            return
        if task.exception() is not None:
            self.land()
        self._share()

    def _share(self) -> None:
        """Tell those who joined what the fetch came to, once that is known."""
        shared, task = self._shared, self._task
        if shared is None or shared.done() or not self.is_over:
            return
        if self.is_alone or task is None or task.cancelled():
            shared.set_result(None)
        elif (error := task.exception()) is not None:
            shared.set_exception(error)
            shared.exception()  # who joined may have left
        else:
            shared.set_result(task.result())


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
        if key not in self._under_way:
            return await self._begin(key, fetch), True
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
        if flight.is_over:
            return None if unfinished else flight
        return flight if asyncio.get_running_loop().time() - flight.begun < age else None

    async def _begin(self, key: Hashable, fetch: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> T:
        flight = Flight(self._under_way, key)
        task = asyncio.get_running_loop().create_task(fetch(flight), name="regioncache: fetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await flight.lead(task)

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
