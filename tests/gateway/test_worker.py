"""A worker and the way to its parent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache.gateway import worker
from tests.gateway.test_tls import Authority


async def test_a_parent_that_is_killed_before_it_has_heard_all_has_gone() -> None:
    """What lies unread when a socket is closed resets it: the worker must stop gracefully all the same."""
    ours, theirs = socket.socketpair()
    stopping = asyncio.Event()
    waiting = asyncio.ensure_future(worker._is_succeeded(theirs.detach(), stopping))
    await asyncio.to_thread(ours.recv, 1)  # the rest of what it says stays unread
    ours.close()
    assert await waiting is False
    assert stopping.is_set()


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


@contextlib.asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[socket.socket, Callable[[], Any]]]:
    """A server on a socket that others have as well: that socket, and what stops the server as a worker does."""
    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, shutdown_timeout=10)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as shared:
        shared.settimeout(0)
        ours = shared.dup()
        site = web.SockSite(runner, ours, ssl_context=tls)
        await site.start()

        async def stop() -> None:
            await worker.stop_listening([site], [ours])
            await worker.let_connections_go(runner, has_tls=tls is not None)
            await runner.cleanup()

        yield shared, stop


def is_waiting(shared: socket.socket) -> bool:
    """Whether a connection is left to others."""
    try:
        taken, _ = shared.accept()
    except BlockingIOError:
        return False
    taken.close()
    return True


REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_has_been_taken_is_served_whenever_it_was(turns: int) -> None:
    """Whatever the loop has done of it by then; one that waits to be taken is left to others."""
    async with listening() as (shared, stop):
        with socket.create_connection(shared.getsockname(), timeout=10) as client:
            client.sendall(REQUEST)
            for _ in range(turns):
                await asyncio.sleep(0)
            await stop()
            if is_waiting(shared):
                assert turns < 2
            else:
                answer = await asyncio.to_thread(client.recv, 65_536)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), turns


@pytest.mark.parametrize("turns", range(2, 6))
async def test_a_connection_that_is_in_its_handshake_is_served(tmp_path: Path, turns: int) -> None:
    authority = Authority(tmp_path)
    trusting = ssl.create_default_context(cafile=authority.file)
    async with listening(authority.context("127.0.0.1")) as (shared, stop):
        with socket.create_connection(shared.getsockname(), timeout=10) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            stopping = asyncio.ensure_future(stop())
            assert await asyncio.wait([stopping], timeout=0.1) == (set(), {stopping})
            assert not is_waiting(shared)

            def ask() -> bytes:
                with trusting.wrap_socket(client, server_hostname="127.0.0.1") as secure:
                    secure.sendall(REQUEST)
                    return secure.recv(65_536)

            assert (await asyncio.to_thread(ask)).startswith(b"HTTP/1.1 200 OK\r\n")
            await stopping
