"""The load generator of others, when it is installed: it measures, and does not look at what it gets."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final

from . import cores
from .contenders import Contender
from .load import Measured
from .processes import HOST

_SCRIPT: Final = """
done = function(summary, latency, requests)
    local e = summary.errors
    print(string.format("figures %d %d %d %d %d %d", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), latency:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Wrk:
    """`wrk`, on the core of the load; for contenders with one request."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._script = directory / "wrk.lua"
        self._script.write_text(_SCRIPT, "utf-8")

    @classmethod
    def found(cls, directory: Path) -> Wrk | None:
        """The one that is installed, if any."""
        program = shutil.which("wrk")
        return cls(program, directory) if program else None

    def can(self, contender: Contender) -> bool:
        """Whether it can ask what a contender is asked: one GET without a field that matters."""
        return len(contender.plans) == 1 and len(contender.plans[0]) == 1

    def run(self, port: int, contender: Contender, seconds: float, connections: int) -> Measured:
        """Ask for some seconds."""
        path = contender.plans[0][0].request.split(b" ", 2)[1].decode()
        command = [
            *(self._program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(self._script)),
            *("-H", "Host: bench.example", f"http://{HOST}:{port}{path}"),
        ]
        with cores.pinned(cores.LOAD):
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        line = next(line for line in said.splitlines() if line.startswith("figures "))
        count, duration, p50, p99, p999, errors = map(int, line.split()[1:])
        wrong = Counter({"wrk's errors": errors}) if errors else Counter[str]()
        return Measured(duration / 1e6, count, p50 / 1e6, p99 / 1e6, p999 / 1e6, wrong)
