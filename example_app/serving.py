"""Starting and stopping aiohttp servers inside one event loop."""

import asyncio
import errno
import signal
import socket
import sys
from dataclasses import dataclass

from aiohttp import web

SHUTDOWN_SECONDS = 1.0


class PortBusyError(Exception):
    """Say that a port is taken by another program."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is busy: another program listens there")
        self.port = port


@dataclass(frozen=True, slots=True)
class Server:
    """A running application on loopback."""

    runner: web.AppRunner
    port: int

    @property
    def url(self) -> str:
        """Return the base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        """Stop listening and run the application's clean-up."""
        await self.runner.cleanup()


def listen(port: int = 0) -> socket.socket:
    """Take a port of loopback, 0 for a free one; connections wait from now on. Raises PortBusyError."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortBusyError(port) from None
        raise


async def start_server(app: web.Application, listener: socket.socket | None = None) -> Server:
    """Serve `app` on a socket of `listen`, by default on a free port."""
    listener = listener or listen()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
    except BaseException:
        await runner.cleanup()
        listener.close()
        raise
    return Server(runner, listener.getsockname()[1])


def stop_event() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


async def stop_with_stdin(stop: asyncio.Event) -> None:
    """Set `stop` when the other end of standard input, a pipe, is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while not reader.at_eof():
        await reader.read(1024)
    stop.set()
