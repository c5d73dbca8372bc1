"""The comparison: every contender in every round, each beside its baseline of the same minute."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPConnection
from typing import Final

import msgspec

from .contenders import Contender, Start
from .figures import median, quartiles
from .load import CONNECTIONS, Load, Measured
from .processes import HOST, Process, Times
from .servers.running import MADE_PATH
from .stage import Stage, until_right
from .wrk import Wrk

_WARM: Final = 0.25
_STALE: Final = 4
"""After so many contenders the baseline is measured again."""
_BUSY: Final = 0.85
"""A server that had to do for less of the time was not what limited the rate."""


class Sample(msgspec.Struct, frozen=True):
    """One contender in one round: answers per second, times in microseconds, memory in KiB."""

    rate: float
    ratio: float
    p50: float
    p99: float
    cpu: float
    busy: float
    waited: float
    rss: int


_NOTHING: Final = Sample(rate=0.0, ratio=0.0, p50=0.0, p99=0.0, cpu=0.0, busy=0.0, waited=0.0, rss=0)


class Row(msgspec.Struct, frozen=True):
    """One contender over all rounds: medians, and the quartiles of its ratio to the baseline.

    `cpu_ratio` compares the core's time per request. `busy` and `waited` are the parts of the time in which the server
    ran, and could have run while others had its core.
    """

    name: str
    size: int
    baseline: str
    rate: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float
    p50: float
    p99: float
    cpu: float
    rss: int
    busy: float
    waited: float
    wrong: dict[str, int]

    @property
    def is_bound(self) -> bool:
        """Whether the server had always something to do."""
        return self.busy + self.waited >= _BUSY


class Rounds:
    """Measure contenders in interleaved rounds; `say` is told what is being done."""

    def __init__(
        self,
        stage: Stage,
        starts: dict[str, Start],
        *,
        seconds: float,
        connections: int = CONNECTIONS,
        wrk: Wrk | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stage = stage
        self._starts = starts
        self._seconds = seconds
        self._connections = connections
        self._wrk = wrk
        self._say = say
        self._servers: dict[str, Process] = {}
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self._wrong: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def run(self, contenders: Sequence[Contender], rounds: int) -> list[Row]:
        """Measure; a row for each contender in their order, whether it could be measured or not."""
        for contender in contenders:
            try:
                self._prepare(contender)
            except (OSError, RuntimeError) as error:
                self._wrong[contender.name][str(error)] += 1
        baselines = {contender.name: contender for contender in contenders if contender.is_baseline}
        for number in range(rounds):
            self._round(contenders, baselines, f"round {number + 1}/{rounds}")
        return self._rows(contenders)

    def _prepare(self, contender: Contender) -> None:
        if contender.server not in self._servers:
            self._say(f"starting {contender.server}")
            self._servers[contender.server] = self._starts[contender.server](self._stage)
        port = self._servers[contender.server].port
        if contender.before:
            until_right(port, contender.before)
        anew = self._stage.empty if contender.empties else None
        until_right(port, [asked for plan in contender.plans for asked in plan[:1]], anew=anew)

    def _round(self, contenders: Sequence[Contender], baselines: dict[str, Contender], label: str) -> None:
        beside: Sample | None = None
        current, age = "", 0
        for contender in contenders:
            self._say(f"{label}: {contender.name}")
            if contender.is_baseline:
                continue
            if beside is None or contender.baseline != current or age >= _STALE:
                current, age = contender.baseline, 0
                beside = self._try(baselines[current], None)
            self._try(contender, beside)
            age += 1
        for name in baselines.keys() - {contender.baseline for contender in contenders if not contender.is_baseline}:
            self._try(baselines[name], None)

    def _try(self, contender: Contender, beside: Sample | None) -> Sample | None:
        """Measure, or note what went wrong: the others go on."""
        if contender.server not in self._servers:
            return None
        try:
            return self._measure(contender, beside)
        except OSError as error:
            self._wrong[contender.name][str(error)] += 1
            return None

    def _measure(self, contender: Contender, beside: Sample | None) -> Sample:
        server = self._servers[contender.server]
        if contender.empties:
            self._stage.empty()
        load = Load(server.port, contender.plans, self._connections)
        try:
            load.closed(_WARM)
            made = _made(contender, server.port)
            before = server.times()
            measured = load.closed(self._seconds)
            times = server.times().since(before)
            if again := _made(contender, server.port) - made:
                self._wrong[contender.name]["made again"] += again
            self._wrong[contender.name] += measured.wrong
            if self._wrk is not None:
                # What it has counted nobody has looked at: the load above has, in the same round.
                before = server.times()
                measured = self._wrk.run(server.port, contender, self._seconds, self._connections)
                times = server.times().since(before)
        finally:
            load.close()
        sample = _sample(measured, times, server.rss_kib(), beside)
        self._samples[contender.name].append(sample)
        if contender.empties:
            self._stage.empty()
        return sample

    def _rows(self, contenders: Iterable[Contender]) -> list[Row]:
        return [
            _row(
                contender,
                self._samples[contender.name] or [_NOTHING],
                self._samples[contender.baseline] or [_NOTHING],
                self._wrong[contender.name],
            )
            for contender in contenders
        ]


def _made(contender: Contender, port: int) -> int:
    """How often a server has made an answer itself, where it counts that."""
    if not contender.counts:
        return 0
    connection = HTTPConnection(HOST, port)
    connection.request("GET", MADE_PATH)
    try:
        return len(connection.getresponse().read())
    finally:
        connection.close()


def _sample(measured: Measured, times: Times, rss: int, beside: Sample | None) -> Sample:
    return Sample(
        rate=measured.rate,
        ratio=measured.rate / beside.rate if beside else 1.0,
        p50=measured.p50 * 1e6,
        p99=measured.p99 * 1e6,
        cpu=times.used / measured.count * 1e6,
        busy=times.used / measured.seconds,
        # Threads wait side by side: together for no longer than none of them runs.
        waited=min(times.waited / measured.seconds, max(0.0, 1.0 - times.used / measured.seconds)),
        rss=rss,
    )


def _row(contender: Contender, samples: Sequence[Sample], baseline: Sequence[Sample], wrong: Counter[str]) -> Row:
    low, high = quartiles([sample.ratio for sample in samples])

    def middle(name: str, of: Sequence[Sample] = samples) -> float:
        return median([getattr(sample, name) for sample in of])

    return Row(
        name=contender.name,
        size=contender.size,
        baseline=contender.baseline,
        rate=middle("rate"),
        ratio=middle("ratio"),
        ratio_low=low,
        ratio_high=high,
        cpu_ratio=middle("cpu", baseline) / (middle("cpu") or math.inf),
        p50=middle("p50"),
        p99=middle("p99"),
        cpu=middle("cpu"),
        rss=round(middle("rss")),
        busy=middle("busy"),
        waited=middle("waited"),
        wrong=dict(wrong),
    )
