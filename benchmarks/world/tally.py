"""What is counted while a day is played."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ..figures import percentile

STEP: Final = 600.0
"""Seconds over which means are taken: of what waits in queues, of requests per second."""


class Answers:
    """What the users of a continent got: times in milliseconds, `near` and `acknowledged` by the cache, others without.

    `failed_far` are the requests that the origin alone would not have answered.
    """

    def __init__(self) -> None:
        self.reads = 0
        self.hits = 0
        self.failed = 0
        self.failed_far = 0
        self.near = array("d")
        self.far = array("d")
        self.acknowledged = array("d")
        self.acknowledged_far = array("d")

    def read(self, *, is_hit: bool, is_answered: bool) -> None:
        """Count a read."""
        self.reads += 1
        self.hits += is_hit
        self.failed += not is_answered

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.reads + len(self.acknowledged)


class Found(msgspec.Struct, frozen=True):
    """Figures of a continent, or of the world. Times are milliseconds, p50 and p95; `far`: without the cache."""

    share: float
    hit_ratio: float
    read_ms: tuple[float, float]
    read_far_ms: tuple[float, float]
    write_ms: tuple[float, float]
    write_far_ms: tuple[float, float]
    answered: float
    answered_far: float


class Whole(msgspec.Struct, frozen=True):
    """Figures of the whole.

    `peaks`, `peak`: requests per second in the busiest ten minutes of each region, and of all together. `depth`: p95
    and most of the writes that wait in a region, on the mean of ten minutes. `convergence_s`: p50 and p99 of the
    seconds from the acknowledgement of a write until no region serves what was before; `spread_s` the same from the
    origin's answer.
    """

    requests: int
    writes: int
    fetches: int
    fetched_bytes: int
    invalidations: int
    seconds: float
    peaks: Mapping[str, float]
    peak: float
    depth: tuple[float, float]
    convergence_s: tuple[float, float]
    spread_s: tuple[float, float]


class Tally:
    """Counts for a plan in which one object of `every` is played, from `start` on."""

    def __init__(self, regions: Sequence[str], every: int, start: float) -> None:
        self._regions = regions
        self._every = every
        self._start = start
        self._end = start
        self._continents: dict[str, Answers] = {}
        self._converged = array("d")
        self._spread = array("d")
        self._depths = array("d")
        self._arrived: dict[tuple[int, int], int] = {}
        self._fetches = self._invalidations = 0
        self._fetched_bytes = 0.0

    def of(self, continent: str) -> Answers:
        """What the users of a continent got."""
        answers = self._continents.get(continent)
        if answers is None:
            answers = self._continents[continent] = Answers()
        return answers

    def arrived(self, region: int, at: float) -> None:
        """Count a request that comes to a region."""
        slot = (region, int((at - self._start) // STEP))
        self._arrived[slot] = self._arrived.get(slot, 0) + 1
        self._end = at

    def fetched(self, octets: float) -> None:
        """Count a fetch from the origin."""
        self._fetches += 1
        self._fetched_bytes += octets

    def wrote(self, seconds: float, spread: float, others: int) -> None:
        """Count a write that so many other regions heard of, the last after some seconds."""
        self._converged.append(seconds)
        self._spread.append(spread)
        self._invalidations += others

    def look(self, at: float, depths: Sequence[float]) -> None:
        """Count what has waited in each region, on the mean of some minutes."""
        if at > self._start:
            self._depths.extend(depths)

    def continents(self) -> dict[str, Found]:
        """The figures of each continent, and of the `world`."""
        every = list(self._continents.values())
        world = sum(answers.requests for answers in every)
        found = {name: _found([answers], world) for name, answers in sorted(self._continents.items())}
        return found | {"world": _found(every, world)}

    def whole(self) -> Whole:
        """The figures of the whole, at the load of all objects."""
        every, most, together = self._every, dict.fromkeys(self._regions, 0.0), dict[int, float]()
        for (region, slot), count in self._arrived.items():
            rate = count * every / min(STEP, max(1.0, self._end - self._start))
            name = self._regions[region]
            most[name] = max(most[name], rate)
            together[slot] = together.get(slot, 0.0) + rate
        depths, converged, spread = sorted(self._depths), sorted(self._converged), sorted(self._spread)
        return Whole(
            requests=sum(answers.requests for answers in self._continents.values()) * every,
            writes=len(converged) * every,
            fetches=self._fetches * every,
            fetched_bytes=round(self._fetched_bytes * every),
            invalidations=self._invalidations * every,
            seconds=self._end - self._start,
            peaks=most,
            peak=max(together.values(), default=0.0),
            depth=(percentile(depths, 0.95) * every, percentile(depths, 1) * every),
            convergence_s=(percentile(converged, 0.5), percentile(converged, 0.99)),
            spread_s=(percentile(spread, 0.5), percentile(spread, 0.99)),
        )


def _found(every: Sequence[Answers], world: int) -> Found:
    requests = sum(answers.requests for answers in every)
    reads = sum(answers.reads for answers in every)
    return Found(
        share=requests / max(1, world),
        hit_ratio=sum(answers.hits for answers in every) / max(1, reads),
        read_ms=_halves([answers.near for answers in every]),
        read_far_ms=_halves([answers.far for answers in every]),
        write_ms=_halves([answers.acknowledged for answers in every]),
        write_far_ms=_halves([answers.acknowledged_far for answers in every]),
        answered=1 - sum(answers.failed for answers in every) / max(1, requests),
        answered_far=1 - sum(answers.failed_far for answers in every) / max(1, requests),
    )


def _halves(times: Sequence[array[float]]) -> tuple[float, float]:
    ordered = sorted(each for values in times for each in values)
    return percentile(ordered, 0.5), percentile(ordered, 0.95)
