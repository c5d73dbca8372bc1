"""Fuzz with atheris: `python -m tests.fuzz --seconds 30 [TARGET ...]`.

Each target runs in a process of its own for its share of the seconds, and ends at the first octets that break it: these
are kept in `build/fuzz`, beside those that led further into the code. It ends with 1 when any target was broken.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

KEPT: Final = Path("build") / "fuzz"
_MISSING: Final = "atheris is not installed: pip install 'aiohttp-regioncache[fuzz]', or make fuzz\n"
_LONGEST: Final = 4096
Target = Callable[[bytes], None]


def load() -> dict[str, Target]:
    """Import the targets, so that atheris follows what they do where it is installed."""
    if importlib.util.find_spec("atheris") is None:
        return _imported()
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["aiohttp_regioncache", "tests.fuzz"]):
        return _imported()


def _imported() -> dict[str, Target]:
    found: dict[str, Target] = importlib.import_module("tests.fuzz.targets").TARGETS
    return found


def fuzz(name: str, target: Target, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it."""
    atheris: Any = importlib.import_module("atheris")
    corpus = KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = (f"-max_total_time={seconds}", f"-max_len={_LONGEST}", f"-artifact_prefix={corpus}-", str(corpus))
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


def fuzz_each(names: list[str], seconds: int) -> list[str]:
    """Fuzz several targets one after the other; gives the names of those that were broken."""
    share = str(max(1, seconds // len(names)))
    command = (sys.executable, "-m", "tests.fuzz", "--seconds", share)
    return [name for name in names if subprocess.run((*command, name), check=False).returncode]


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; return the exit code."""
    targets = load()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (default 60)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(targets)} (default all)")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.targets) - targets.keys()):
        parser.error(f"invalid choice of targets: {', '.join(unknown)}")
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(_MISSING)
        return 2
    if len(chosen.targets) == 1:
        fuzz(chosen.targets[0], targets[chosen.targets[0]], chosen.seconds)
    broken = fuzz_each(chosen.targets or list(targets), chosen.seconds)
    sys.stdout.write(f"broken: {', '.join(broken) or 'none'}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
