"""A process that does nothing but replay writes: `python -m tests.sync.worker REDIS ORIGIN`."""

from __future__ import annotations

import asyncio
import sys

from tests.store.tools import opened
from tests.sync.tools import QUICK, looping


async def work(redis: str, origin: str) -> None:
    """Replay until somebody ends the process."""
    async with opened(redis) as store, looping(store, origin, **QUICK):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
