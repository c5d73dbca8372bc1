"""What waits for a bulk request: for how long, and what becomes of it when nobody takes it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from aiohttp_regioncache.origins.origins import Origins
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.rules import Bulk, BulkItem, BulkRequest
from aiohttp_regioncache.settings import Sync
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.queue import Claimed
from aiohttp_regioncache.sync.batcher import REQUESTS, Batcher
from aiohttp_regioncache.sync.leases import Claim, Leases
from aiohttp_regioncache.sync.outcome import Attempt
from aiohttp_regioncache.sync.sender import Sender
from aiohttp_regioncache.upstream import plain_upstream
from tests.store.tools import TOKYO
from tests.support import eventually
from tests.support.world import SECRET

SETTINGS = Sync(lease=10.0, timeout=1.0)
PARTITION = Partition(TOKYO, 0)
NO_STORE: Any = None  # nothing here has so short a lease that it is renewed


class _Bulks:
    """A batcher of requests of two writes at most, that are held until `gate` is set; `sent` are their numbers."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.sent: list[int] = []
        sender = Sender(Origins(), plain_upstream("http://origin.example"), Signer([SECRET]), "test", SETTINGS)
        self.batcher = Batcher(Bulk("/bulk", max_writes=2), Leases(NO_STORE, SETTINGS), sender, self._post)

    async def _post(self, _endpoint: str, _request: BulkRequest, count: int, _seconds: float) -> Attempt:
        self.sent.append(count)
        await self.gate.wait()
        return Attempt(200, body=b"[" + b",".join([b'{"status": 200}'] * count) + b"]")

    def hand_in(self, name: str, spare: float) -> asyncio.Future[Any]:
        """Hand in a write under a lease in which it may wait for `spare` seconds."""
        claim = Claim(PARTITION, Claimed(name, "fence"), time.monotonic() + SETTINGS.timeout + spare)
        return asyncio.ensure_future(self.batcher.send(claim, [BulkItem("PUT", name, (), b"{}", name)]))

    async def occupied(self) -> list[asyncio.Future[Any]]:
        """Have as many requests under way as may be."""
        handed = [self.hand_in(f"/{n}", 5.0) for n in range(2 * REQUESTS)]
        await eventually(lambda: len(self.sent) == REQUESTS)
        return handed


async def test_what_nobody_takes_in_time_is_not_sent_in_whichever_order_it_came() -> None:
    bulks = _Bulks()
    handed = await bulks.occupied()
    patient, short, shorter = bulks.hand_in("/patient", 5.0), bulks.hand_in("/short", 0.2), bulks.hand_in("/none", 0.05)
    began = time.monotonic()
    assert (await shorter).attempts == ()
    assert 0.03 < time.monotonic() - began < 0.19
    assert (await short).attempts == ()
    assert 0.18 < time.monotonic() - began < 2.0
    assert not patient.done()
    bulks.gate.set()
    replies = await asyncio.gather(*handed, patient)
    assert [len(reply.attempts) for reply in replies] == [1] * len(replies)
    assert sum(bulks.sent) == len(replies)


async def test_what_is_no_longer_waited_for_is_not_sent() -> None:
    bulks = _Bulks()
    handed = await bulks.occupied()
    gone, stays = bulks.hand_in("/gone", 5.0), bulks.hand_in("/stays", 5.0)
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    bulks.gate.set()
    await asyncio.gather(*handed, stays)
    assert sum(bulks.sent) == len(handed) + 1


async def test_what_has_been_given_up_leaves_room_for_what_comes_later() -> None:
    bulks = _Bulks()
    handed = await bulks.occupied()
    assert (await bulks.hand_in("/late", 0.01)).attempts == ()
    bulks.gate.set()
    await asyncio.gather(*handed)
    assert len((await bulks.hand_in("/after", 5.0)).attempts) == 1
