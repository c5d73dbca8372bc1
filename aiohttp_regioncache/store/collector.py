"""What many ask for at the same time leaves as few calls."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from ..errors import RegionUnavailableError
from .executor import MAX_WAITING

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")
_Some = Sequence[tuple[_Asked, "asyncio.Future[_Answer]"]]

UNDER_WAY: Final = 3
"""Calls under way at once. A further one begins only when more waits than fits into it: what is asked for
meanwhile waits for company, and whoever asks has something to do."""


class Collector(Generic[_Asked, _Answer]):
    """Ask for several things together, up to `most` in one call.

    `call` asks, and `read` gives what the answer to that says of each of them, in their order: an answer or an error.
    What nobody else comes to goes out at the end of the tick. Whoever stops waiting takes nothing back. `region` is
    asked, and named when too many wait.
    """

    def __init__(
        self,
        region: str,
        call: Callable[[Sequence[_Asked]], asyncio.Future[Any]],
        read: Callable[[Sequence[_Asked], Any], Sequence[_Answer | Exception]],
        most: int,
    ) -> None:
        self._region = region
        self._call = call
        self._read = read
        self._most = most
        self._waiting: list[tuple[_Asked, asyncio.Future[_Answer]]] = []
        self._is_scheduled = False
        self._calls = 0

    def ask(self, asked: _Asked) -> asyncio.Future[_Answer]:
        """Ask for one thing; the answer comes later. Raises `RegionUnavailableError` when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise RegionUnavailableError(self._region, "too many commands are waiting")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer] = loop.create_future()
        self._waiting.append((asked, answer))
        if not self._is_scheduled:
            self._schedule(loop)
        return answer

    def _go(self) -> None:
        """Begin one call; the next has a tick of its own, so that their answers come one after another."""
        self._is_scheduled = False
        some, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            answer = self._call([asked for asked, _ in some])
        except Exception as error:  # whatever happens, nobody may wait for ever
            _tell(some, [error] * len(some))
        else:
            self._calls += 1
            answer.add_done_callback(functools.partial(self._answered, some))
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        is_too_much = len(self._waiting) > self._most
        if self._waiting and self._calls < (UNDER_WAY if is_too_much else 1):
            self._is_scheduled = True
            loop.call_soon(self._go)

    def _answered(self, some: _Some[_Asked, _Answer], answer: asyncio.Future[Any]) -> None:
        self._calls -= 1
        if not self._is_scheduled:
            self._schedule(answer.get_loop())
        if answer.cancelled():
            for _, future in some:
                future.cancel()
            return
        answers: Sequence[_Answer | Exception]
        try:
            answers = self._read([asked for asked, _ in some], answer.result())
        except Exception as error:
            answers = [error] * len(some)
        _tell(some, answers)


def _tell(some: _Some[_Asked, _Answer], answers: Sequence[_Answer | Exception]) -> None:
    for (_, future), answer in zip(some, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
