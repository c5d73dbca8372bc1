"""The sockets that workers share. They are the parent's, so that no connection is lost while a worker is replaced."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import sys
from typing import Final

from ..settings import Serve

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""
SPREADS: Final = sys.platform == "linux"
"""Whether the system spreads connections evenly over sockets with SO_REUSEPORT; elsewhere workers share one."""


class Listeners:
    """Bind the sockets for `count` workers, which listen on them themselves.

    On Linux each worker has a socket of its own on the same port, and the kernel spreads connections over those on
    which somebody listens; a unix socket is shared. Raises `OSError` for an address that cannot be had.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._sockets: dict[int, socket.socket] = {}
        self._address: tuple[str, int] | None = None
        self._made: os.stat_result | None = None

    @property
    def url(self) -> str:
        """Where it listens, for people and logs."""
        if self._serve.socket is not None:
            return f"unix:{self._serve.socket}"
        host, port = self._address or (self._serve.host, self._serve.port)
        scheme = "https" if self._serve.tls_cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def open(self, workers: int) -> None:
        """Bind what `workers` need. Raises `OSError` for an address that cannot be had, and names it."""
        try:
            for number in range(workers):
                self.of(number, workers)
        except OSError as error:
            raise OSError(f"cannot listen on {self.url}: {error.strerror or error}") from error

    def of(self, number: int, workers: int) -> list[socket.socket]:
        """The sockets for worker `number` of so many, bound when they are asked for first.

        There are several once there were more workers: to close a socket breaks the connections that wait in it.
        """
        if self._serve.socket is not None or not SPREADS:
            return [self._numbered(0)]
        there_are = max(workers, 1 + max(self._sockets, default=0))
        return [self._numbered(each) for each in range(number, there_are, workers)]

    def drop(self, number: int, workers: int) -> None:
        """Close the sockets of a worker that does not come up, so that its connections go to the others."""
        if workers > 1 and len(self._sockets) > 1:
            for each in [each for each in self._sockets if each % workers == number]:
                self._sockets.pop(each).close()

    def release(self) -> None:
        """Close every socket here: who connects is refused once the workers have closed theirs."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()

    def close(self) -> None:
        """Close every socket, and remove the file of a unix socket that is still ours."""
        self.release()
        if self._made is not None and self._serve.socket is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(self._serve.socket), self._made):
                    os.unlink(self._serve.socket)

    def _numbered(self, number: int) -> socket.socket:
        if number not in self._sockets:
            self._sockets[number] = self._bind()
        return self._sockets[number]

    def _bind(self) -> socket.socket:
        if self._serve.socket is not None:
            return self._bind_unix(self._serve.socket)
        host, port = self._address or (self._serve.host, self._serve.port)
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if SPREADS:
                # The first asks for the port alone: another server that shares it would get half of the connections.
                if self._address is None:
                    _refuse_taken(family, address)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
        self._address = (host, bound.getsockname()[1])
        bound.setblocking(False)
        return bound

    def _bind_unix(self, path: str) -> socket.socket:
        _remove_stale(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(path)
        except BaseException:
            bound.close()
            raise
        self._made = os.stat(path)
        bound.setblocking(False)
        return bound


def _refuse_taken(family: int, address: tuple[object, ...]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _remove_stale(path: str) -> None:
    """Remove a socket file on which nobody listens any more. Raises `OSError` when somebody does."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # it would wait while as many wait as may
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise FileExistsError(f"another server listens on {path}")


def tls_context(serve: Serve) -> ssl.SSLContext | None:
    """Read certificate and key; None without TLS. Raises `OSError` or `ssl.SSLError` for files that are none."""
    if serve.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(serve.tls_cert, serve.tls_key)
    return context
