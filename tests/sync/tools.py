"""What the tests of the sync loop share: a loop over a region, and what became of writes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp_regioncache.origins.origins import Origins
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.rules import Bulk
from aiohttp_regioncache.settings import Settings, Sync
from aiohttp_regioncache.store import queue
from aiohttp_regioncache.store.accepting import Acceptance
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.loop import SyncLoop
from aiohttp_regioncache.sync.outlets import OneOutlet, Outlet
from aiohttp_regioncache.sync.sender import Sender
from aiohttp_regioncache.upstream import plain_upstream
from tests.store.tools import TOKYO, accept
from tests.support import eventually
from tests.support.world import SECRET

QUICK: dict[str, Any] = {
    "lease": 1.0, "timeout": 0.7, "poll": 0.05, "retry_base": 0.01, "retry_cap": 0.05, "breaker_seconds": 0.1,
}  # fmt: skip
PATIENT: dict[str, Any] = {**QUICK, "lease": 60.0, "timeout": 10.0}


@contextlib.asynccontextmanager
async def looping(
    store: RegionStore, origin: str, *, start: bool = True, bulks: Mapping[str, Bulk] | None = None, **changes: Any
) -> AsyncIterator[SyncLoop]:
    """A sync loop over a region; `changes` to `PATIENT` settings, `bulks` by endpoint.

    Without `start` a test turns it by hand.
    """
    sync = Sync(**PATIENT | changes)
    settings = Settings(origin=origin, regions=(Region(TOKYO, redis=store.address),), secrets=(SECRET,), sync=sync)
    async with Origins() as origins:
        sender = Sender(origins, plain_upstream(origin), Signer([SECRET]), "test", sync)
        loop = SyncLoop(store, settings, OneOutlet(Outlet(sender, bulks)))
        if start:
            loop.start()
        try:
            yield loop
        finally:
            await loop.stop()


async def accept_all(store: RegionStore, writes: list[Acceptance]) -> None:
    """Accept writes in their order."""
    for write in writes:
        await accept(store, write)


async def status_of(store: RegionStore, write: Acceptance) -> dict[str, str]:
    """The status of a write."""
    return await queue.status(store, store.partition(write.target), write.record.id) or {}


async def state_of(store: RegionStore, write: Acceptance) -> str:
    """What a write has come to, with the reason if there is one: `synced`, `rejected: status 400`, `pending`."""
    status = await status_of(store, write)
    ended = status["state"] not in ("pending", "synced")
    return f"{status['state']}: {status['reason']}" if ended else status["state"]


async def drained(store: RegionStore, *, within: float = 15.0) -> None:
    """Wait until nothing is pending in a region."""

    async def is_empty() -> bool:
        depths = [await queue.depth(store, partition) for partition in store.partitions]
        return not any(depth.writes or depth.due or depth.bytes for depth in depths)

    await eventually(is_empty, within=within)
