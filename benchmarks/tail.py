"""The part `tail`: how long answers take under 70 % of what a server can do, and what the interpreter's settings do."""

from __future__ import annotations

import importlib.util
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from . import cores, requests
from .bodies import KIB
from .contenders import servers
from .figures import median, percentile
from .load import CONNECTIONS, Asked, Load, Measured, Spacing
from .processes import Process
from .report import Cell, Found, Say, Table
from .stage import HOOKS, Stage, until_right

_SHARE: Final = 0.7
_GOAL: Final = 3
"""p99 as a multiple of p50 that hits should stay within."""
_MORE: Final = 4
"""Connections for a given rate, as a multiple of those for the maximum: nobody should have to wait for one."""
_SPACINGS: Final[tuple[Spacing, ...]] = ("even", "random")
_REST: Final = 0.6
"""Seconds after each round that go to everybody else on the machine, so that nobody has to be stopped for them."""
_QUEUED: Final = 300_000
"""Requests of the queue that is computed."""
_NOTE: Final = """Load at 70 % of the maximum of the same server, evenly spaced or at random as independent users come;
a wait counts from when its request was due. Times in microseconds, medians of the rounds; `over 3` counts the rounds in
which p99 was more than three times p50. `settled`: after its start `gc.freeze()` and rarer collections. `ideal` is
computed: one server that takes equally long for every request, one after the other, and nothing in its way (M/D/1)."""
_FIRST: Final = """While they were measured, server, load and Redis came before everything else that runs on this
machine (SCHED_FIFO), as on cores of their own."""
_NOT_FIRST: Final = """The system did not let server, load and Redis come before everything else that runs on this
machine (SCHED_FIFO needs CAP_SYS_NICE): p99 is the machine's as much as theirs, compare `bare`."""
_MARKS: Final[dict[str, tuple[bytes, ...]]] = {"bare": (), "nginx": (b"X-Cache: HIT",)}


class Variant(msgspec.Struct, frozen=True):
    """A server with settings of its interpreter."""

    name: str
    kind: str
    memory: bool = True
    settled: bool = False
    uvloop: bool = False

    def start(self, stage: Stage) -> Process:
        """Start it and fill its cache."""
        environment = {"PYTHONPATH": str(HOOKS)} | ({} if self.uvloop else {"BENCH_NO_UVLOOP": "1"})
        if self.kind == "gateway":
            server = stage.serve(memory=self.memory, environment=environment)
        else:
            server = servers()[self.name](stage)
        until_right(server.port, self.plans()[0])
        if self.settled:
            server.signal(signal.SIGUSR1)
        return server

    def plans(self) -> list[list[Asked]]:
        """What it is asked."""
        return requests.gets(KIB, marks=_MARKS.get(self.kind, (b"; hit", b"detail=memory")[: 1 + self.memory]))


def variants() -> list[Variant]:
    """Every one that can be run here."""
    found = [
        Variant("bare", "bare"),
        Variant("plug-in, memory", "plug-in"),
        Variant("plug-in, Redis", "plug-in", memory=False),
        Variant("gateway, memory", "gateway"),
        Variant("gateway, memory, settled", "gateway", settled=True),
        Variant("gateway, Redis", "gateway", memory=False),
        Variant("gateway, Redis, settled", "gateway", memory=False, settled=True),
    ]
    nginx = "nginx, set well"
    if nginx in servers():
        found.append(Variant(nginx, "nginx"))
    if importlib.util.find_spec("uvloop") is not None:
        found += [
            msgspec.structs.replace(each, name=f"{each.name}, uvloop", uvloop=True)
            for each in found
            if each.kind == "gateway"
        ]
    return found


class Sample(msgspec.Struct, frozen=True):
    """A server in one round: its maximum per second, and its times in microseconds below that."""

    most: float
    rate: float
    p50: float
    p99: float
    p999: float
    wrong: int

    @property
    def ratio(self) -> float:
        """How much longer the slow ones take."""
        return self.p99 / self.p50


def tail(stage: Stage, say: Say, *, seconds: float = 0.4, rounds: int = 10) -> Found:
    """Find each server's maximum, then measure its tail below it, in interleaved rounds."""
    running = [(variant, variant.start(stage)) for variant in variants()]
    samples: defaultdict[tuple[str, Spacing], list[Sample]] = defaultdict(list)
    are_first = True
    for number in range(rounds):
        for variant, server in running:
            say(f"tail: {variant.name}, round {number + 1}/{rounds}")
            for spacing in _SPACINGS:
                with cores.first_in_line(_threads(stage.valkey, server)) as is_first:
                    are_first &= is_first
                    most = _most(server, variant, seconds / 2)
                    measured = _paced(server, variant, most * _SHARE, seconds, spacing)
                samples[variant.name, spacing].append(_sample(most, measured))
                time.sleep(_REST if is_first else 0)
    columns = (
        "who",
        "arrivals",
        "maximum per second",
        "per second",
        "p50",
        "p99",
        "p99.9",
        "p99 / p50",
        "over 3",
        "wrong",
    )
    rows = [_cells(name, spacing, found) for (name, spacing), found in samples.items()]
    rows += [["ideal", spacing, *[None] * 5, _ideal(spacing), None, None] for spacing in _SPACINGS]
    note = f"{_NOTE} {_FIRST if are_first else _NOT_FIRST}"
    table = Table(f"Tail at 70 % load ({rounds} rounds of {seconds:g} s)", columns, rows, note)
    return Found([table], wrong=sum(sample.wrong for found in samples.values() for sample in found))


def _threads(*servers: Process) -> list[int]:
    """The load's own and those of `servers`."""
    return [threading.get_native_id(), *(thread for server in servers for thread in server.threads())]


def _sample(most: float, measured: Measured) -> Sample:
    p50, p99, p999 = (seconds * 1e6 for seconds in (measured.p50, measured.p99, measured.p999))
    return Sample(most, measured.rate, p50, p99, p999, sum(measured.wrong.values()))


def _cells(name: str, spacing: Spacing, samples: Sequence[Sample]) -> list[Cell]:
    def middle(figure: str) -> float:
        return median([getattr(sample, figure) for sample in samples])

    figures = [round(middle(figure)) for figure in ("most", "rate", "p50", "p99", "p999")]
    over = sum(sample.ratio > _GOAL for sample in samples)
    return [name, spacing, *figures, middle("ratio"), over, sum(sample.wrong for sample in samples) or None]


def _ideal(spacing: Spacing) -> float:
    """p99 / p50 in a queue that is nothing but a queue."""
    draw = random.Random(1)
    waits = [0.0]
    while len(waits) < _QUEUED:
        waits.append(max(0.0, waits[-1] + 1 - (draw.expovariate(_SHARE) if spacing == "random" else 1 / _SHARE)))
    ordered = sorted(waits)
    return (1 + percentile(ordered, 0.99)) / (1 + percentile(ordered, 0.5))


def _most(server: Process, variant: Variant, seconds: float) -> float:
    load = Load(server.port, variant.plans(), CONNECTIONS)
    try:
        load.closed(seconds / 4)
        return load.closed(seconds).rate
    finally:
        load.close()


def _paced(server: Process, variant: Variant, rate: float, seconds: float, spacing: Spacing) -> Measured:
    load = Load(server.port, variant.plans(), CONNECTIONS * _MORE)
    try:
        load.paced(rate, seconds / 6, spacing)
        return load.paced(rate, seconds, spacing)
    finally:
        load.close()
