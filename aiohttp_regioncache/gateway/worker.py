"""One process of the gateway: it serves an application on a socket of its parent's until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from ..control.health import Health
from ..responses import heard_if
from ..settings import Serve
from .access_log import AccessWriter, access_log_to, access_logger
from .listeners import BACKLOG, tls_context
from .protocol import GatewayRunner, Ways

logger = logging.getLogger(__name__)

READY: Final = b"ready\n"
"""What a worker says to its parent when it takes connections."""
SUCCEEDED: Final = b"succeeded\n"
"""What a parent says to a worker when another one listens on its sockets."""
LINGER_SECONDS: Final = 1.0
"""How long connections that wait for their next request, or are in their handshake, are kept while a worker stops."""
GC_THRESHOLDS: Final = (50_000, 20, 100)
"""How many objects more make a garbage collection due, and how many of those one of a larger part."""
_POLL_SECONDS: Final = 0.02


async def work(
    app: web.Application,
    serve: Serve,
    health: Health,
    ways: Callable[[], Ways] | None,
    parent: int,
    listening: Sequence[socket.socket],
) -> None:
    """Serve until SIGTERM comes, the parent has gone, or says that others have taken over.

    `ways` gives those of the started application, by which hits and misses are answered fast; None: they are not.
    `parent` is the descriptor of a socket to the parent. Stopping goes in steps, so that no request is lost: the
    readiness says 503 for `serve.drain` seconds, unless others have taken over; no more connections are taken; each
    answer ends its connection; requests that run get `serve.stop_timeout` seconds.
    """
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    _close_connections(app, stopping)
    writer = AccessWriter(access_log_to(sys.stdout), serve.access_log) if serve.access_log != "off" else None
    runner = _runner(app, serve, ways, writer)
    try:
        await runner.setup()
        tls = tls_context(serve)
        sites = [web.SockSite(runner, each, ssl_context=tls, backlog=BACKLOG) for each in listening]
        for site in sites:
            await site.start()
        _settle_memory()
        is_succeeded = await _is_succeeded(parent, stopping)
        if runner.gate is not None:
            runner.gate.is_open = False
        if not is_succeeded:
            health.stopping()
            await asyncio.sleep(serve.drain)
        await stop_listening(sites, listening)
        await let_connections_go(runner, has_tls=tls is not None)
    finally:
        await runner.cleanup()
        if writer is not None:
            writer.close()


def _settle_memory() -> None:
    """Leave what there is after the start out of garbage collections, and have fewer: slow answers are due to them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _runner(
    app: web.Application, serve: Serve, ways: Callable[[], Ways] | None, writer: AccessWriter | None
) -> GatewayRunner:
    if writer is None:
        return GatewayRunner(app, ways, None, access_log=None, shutdown_timeout=serve.stop_timeout)
    return GatewayRunner(
        app,
        ways,
        writer,
        access_log=logger,
        access_log_class=access_logger(writer),
        shutdown_timeout=serve.stop_timeout,
    )


async def _is_succeeded(parent: int, stopping: asyncio.Event) -> bool:
    """Say that this worker is ready; return when it is to stop, and whether others have taken over."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=parent))
    try:
        writer.write(READY)
        told = asyncio.ensure_future(stopping.wait())
        heard = asyncio.ensure_future(reader.readline())
        await asyncio.wait((told, heard), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        stopping.set()
        if not heard.done():
            heard.cancel()
            return False
        said = b"" if heard.exception() is not None else heard.result()  # it may have gone with a reset
        if not said:
            logger.warning("the parent has gone; stopping")
        return said == SUCCEEDED
    finally:
        writer.close()


def _close_connections(app: web.Application, stopping: asyncio.Event) -> None:
    """End a connection with its answer once the worker stops."""

    @heard_if(stopping.is_set)
    async def end_with_answer(_request: web.Request, response: web.StreamResponse) -> None:
        if stopping.is_set():
            response.force_close()
            response.headers["Connection"] = "close"

    app.on_response_prepare.append(end_with_answer)


async def stop_listening(sites: Sequence[web.BaseSite], listening: Sequence[socket.socket]) -> None:
    """Take no more connections, and serve those that have been taken from the `listening` sockets of `sites`.

    asyncio drops without a word a connection whose transport is not made yet when its server is closed: that is done
    a turn of the loop after it has been accepted.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for each in listening:
            loop.remove_reader(each)
        await asyncio.sleep(0)
    for site in sites:
        await site.stop()


async def let_connections_go(runner: web.AppRunner, *, has_tls: bool) -> None:
    """Wait for connections to end by themselves: closing one could meet a request that is on its way.

    A new one counts from the next turn of the loop, and with TLS only once its handshake is over.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    least = started + (LINGER_SECONDS if has_tls else _POLL_SECONDS)
    while (now := loop.time()) < started + LINGER_SECONDS:
        if now >= least and not (runner.server is not None and runner.server.connections):
            return
        await asyncio.sleep(_POLL_SECONDS)
