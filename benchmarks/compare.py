"""The part `compare`: every contender beside a bare handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .contenders import Contender, contenders, servers
from .load import CONNECTIONS
from .report import Found, Say, Table
from .rounds import Rounds, Row
from .stage import Stage
from .wrk import Wrk

_NOTE: Final = """Answers per second as a multiple of the baseline's in the same round (`ratio`: median, first and third
quartile); `CPU ratio` compares the core's time per request, which other work on the machine disturbs less. Times in
microseconds, memory of all processes of the server. `core used`: the part of the time that the server ran, + that it
could have run while others had its core. `wrong` are answers that were not what they had to be."""
_DISTURBED: Final = 0.05
_COLUMNS: Final = (
    "who", "ratio", "quartiles", "CPU ratio", "per second", "p50", "p99", "CPU per request", "core used", "MiB",
    "wrong",
)  # fmt: skip


def compare(
    stage: Stage,
    say: Say,
    *,
    seconds: float = 1.5,
    rounds: int = 5,
    connections: int = CONNECTIONS,
    only: Sequence[str] = (),
    with_wrk: bool = True,
) -> Found:
    """Measure every contender whose name has one of the texts in `only`, all without, and their baselines."""
    starts = servers()
    chosen = _chosen(contenders(list(starts)), only)
    wrk = Wrk.found(stage.directory) if with_wrk else None
    found = Rounds(stage, starts, seconds=seconds, connections=connections, wrk=wrk, say=say).run(chosen, rounds)
    wrong = sum(sum(row.wrong.values()) for row in found)
    label = (
        f"{rounds} rounds of {seconds:g} s, {connections} connections, load by {'wrk' if wrk else 'its own generator'}"
    )
    return Found(
        [Table(f"Comparison ({label})", _COLUMNS, [_cells(row) for row in found], _NOTE)], rows=found, wrong=wrong
    )


def _chosen(rows: Sequence[Contender], only: Sequence[str]) -> list[Contender]:
    wanted = [row for row in rows if not only or any(text in row.name for text in only)]
    baselines = {row.baseline for row in wanted}
    return [row for row in rows if row in wanted or row.name in baselines]


def _cells(row: Row) -> list[str | int | float | None]:
    wrong = ", ".join(f"{count} {what}" for what, count in row.wrong.items())
    used = f"{row.busy:.0%}" + (f" + {row.waited:.0%}" if row.waited >= _DISTURBED else "")
    used += "" if row.is_bound else ", not the limit"
    return [
        row.name, row.ratio, f"{row.ratio_low:.2f} - {row.ratio_high:.2f}", row.cpu_ratio, round(row.rate),
        round(row.p50), round(row.p99), row.cpu, used, round(row.rss / 1024), wrong or None,
    ]  # fmt: skip
