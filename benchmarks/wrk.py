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
local asked = { %s }
local at = 0
request = function()
    at = at %% #asked + 1
    return asked[at]
end
done = function(summary, latency, requests)
    local e = summary.errors
    print(string.format("figures %%d %%d %%d %%d %%d %%d", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), latency:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Wrk:
    """`wrk`, on the core of the load."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._script = directory / "wrk.lua"

    @classmethod
    def found(cls, directory: Path) -> Wrk | None:
        """The one that is installed, if any."""
        program = shutil.which("wrk")
        return cls(program, directory) if program else None

    def run(self, port: int, contender: Contender, seconds: float, connections: int) -> Measured:
        """Ask for some seconds."""
        requests = dict.fromkeys(asked.request for plan in contender.plans for asked in plan)
        self._script.write_text(_SCRIPT % ", ".join(map(_quoted, requests)), "utf-8")
        command = [
            *(self._program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(self._script)),
            f"http://{HOST}:{port}/",
        ]
        with cores.pinned(cores.LOAD):
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        line = next(line for line in said.splitlines() if line.startswith("figures "))
        count, duration, p50, p99, p999, errors = map(int, line.split()[1:])
        wrong = Counter({"wrk's errors": errors}) if errors else Counter[str]()
        return Measured(duration / 1e6, count, p50 / 1e6, p99 / 1e6, p999 / 1e6, wrong)


def _quoted(request: bytes) -> str:
    """A string of Lua."""
    text = request.decode("ascii").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\r", "\\r").replace("\n", "\\n") + '"'
