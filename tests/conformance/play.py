"""Play cases through an edge, and say what is not as it should be."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support import eventually

from .case import Answer, Case, Exchange, Source
from .edge import edge_before
from .scripted import ScriptedOrigin, fill
from .wire import NO_BODY, Head, Received, exchange

_AT_ONCE: Final = 32
_WITHIN: Final = 20.0  # seconds
_ONCE: Final = ("age", "content-length", "content-type", "date", "etag", "last-modified")
_HOP_BY_HOP: Final = ("keep-alive", "proxy-connection", "te", "trailer", "upgrade")
_ASKED: Final = frozenset({Source.ORIGIN, Source.VALIDATED, Source.REFRESHED, Source.INSTEAD})
_CONDITIONS: Final = ("If-None-Match", "If-Modified-Since")


def play_all(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Play the cases side by side, each on a resource of its own; gives what was wrong by the case's id."""
    return asyncio.run(_play_all(cases))


async def _play_all(cases: Sequence[Case]) -> dict[str, list[str]]:
    gate = asyncio.Semaphore(_AT_ONCE)
    with tempfile.TemporaryDirectory() as directory:
        async with ScriptedOrigin() as origin, edge_before(origin.url, Path(directory)) as port:
            origin.authority = f"127.0.0.1:{port}"

            async def one(case: Case) -> list[str]:
                async with gate:
                    return await Play(case, origin, port).run()

            found = await asyncio.gather(*map(one, cases))
    return {case.id: wrong for case, wrong in zip(cases, found, strict=True)}


class Play:
    """One case on its way through the edge at `port` before `origin`."""

    def __init__(self, case: Case, origin: ScriptedOrigin, port: int) -> None:
        self._case = case
        self._origin = origin
        self._port = port
        self._path = f"/c/{case.id}"
        self._stored = (Answer(), b"")  # what the origin last gave to a GET that was no 304

    async def run(self) -> list[str]:
        """Play the exchanges up to the first that is not as it should be; gives what is wrong with it."""
        for number, step in enumerate(self._case.exchanges, start=1):
            wrong = await self._step(number, step)
            if wrong:
                return [f"exchange {number}: {fault}" for fault in wrong]
        return []

    async def _step(self, number: int, step: Exchange) -> list[str]:
        await asyncio.sleep(step.pause)
        given = step.origin.body if step.origin.body is not None else f"{self._case.id} {number}".encode()
        self._origin.scripts[self._case.id] = (step.origin, given)
        seen = self._origin.seen[self._case.id]
        before = len(seen)
        lines = [fill(line, self._path, self._origin.authority) for line in step.lines]
        try:
            async with asyncio.timeout(_WITHIN):
                target = self._path + step.at
                got = await exchange(
                    "127.0.0.1", self._port, step.method, target, lines, step.body, version=step.version
                )
                if step.source is Source.REFRESHED:
                    await eventually(lambda: len(seen) > before, within=_WITHIN)
                    await _refreshed()
        except (OSError, EOFError, TimeoutError) as error:
            return [f"no answer: {error!r}"]
        wrong = [*self._judged(step, given, got, seen[before:])]
        if step.source in (Source.ORIGIN, Source.REFRESHED) and step.method == "GET" and step.origin.status != 304:
            self._stored = (step.origin, given)
        return [*wrong, *_described(got, seen[before:])] if wrong else []

    def _judged(self, step: Exchange, given: bytes, got: Received, seen: list[Head]) -> Iterator[str]:
        yield from _misplaced(step, seen)
        yield from self._misanswered(step, given, got)
        yield from self._lines("the client got", step.has, step.lacks, got.head)
        if step.saw or step.saw_not:
            yield from self._lines("the origin saw", step.saw, step.saw_not, seen[-1] if seen else Head("", []))
        if step.interim is not None and tuple(head.status for head in got.interim) != step.interim:
            yield f"interim responses {[head.status for head in got.interim]}, not {list(step.interim)}"
        yield from _never_right(got.head, from_cache=step.source is Source.CACHE)

    def _misanswered(self, step: Exchange, given: bytes, got: Received) -> Iterator[str]:
        answer, body = (step.origin, given) if step.source is Source.ORIGIN else self._stored
        is_open = step.source in (None, Source.NOWHERE)
        wanted = (None if is_open else answer.status) if step.status is None else step.status
        statuses = (wanted,) if isinstance(wanted, int) else wanted
        if statuses is not None and got.head.status not in statuses:
            yield f"status {got.head.status}, not {wanted}"
        is_whole = got.head.status == answer.status and not is_open and not step.parts
        content = step.content
        if content is None and (is_whole or step.method == "HEAD"):
            content = b"" if step.method == "HEAD" or got.head.status in NO_BODY else body
        if content is not None and got.body != content:
            yield f"body {got.body[:80]!r}, not {content[:80]!r}"
        if not re.search(b".*".join(map(re.escape, step.parts)), got.body, re.DOTALL):
            yield f"body {got.body[:400]!r} without {step.parts}"

    def _lines(self, who: str, has: Sequence[str], lacks: Sequence[str], head: Head) -> Iterator[str]:
        for line in has:
            name, value = fill(line, self._path, self._origin.authority)
            if not _agrees(head.get(name), value):
                yield f"{who} {name}: {head.get(name)}, not {value or 'any'}"
        for line in lacks:
            name, value = fill(line, self._path, self._origin.authority)
            if _agrees(head.get(name), value):
                yield f"{who} {name}: {head.get(name)}"


def _agrees(found: str | None, value: str) -> bool:
    """Whether a field is there and is the value, any without one, or what an expression after "~" finds."""
    if found is None or not value:
        return found is not None
    return bool(re.search(value[1:], found)) if value.startswith("~") else found == value


async def _refreshed() -> None:
    """Wait for what the edge fetches without anybody waiting for it."""
    refreshing = [task for task in asyncio.all_tasks() if task.get_name() == "regioncache: refresh"]
    if refreshing:
        await asyncio.wait(refreshing)


def _misplaced(step: Exchange, seen: list[Head]) -> Iterator[str]:
    if step.source in _ASKED and not seen:
        yield "the origin was not asked"
    if step.source in (Source.CACHE, Source.NOWHERE) and seen:
        yield "the origin was asked"
    # aiohttp sends a request again when a connection that it used before is closed on it.
    if len(seen) > 1 and not step.origin.cut:
        yield f"the origin was asked {len(seen)} times"
    if step.source is Source.VALIDATED and seen and not any(seen[-1].get(name) for name in _CONDITIONS):
        yield "the origin was asked without a condition"


def _never_right(head: Head, *, from_cache: bool) -> Iterator[str]:
    """What holds for every answer."""
    for name in _HOP_BY_HOP:
        if head.get(name) is not None:
            yield f"a hop-by-hop field, {name}"
    if head.get("date") is None:  # RFC 9110 section 6.6.1
        yield "no Date"
    if "regioncache" not in (head.get("cache-status") or ""):  # RFC 9211 section 2
        yield "no Cache-Status"
    if from_cache:
        yield from (f"more than one {name}" for name in _ONCE if len(head.values(name)) > 1)
    if from_cache and not (head.get("age") or "").isdigit():  # RFC 9111 section 5.1
        yield f"Age: {head.get('age')} from the cache"


def _described(got: Received, seen: list[Head]) -> Iterator[str]:
    yield f"got {got.head.start} {got.head.lines} {got.body[:200]!r}"
    for head in seen:
        yield f"the origin saw {head.start} {head.lines}"
