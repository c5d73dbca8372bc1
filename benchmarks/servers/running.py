"""How the servers in Python run: one process, no access log, until a signal ends it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from ..bodies import SIZES, body_at, paths
from ..processes import HOST

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


MADE_PATH = "/made"
"""Where a server tells how often it has made an answer, by the length of the body: that of a cache stays the same."""
_made = 0


def made(body: bytes) -> bytes:
    """Make an answer, and count that."""
    global _made
    _made += 1
    return body


async def _tell(_request: web.Request) -> web.Response:
    return web.Response(body=b"." * _made)


def run(app: web.Application) -> None:
    """Serve an application on the port of the command line."""
    web.run_app(app, host=HOST, port=int(sys.argv[1]), access_log=None, print=None)


def answering(app: web.Application, make: Callable[[bytes], Handler]) -> None:
    """Add a handler for every path of every size; `make` is given what it has to answer with."""
    for size in SIZES:
        for path in paths(size):
            app.router.add_get(path, make(body_at(path)))
    app.router.add_get(MADE_PATH, _tell)


async def read(request: web.Request) -> web.Response:
    """Take a write, and do no more than read it."""
    await request.read()
    return web.Response(status=202)
