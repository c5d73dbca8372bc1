"""Calls that many share: who goes with whom, and what becomes of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aiohttp_regioncache.store.collector import Collector
from aiohttp_regioncache.store.pipe import Answered


class _Server:
    """Answer each number with its double, odd ones with an error; `gate`, when cleared, holds every call."""

    def __init__(self, most: int = 4) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self._answering: list[asyncio.Future[None]] = []
        self.collector: Collector[int, list[int], int] = Collector("eu-west-1", list[int], self._call, self._read, most)

    def _call(self, asked: Sequence[int], answered: Answered) -> None:
        self.calls.append(list(asked))
        self._answering.append(asyncio.ensure_future(self._answer(answered)))

    async def _answer(self, answered: Answered) -> None:
        await self.gate.wait()
        answered(self.failure)

    @staticmethod
    def _read(asked: Sequence[int], _answer: None) -> list[int | Exception]:
        return [ValueError(str(number)) if number % 2 else 2 * number for number in asked]


async def test_what_is_asked_in_one_tick_goes_in_few_calls_with_an_answer_for_each() -> None:
    server = _Server()
    answers = await asyncio.gather(*map(server.collector.ask, range(0, 12, 2)))
    assert answers == [0, 4, 8, 12, 16, 20]
    assert server.calls == [[0, 2, 4, 6], [8, 10]]


async def test_one_alone_does_not_wait_for_others() -> None:
    server = _Server()
    assert await asyncio.wait_for(server.collector.ask(2), 1) == 4


async def test_what_is_asked_while_a_call_is_under_way_goes_together_and_a_full_call_at_once() -> None:
    server = _Server()
    server.gate.clear()
    answers = [server.collector.ask(0)]
    for number in (2, 4, 6):
        await asyncio.sleep(0.001)
        answers.append(server.collector.ask(number))
    await asyncio.sleep(0.001)
    assert server.calls == [[0]]
    answers.append(server.collector.ask(8))
    answers.append(server.collector.ask(10))
    await asyncio.sleep(0.001)
    assert server.calls == [[0], [2, 4, 6, 8]]
    server.gate.set()
    assert await asyncio.gather(*answers) == [0, 4, 8, 12, 16, 20]
    assert server.calls == [[0], [2, 4, 6, 8], [10]]


async def test_who_has_an_answer_goes_on_before_the_next_call_begins() -> None:
    server = _Server(most=2)
    server.gate.clear()
    seen: list[int] = []

    async def ask(number: int) -> None:
        await server.collector.ask(number)
        seen.append(len(server.calls))

    asking = [asyncio.create_task(ask(number)) for number in (0, 2, 4, 6)]
    await asyncio.sleep(0.001)
    assert server.calls == [[0, 2]]
    server.gate.set()
    await asyncio.gather(*asking)
    assert seen == [1, 1, 2, 2]


async def test_calls_that_fail_at_once_fail_for_theirs_alone() -> None:
    """Also where the answer is told before the call has returned."""
    calls = 0

    def call(asked: Sequence[int], answered: Answered) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("not sent")
        answered(OSError("refused") if calls == 2 else None)

    collector: Collector[int, list[int], int] = Collector("eu", list[int], call, lambda asked, _: asked, 2)
    results = await asyncio.gather(*map(collector.ask, range(7)), return_exceptions=True)
    assert [str(result) for result in results] == ["not sent"] * 2 + ["refused"] * 2 + ["4", "5", "6"]


async def test_an_answer_that_is_too_short_is_one_for_nobody() -> None:
    def call(_asked: Sequence[int], answered: Answered) -> None:
        answered(None)

    collector: Collector[int, list[int], int] = Collector("eu", list[int], call, lambda asked, _: asked[1:], 4)
    results = await asyncio.gather(*map(collector.ask, range(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["1 answers to 2 that were asked for"] * 2


async def test_an_error_goes_to_its_own_asker_alone() -> None:
    server = _Server()
    results: list[object] = await asyncio.gather(*map(server.collector.ask, range(3)), return_exceptions=True)
    assert (results[0], str(results[1]), results[2]) == (0, "1", 4)
    assert isinstance(results[1], ValueError)


async def test_a_call_that_fails_fails_for_all_and_the_next_goes_on() -> None:
    server = _Server()
    server.failure = OSError("no")
    results = await asyncio.gather(*map(server.collector.ask, (0, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    server.failure = None
    assert await server.collector.ask(2) == 4


async def test_whoever_stops_waiting_takes_nothing_back_and_nothing_from_others() -> None:
    server = _Server()
    server.gate.clear()
    impatient, patient = server.collector.ask(0), server.collector.ask(2)
    await asyncio.sleep(0.001)
    impatient.cancel()
    server.gate.set()
    assert await patient == 4
    assert server.calls == [[0, 2]]
    with pytest.raises(asyncio.CancelledError):
        await impatient
