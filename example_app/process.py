"""The origin as a service of its own: a child process."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

START_SECONDS = 15.0
STOP_SECONDS = 2.0


class OriginError(Exception):
    """Say that the origin did not start."""


@asynccontextmanager
async def origin_process(database: Path, *, seeds: int) -> AsyncIterator[int]:
    """Run the origin beside this process; yields its port. Raises OriginError."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "example_app.origin", "--port", "0", "--stop-with-stdin")
    options = ("--database", str(database), "--seeds", str(seeds))
    # In a session of its own, Ctrl-C reaches it only through its parent, after the last writes have gone out.
    # When the parent dies, its standard input closes and it ends.
    process = await asyncio.create_subprocess_exec(*command, *options, stdin=pipe, stdout=pipe, start_new_session=True)
    try:
        yield await _port(process)
    finally:
        await _stop(process)


async def _port(process: asyncio.subprocess.Process) -> int:
    if process.stdout is None:
        raise OriginError("the origin has no output")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
    except TimeoutError:
        raise OriginError(f"the origin did not start within {START_SECONDS:g} s") from None
    _, _, port = line.decode().strip().rpartition(":")
    if not port.isdigit():
        raise OriginError("the origin ended before it listened")
    return int(port)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
