"""An edge as a process of its own, with one region: `python -m tests.campaigns.edge PORT ORIGIN REDIS`.

It says `ready` on standard output, and ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp_regioncache as regioncache
from example_app.serving import listen, start_server, stop_event, stop_with_stdin
from tests.support.world import SECRET, forwarding_app

REGION = "sa-east-1"
READY = b"ready\n"
ROOT = Path(__file__).parents[2]


def settings(origin: str, redis: str) -> regioncache.Settings:
    """Return the settings of an edge; a dead edge's claims end soon, so that a campaign is short."""
    return regioncache.Settings(
        origin=origin,
        regions=(regioncache.Region(REGION, redis=redis),),
        home_region=REGION,
        secrets=(SECRET,),
        rules=(regioncache.Rule("/items/{id}", write="behind"),),
        sync=regioncache.Sync(lease=3.0, timeout=2.0),
    )


class EdgeProcess:
    """The edge's process, which can be killed and started again on the same port."""

    def __init__(self, port: int, origin: str, redis: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._arguments = (str(port), origin, redis)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.campaigns.edge", *self._arguments)
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT)
        assert self._process.stdout is not None
        if await self._process.stdout.readline() != READY:
            raise RuntimeError("the edge did not start")

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()

    async def stop(self) -> None:
        """End it gracefully; once it has ended, nothing happens."""
        if self._process is not None and self._process.returncode is None:
            await self._process.communicate(b"")  # closes its standard input


async def _serve(port: int, origin: str, redis: str) -> None:
    stop = stop_event()
    app = forwarding_app()
    regioncache.setup(app, settings(origin, redis))
    server = await start_server(app, listen(port))
    watch = asyncio.create_task(stop_with_stdin(stop))
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    await stop.wait()
    watch.cancel()
    await server.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
