"""Run the tests: `python -m tests [--checks COMMAND] [ARGUMENT ...]`.

Without arguments for pytest it runs all of them, in two halves at once and beside the command of the checks. What each
of these says is shown whole, one after the other, and the first that still runs as it runs. Arguments go to one pytest,
after the checks. It ends with 1 when anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Final, NamedTuple

Command = Sequence[str]

FIRST_HALF: Final = (
    "tests/campaigns",
    "tests/cli",
    "tests/conformance",
    "tests/control",
    "tests/example_app",
    "tests/privacy",
    "tests/reads",
    "tests/transforms",
    "tests/writes",
)
"""The other half is whatever there is besides: nothing is forgotten here. Both should take the same time."""

AFTER_CHECKS: Final = ("tests/typing",)
"""It runs mypy too, which keeps what it has found where only one may write."""

_PYTEST: Final = (sys.executable, "-m", "pytest")
_LOOK_SECONDS: Final = 0.1
_CACHES: Final = Path(".pytest_cache")
_FAILED: Final = "v/cache/lastfailed"


class Part(NamedTuple):
    """Commands that run one after the other, beside the other parts."""

    name: str
    commands: Sequence[Command]


class Ended(NamedTuple):
    """How a part ended."""

    passed: bool
    seconds: float


def parts(checks: Sequence[Command] = ()) -> list[Part]:
    """What runs at the same time."""
    elsewhere = [f"--ignore={path}" for path in (*FIRST_HALF, *AFTER_CHECKS)]
    return [
        Part("checks", [*checks, _pytest("checks", *AFTER_CHECKS)]),
        Part("first half", [_pytest("first", *FIRST_HALF)]),
        Part("second half", [_pytest("second", *elsewhere)]),
    ]


def _pytest(name: str, *arguments: str) -> Command:
    colour = ("--color=yes",) if sys.stdout.isatty() else ()
    return (*_PYTEST, *colour, "-o", f"cache_dir={_CACHES / name}", *arguments)


def _all_pass(commands: Sequence[Command], output: IO[bytes] | None = None) -> bool:
    """Run commands until one fails."""
    return all(subprocess.run(each, stdout=output, stderr=output, check=False).returncode == 0 for each in commands)


def _run(part: Part, output: IO[bytes]) -> Ended:
    began = time.monotonic()
    return Ended(_all_pass(part.commands, output), time.monotonic() - began)


def _show(part: Part, running: Future[Ended], log: Path) -> None:
    """Copy the output of a part until it has ended."""
    sys.stdout.write(f"\n--- {part.name} ---\n")
    sys.stdout.flush()
    with log.open("rb") as output:
        is_over = False
        while not is_over:
            is_over = running.done()
            sys.stdout.buffer.write(output.read())
            sys.stdout.buffer.flush()
            wait([running], timeout=_LOOK_SECONDS)


def run(parts: Sequence[Part]) -> bool:
    """Run parts at once, show what each says, and how all ended; whether all passed."""
    with (
        tempfile.TemporaryDirectory(prefix="regioncache-tests-") as directory,
        contextlib.ExitStack() as files,
        ThreadPoolExecutor(len(parts)) as executor,
    ):
        logs = [Path(directory, part.name) for part in parts]
        outputs = [files.enter_context(log.open("wb")) for log in logs]
        running = [executor.submit(_run, *each) for each in zip(parts, outputs, strict=True)]
        for each in zip(parts, running, logs, strict=True):
            _show(*each)
    sys.stdout.write("\n")
    for part, ended in zip(parts, (each.result() for each in running), strict=True):
        sys.stdout.write(f"{part.name}: {'passed' if ended.passed else 'FAILED'} in {ended.seconds:.0f} s\n")
    return all(each.result().passed for each in running)


def remember_failures(caches: Path = _CACHES) -> None:
    """Tell a pytest of later, as for `--last-failed`, what failed in any part."""
    failed: dict[str, bool] = {}
    for known in caches.glob(f"*/{_FAILED}"):
        failed |= json.loads(known.read_text("utf-8"))
    (caches / _FAILED).parent.mkdir(parents=True, exist_ok=True)
    (caches / _FAILED).write_text(json.dumps(failed), "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__, allow_abbrev=False)
    parser.add_argument("--checks", type=shlex.split, metavar="COMMAND", help="what else has to pass: the linters")
    chosen, others = parser.parse_known_args(arguments)
    checks = [chosen.checks] if chosen.checks else []
    if others:
        return 0 if _all_pass([*checks, [*_PYTEST, *others]]) else 1
    passed = run(parts(checks))
    remember_failures()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
