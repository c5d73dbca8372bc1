"""How the servers in Python run: one process, no access log, until a signal ends it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from ..bodies import SIZES, body_at
from ..processes import HOST

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def told() -> list[str]:
    """What the command line says after the port."""
    return sys.argv[2:]


def run(app: web.Application) -> None:
    """Serve an application on the port of the command line."""
    web.run_app(app, host=HOST, port=int(sys.argv[1]), access_log=None, print=None)


def answering(app: web.Application, make: Callable[[bytes], Handler]) -> None:
    """Add a handler for `/SIZE` of every size; `make` is given what it has to answer with."""
    for size in SIZES:
        app.router.add_get(f"/{size}", make(body_at(f"/{size}")))


async def read(request: web.Request) -> web.Response:
    """Take a write, and do no more than read it."""
    await request.read()
    return web.Response(status=202)
