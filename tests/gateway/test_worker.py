"""A worker and the way to its parent."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

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


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_has_been_taken_is_served_whenever_it_was(turns: int) -> None:
    """Whatever the loop has done of it by then; one that waits to be taken is left to others."""

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    shared = socket.create_server(("127.0.0.1", 0))
    listening = shared.dup()  # the worker's of the two that are open
    site = web.SockSite(runner, listening)
    await site.start()
    with socket.create_connection(shared.getsockname()) as client:
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        for _ in range(turns):
            await asyncio.sleep(0)
        await worker.stop_listening([site], [listening])
        shared.settimeout(0)
        try:
            taken, _ = shared.accept()
        except BlockingIOError:  # nobody waits
            answer = await asyncio.to_thread(client.recv, 65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), turns
        else:
            taken.close()
            assert turns < 2
    shared.close()
    await runner.cleanup()
