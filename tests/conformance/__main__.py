"""Measure an edge with an outside suite: `python -m tests.conformance --suite PATH`.

PATH is a folder with `run.py`, `origin.py` and `cases.json`. The suite runs twice, with a connection per case and with
one per request: an outcome that differs means that something is stored too late for the next request to see it. It ends
with 1 when outcomes differ or fall below what is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.servers import free_port

from .edge import edge_before

CONNECTIONS: Final = ("test", "request")
_FILES: Final = ("run.py", "origin.py", "cases.json")
_LINE: Final = re.compile(r"^ +(required|optimal|check) +[0-9]+ +(.*)$", re.MULTILINE)
_COUNT: Final = re.compile(r"([a-z_]+) ([0-9]+)")
_GOOD: Final = frozenset({"pass", "yes"})


class Run(NamedTuple):
    """What one run came to: its summary, and by the case's id "pass" or what kind of failure it was."""

    summary: str
    outcomes: dict[str, str]

    @property
    def counts(self) -> Counter[tuple[str, bool]]:
        """How many cases of each kind passed, and did not."""
        counts: Counter[tuple[str, bool]] = Counter()
        for kind, rest in _LINE.findall(self.summary):
            for outcome, number in _COUNT.findall(rest):
                counts[kind, outcome in _GOOD] += int(number)
        return counts


async def measure(suite: Path, *, failures: bool = False) -> list[Run]:
    """Run the suite against an edge of its own for each way to connect. Raises `RuntimeError` when it breaks off."""
    return [await _measured(suite, connections, failures) for connections in CONNECTIONS]


async def _measured(suite: Path, connections: str, failures: bool) -> Run:
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory) / "results.json"
        async with edge_before(f"http://127.0.0.1:{port}", Path(directory)) as edge:
            summary = await _run(
                *(sys.executable, str(suite / "run.py"), "--tests", str(suite / "cases.json")),
                *("--origin-port", str(port), "--base", f"http://127.0.0.1:{edge}", "--connections", connections),
                *("--out", str(results), "--summary", *(["--failures"] if failures else [])),
            )
        found = json.loads(results.read_text("utf-8"))
    return Run(summary, {name: "pass" if outcome is True else str(outcome[0]) for name, outcome in found.items()})


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the runner ended with {process.returncode}")
    return output.decode()


def complaints(runs: list[Run], *, required_failures: int, optimal: int) -> list[str]:
    """Say what is not as it should be: outcomes that differ, too many failures, too few optimal cases."""
    found: list[str] = []
    first, second = (run.outcomes for run in runs)
    if differing := sorted(name for name in first | second if first.get(name) != second.get(name)):
        found.append(f"the runs differ in {', '.join(differing)}")
    for connections, run in zip(CONNECTIONS, runs, strict=True):
        if (failed := run.counts["required", False]) > required_failures:
            found.append(f"connection per {connections}: {failed} required cases failed, more than {required_failures}")
        if (passed := run.counts["optimal", True]) < optimal:
            found.append(f"connection per {connections}: {passed} optimal cases passed, fewer than {optimal}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--suite", type=Path, required=True, help=f"a folder with {', '.join(_FILES)}")
    parser.add_argument("--required-failures", type=int, default=4, help="required cases that may fail (default 4)")
    parser.add_argument("--optimal", type=int, default=70, help="optimal cases that must pass (default 70)")
    parser.add_argument("--failures", action="store_true", help="list what did not pass, and why")
    chosen = parser.parse_args(arguments)
    if missing := [name for name in _FILES if not (chosen.suite / name).is_file()]:
        parser.error(f"{chosen.suite} has no {', '.join(missing)}")
    runs = asyncio.run(measure(chosen.suite.resolve(), failures=chosen.failures))
    for connections, run in zip(CONNECTIONS, runs, strict=True):
        sys.stdout.write(f"A connection per {connections}:\n{run.summary}\n")
    found = complaints(runs, required_failures=chosen.required_failures, optimal=chosen.optimal)
    sys.stdout.write("".join(f"{complaint}\n" for complaint in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
