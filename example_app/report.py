"""The demo's text: the table, the drain, what to try next."""

from collections.abc import Sequence

from example_app.burst import Burst
from example_app.checks import Checks
from example_app.distance import ROUND_TRIP_TO_ORIGIN_MS
from example_app.measure import Row
from example_app.ways import Demo
from example_app.world import city

HEADINGS = (
    ("user in", "nearest region", "away", "read", "", "", "", "write", "", ""),
    ("", "", "ms", "straight", "first", "cached", "faster", "straight", "via edge", "faster"),
)
LEFT_COLUMNS = 2
LEGEND = """\
away: the round trip to the nearest region     straight: past the cache, to the origin in Tokyo
first: not stored in the region yet            cached: stored there
via edge: acknowledged in the region, at the origin shortly after
All edges share one process here: some of the milliseconds are the demo's own."""


def table(rows: Sequence[Row]) -> str:
    """Return the measurements as aligned text; times are milliseconds."""
    lines = [*HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [_line(line, widths) for line in lines]
    rule = "-" * max(map(len, texts))
    return "\n".join([*texts[: len(HEADINGS)], rule, *texts[len(HEADINGS) :], rule, LEGEND])


def distances(regions: Sequence[str]) -> str:
    """Return a line that says how far every region is from the origin."""
    return ", ".join(f"{city(name)} {ROUND_TRIP_TO_ORIGIN_MS[name]:g}" for name in regions)


def drain_line(state: Burst) -> str:
    """Return the counters of a burst as one line of a constant width."""
    # An effect may be seen at the origin before the acknowledgement has reached its sender.
    waiting = max(0, state.queued - state.landed)
    return (
        f"  {state.seconds:5.1f} s   acknowledged {state.queued:5d}   "
        f"at the origin {state.landed:5d}   waiting {waiting:5d}"
    )


def outcome(state: Burst) -> str:
    """Return what became of a burst."""
    return (
        f"{state.queued} writes were acknowledged where they were made; "
        f"after {state.seconds:.1f} s the origin had applied {state.landed}."
    )


def verdict(checks: Checks) -> str:
    """Return the outcome: how many checks held, and a line for each that did not."""
    if not checks.failures:
        return f"All {checks.passed} checks passed."
    failures = [_failure(text, times) for text, times in checks.failures.items()]
    return "\n".join([*failures, f"{checks.failures.total()} checks failed, {checks.passed} passed."])


def suggestions(demo: Demo) -> str:
    """Return commands to try against the running demo."""
    front = demo.front_url
    return f"""\
Try it in a browser: {front}/
or with curl (the main edge stands {demo.front_round_trip_ms:g} ms from the origin and serves every region):

  # twice: a miss, then a hit in Brazil's region
  curl -i -H 'CF-IPCountry: BR' {front}/items/1

  # a write, acknowledged there: 202
  curl -i -H 'CF-IPCountry: BR' -X PUT -H 'Content-Type: application/json' -d '{{"name":"guarana"}}' {front}/items/1

  # at once: the new state, marked dirty
  curl -i -H 'CF-IPCountry: BR' {front}/items/1

  # shortly after, the origin has it, and a user in Germany sees it
  curl -i {demo.origin_url}/items/1
  curl -i -H 'CF-IPCountry: DE' {front}/items/1

Ctrl-C ends everything."""


def _failure(text: str, times: int) -> str:
    return f"FAILED: {text}" if times == 1 else f"FAILED {times} times: {text}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.user.name,
        f"{city(row.user.region)} ({row.user.region})",
        f"{row.user.last_mile_ms:.1f}",
        f"{row.straight_read:.1f}",
        f"{row.first_read:.1f}",
        f"{row.cached_read:.1f}",
        f"{row.straight_read / row.cached_read:.1f}x",
        f"{row.straight_write:.1f}",
        f"{row.edge_write:.1f}",
        f"{row.straight_write / row.edge_write:.1f}x",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:LEFT_COLUMNS], widths, strict=False)]
    right = [cell.rjust(width) for cell, width in zip(cells[LEFT_COLUMNS:], widths[LEFT_COLUMNS:], strict=True)]
    return "  ".join([*left, *right]).rstrip()
