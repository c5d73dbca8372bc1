"""What many ask for at the same time leaves as few calls."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from ..errors import RegionUnavailableError
from .executor import MAX_WAITING
from .pipe import Answered


class Gathering(Protocol):
    """What is asked for in one call, as it comes together: a list, or what takes of each what the call needs."""

    def append(self, asked: Any, /) -> None:
        """Take one more."""
        ...


_Asked = TypeVar("_Asked")
_Some = TypeVar("_Some", bound=Gathering)
_Answer = TypeVar("_Answer")

UNDER_WAY: Final = 3
"""Calls under way at once. A further one begins only when more waits than fits into it: what is asked for
meanwhile waits for company, and whoever asks has something to do."""


class Collector(Generic[_Asked, _Some, _Answer]):
    """Ask for several things together, up to `most` in one call.

    `begin` makes what a call gets of them; `call` asks, and tells what was answered. `read` gives what that says of
    each of them, in their order: an answer or an error. What nobody else comes to goes out at the end of the tick.
    Whoever stops waiting takes nothing back. `region` is asked, and named when too many wait.
    """

    def __init__(
        self,
        region: str,
        begin: Callable[[], _Some],
        call: Callable[[_Some, Answered], None],
        read: Callable[[_Some, Any], Sequence[_Answer | Exception]],
        most: int,
    ) -> None:
        self._region = region
        self._begin = begin
        self._call = call
        self._read = read
        self._most = most
        self._waiting: deque[tuple[_Some, list[asyncio.Future[_Answer]]]] = deque()
        self._is_scheduled = False
        self._calls = 0

    def ask(self, asked: _Asked) -> asyncio.Future[_Answer]:
        """Ask for one thing; the answer comes later. Raises `RegionUnavailableError` when too many wait."""
        waiting, loop = self._waiting, asyncio.get_running_loop()
        if not waiting or len(waiting[-1][1]) >= self._most:
            if (len(waiting) + 1) * self._most > MAX_WAITING:
                raise RegionUnavailableError(self._region, "too many commands are waiting")
            waiting.append((self._begin(), []))
        some, futures = waiting[-1]
        some.append(asked)
        answer: asyncio.Future[_Answer] = loop.create_future()
        futures.append(answer)
        self._schedule(loop)
        return answer

    def _go(self) -> None:
        """Begin one call; the next has a tick of its own, so that their answers come one after another."""
        self._is_scheduled = False
        some, futures = self._waiting.popleft()
        self._calls += 1
        try:
            self._call(some, functools.partial(self._answered, some, futures))
        except Exception as error:  # whatever happens, nobody may wait for ever
            self._calls -= 1
            _tell(futures, [error] * len(futures))
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_scheduled or not self._waiting:
            return
        if self._calls < (UNDER_WAY if len(self._waiting) > 1 else 1):
            self._is_scheduled = True
            loop.call_soon(self._go)

    def _answered(self, some: _Some, futures: Sequence[asyncio.Future[_Answer]], answer: Any) -> None:
        self._calls -= 1
        answers: Sequence[_Answer | Exception]
        try:
            answers = [answer] * len(futures) if isinstance(answer, Exception) else self._read(some, answer)
            if len(answers) != len(futures):
                raise RuntimeError(f"{len(answers)} answers to {len(futures)} that were asked for")
        except Exception as error:
            answers = [error] * len(futures)
        _tell(futures, answers)
        # Behind those who have their answers now: what they go on with is under way when the server has the next call.
        self._schedule(asyncio.get_running_loop())


def _tell(futures: Sequence[asyncio.Future[_Answer]], answers: Sequence[_Answer | Exception]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
