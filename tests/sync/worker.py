"""A process that does nothing but replay writes: `python -m tests.sync.worker REDIS ORIGIN [BULK_ENDPOINT]`."""

from __future__ import annotations

import asyncio
import sys

from aiohttp_regioncache.rules import Bulk
from tests.store.tools import opened
from tests.sync.tools import QUICK, looping


async def work(redis: str, origin: str, *endpoints: str) -> None:
    """Replay until somebody ends the process."""
    bulks = {endpoint: Bulk(endpoint) for endpoint in endpoints}
    async with opened(redis) as store, looping(store, origin, bulks=bulks, **QUICK):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
