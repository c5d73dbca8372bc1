"""The command line as its users run it: in a process of its own, on real regions."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.world import REGIONS, SECRET, World


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)


def write_config(directory: Path, world: World, *, origin: str | None = None, more: str = "") -> Path:
    """Write the settings of a world as a file."""
    regions = ", ".join(f'{{name = "{name}", redis = "{server.url}"}}' for name, server in world.servers.items())
    lines = [f'origin = "{origin}"'] if origin else []
    path = directory / "regioncache.toml"
    path.write_text("\n".join([*lines, f'secrets = ["{SECRET}"]', f"regions = [{regions}]", more]), "utf-8")
    return path


async def command(*arguments: str | Path, given: str = "") -> Outcome:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aiohttp_regioncache", *map(str, arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(given.encode())
    return Outcome(process.returncode or 0, out.decode(), err.decode())


__all__ = ["REGIONS", "Outcome", "command", "write_config"]
