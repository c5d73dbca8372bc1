"""An edge as a process of its own: `python -m tests.writes.worker ORIGIN REGION=REDIS ...`, home in the first region.

It says its port on standard output.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

import aiohttp_regioncache as regioncache
from tests.support.world import SECRET, forwarding_app

INTENT_SECONDS = 1.0


async def serve(origin: str, regions: dict[str, str]) -> None:
    """Forward until somebody ends the process."""
    app = forwarding_app()
    settings = regioncache.Settings(
        origin=origin,
        regions=[regioncache.Region(name, redis=url) for name, url in regions.items()],
        home_region=next(iter(regions)),
        secrets=[SECRET],
        sync=regioncache.Sync(intent_seconds=INTENT_SECONDS),
    )
    regioncache.setup(app, settings)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], dict(region.split("=", 1) for region in sys.argv[2:])))
