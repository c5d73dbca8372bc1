"""The command line: `python -m benchmarks.world`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from . import cost, footprint
from .day import Day, Plan
from .places import CONTINENTS, REGIONS, detour, users
from .tables import Cell, pair, percent, table
from .tally import Found, Tally, Whole

_DEFAULT: Final = Plan()
_PARTS: Final = ("day", "cost", "footprint")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.world",
        description="Play a day of the world: users everywhere, one origin, and a cache in some regions.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("part", nargs="?", choices=_PARTS, default="day", help="a day, what it costs, or what Redis and the wire take")
    add("--seed", type=int, default=_DEFAULT.seed, help="the same seed gives the same day")
    add("--regions", type=_count, default=len(_DEFAULT.regions), help="how many there are: usually 3, 10 or 30")
    add("--origin", choices=REGIONS, default=_DEFAULT.origin, metavar="REGION", help="where the origin is")
    add("--seconds", type=float, default=_DEFAULT.seconds, help="of the day that are played")
    add("--start", type=float, default=_DEFAULT.start, help="second of the day, in UTC, with which it begins")
    add("--warm-up", type=float, default=_DEFAULT.warm_up, help="seconds before it, which do not count")
    add("--rate", type=float, default=_DEFAULT.rate, help="requests per second of the whole world, on the mean")
    add("--events", type=int, default=_DEFAULT.events, help="how many requests are played, of a part of the objects")
    add("--objects", type=int, default=_DEFAULT.objects, help="how many there are")
    add("--zipf", type=float, default=_DEFAULT.zipf, help="the exponent of their popularity")
    add("--writes", type=float, default=_DEFAULT.write_share, help="the part of the requests that write")
    add("--connects", type=float, default=_DEFAULT.connects, help="the part that come over a new connection")
    add("--outage", type=float, default=_DEFAULT.outage, help="seconds from noon (UTC) that the origin is away")
    add("--drain", type=float, default=_DEFAULT.drain, help="writes that a region's loop sends per second at most")
    add("--measured", type=Path, default=cost.MEASURED, metavar="FILE", help="cost: the figures that it starts from")
    add("--entries", type=int, default=100_000, help="footprint: how many are stored")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def _count(text: str) -> int:
    if not (text.isdigit() and 1 <= int(text) <= len(REGIONS)):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to {len(REGIONS)}")
    return int(text)


def plan_of(given: argparse.Namespace) -> Plan:
    """The plan that a command line asks for."""
    return Plan(
        regions=REGIONS[: given.regions],
        origin=given.origin,
        seed=given.seed,
        seconds=given.seconds,
        start=given.start,
        warm_up=given.warm_up,
        rate=given.rate,
        events=given.events,
        objects=given.objects,
        zipf=given.zipf,
        write_share=given.writes,
        connects=given.connects,
        outage=given.outage,
        drain=given.drain,
    )


_COLUMNS: Final = (
    "continent", "requests", "hits", "read p50 / p95", "without", "write p50 / p95", "without", "answered", "without",
)  # fmt: skip


def _row(name: str, found: Found) -> list[Cell]:
    times = (found.read_ms, found.read_far_ms, found.write_ms, found.write_far_ms)
    shares = (found.answered, found.answered_far)
    return [
        CONTINENTS.get(name, name), percent(found.share), percent(found.hit_ratio), *map(pair, times),
        *map(percent, shares),
    ]  # fmt: skip


def _about(whole: Whole) -> list[list[Cell]]:
    return [
        ["requests", whole.requests],
        ["requests per second, at the peak of all", whole.peak],
        ["answers fetched from the origin", whole.fetches],
        ["MiB fetched from the origin", whole.fetched_bytes / 2**20],
        ["writes", whole.writes],
        ["invalidations told to other regions", whole.invalidations],
        ["writes that wait in a region (of ten minutes the mean), p95 / most", pair(whole.depth)],
        ["s from acknowledgement until no region serves the old state, p50 / p99", pair(whole.convergence_s)],
        ["s of that after the origin's answer, p50 / p99", pair(whole.spread_s)],
    ]


def report(plan: Plan, tally: Tally) -> str:
    """Everything in words."""
    whole = tally.whole()
    return "\n".join(
        [
            f"{len(plan.regions)} regions, origin in {plan.origin}, {plan.rate:g} requests per second on the mean,",
            f"one of {plan.every} objects played; detour of the measured round trips {detour():.2f}.",
            "Times in milliseconds, to the first byte and to the acknowledgement.",
            "",
            table(_COLUMNS, [_row(name, found) for name, found in tally.continents().items()]),
            "",
            table(("what", "figure"), _about(whole)),
            "",
            table(("region", "requests/s at its peak"), [list(each) for each in whole.peaks.items()]),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for."""
    given = make_parser().parse_args(argv)
    if given.part == "cost":
        return cost.main(given.measured)
    if given.part == "footprint":
        return footprint.main(given.entries)
    plan, began = plan_of(given), time.monotonic()
    tally = Day(plan).run()
    print(report(plan, tally))
    print(f"\n{time.monotonic() - began:.0f} s, {len(users())} places", file=sys.stderr)
    if given.json is not None:
        found = {"plan": plan, "continents": tally.continents(), "whole": tally.whole()}
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
