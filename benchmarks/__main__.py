"""The command line: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from . import cores
from .compare import compare
from .drain import drain
from .growth import growth
from .load import CONNECTIONS
from .micro import micro
from .report import Found, Report, say
from .stage import Stage
from .tail import tail
from .versions import versions
from .workers import workers

Part = Callable[[Stage, argparse.Namespace], Found]
_PARTS: Final[dict[str, tuple[str, Part]]] = {
    "compare": (
        "every way to answer, beside a bare aiohttp handler, other caches, nginx and varnish",
        lambda stage, given: compare(
            stage,
            say,
            seconds=given.seconds or (0.5 if given.quick else 1.2),
            rounds=given.rounds or (1 if given.quick else 3),
            connections=given.connections,
            only=given.only,
            with_wrk=not given.own_load,
        ),
    ),
    "micro": (
        "small parts by themselves: key, record, freshness, ranking, fold, exchange",
        lambda _, given: micro(say, quick=given.quick),
    ),
    "tail": (
        "p50 and p99 under 70 % of the maximum; garbage collection, uvloop",
        lambda stage, given: tail(
            stage,
            say,
            seconds=given.seconds or 0.4,
            rounds=given.rounds or (1 if given.quick else 10),
        ),
    ),
    "workers": (
        "one worker and two",
        lambda stage, given: workers(
            stage, say, seconds=given.seconds or (0.5 if given.quick else 1.5), rounds=given.rounds or 2
        ),
    ),
    "drain": (
        "how fast queued writes go to the origin, singly and in bulk",
        lambda stage, given: drain(stage, say, writes=2_000 if given.quick else 6_000),
    ),
    "growth": (
        "what more entries, pending writes, regions, sites, octets and connections cost",
        lambda stage, given: growth(stage, say, quick=given.quick),
    ),
}
_DEFAULT_OUT: Final = Path("build/bench")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parts = "\n".join(f"  {name:<9}{what}" for name, (what, _) in _PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(
            "Measure the package. Everything it needs is started on this machine, on loopback alone, and ended\n"
            "again; what is not installed (nginx, varnish, the other caches, uvloop) is left out. With two cores\n"
            "servers run on the first, load, Redis and origin on the second. Every answer is checked while it is\n"
            "measured."
        ),
        epilog=(
            f"parts:\n{parts}\n\nexamples:\n"
            "  python -m benchmarks --quick\n"
            "  python -m benchmarks compare --only gateway --only nginx --rounds 9\n"
            "  python -m benchmarks drain growth --out build/bench/tonight"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help="what to measure (default: all)")
    parser.add_argument("--quick", action="store_true", help="a first look in two minutes: few, short rounds")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="compare: rows with this in their name"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often each is measured, in turn (default: 2 or 3, tail 10)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="how long each is measured in a round (default: 1.2, workers 1.5, tail 0.4)",
    )
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, metavar="N", help="compare: default %(default)s"
    )
    parser.add_argument("--own-load", action="store_true", help="compare: leave wrk alone, though it is installed")
    parser.add_argument(
        "--out", type=Path, default=_DEFAULT_OUT, metavar="DIR", help="where tables and plots go (default: %(default)s)"
    )
    return parser


def _part(name: str) -> str:
    if name not in _PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is no part; there are {', '.join(_PARTS)}")
    return name


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; 1 when an answer was wrong."""
    given = make_parser().parse_args(argv)
    report = Report(versions())
    began = time.monotonic()
    wrong = 0
    with cores.pinned(cores.LOAD):
        for name in given.parts or _PARTS:
            with Stage() as stage:
                found = _PARTS[name][1](stage, given)
            report.add(name, found)
            wrong += found.wrong
            files = report.write(given.out)
    print(f"\n{time.monotonic() - began:.0f} s; {', '.join(map(str, files))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
