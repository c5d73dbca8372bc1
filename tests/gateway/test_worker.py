"""A worker and the way to its parent."""

from __future__ import annotations

import asyncio
import socket

from aiohttp_regioncache.gateway import worker


async def test_a_parent_that_is_killed_before_it_has_heard_all_has_gone() -> None:
    """What lies unread when a socket is closed resets it: the worker must stop gracefully all the same."""
    ours, theirs = socket.socketpair()
    stopping = asyncio.Event()
    waiting = asyncio.ensure_future(worker._is_succeeded(theirs.detach(), stopping))
    await asyncio.to_thread(ours.recv, 1)  # the rest of what it says stays unread
    ours.close()
    assert await waiting is False
    assert stopping.is_set()
