"""Applications and questions that the tests of reads share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support import eventually
from tests.support.world import Edge, Reply

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serving(**handlers: Handler) -> web.Application:
    """An application with one GET route per handler, under its name."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}", handler)
    return app


async def until_hit(edge: Edge, path: str, **options: Any) -> Reply:
    """Ask until the answer is a hit."""
    replies: list[Reply] = []

    async def is_hit() -> bool:
        replies.append(await edge.get(path, **options))
        return "; hit" in replies[-1].cache_status

    await eventually(is_hit)
    return replies[-1]


class Counted:
    """Counts the calls of its `handle`, which gives what `answer` makes of their number."""

    def __init__(self, answer: Callable[[int], web.StreamResponse]) -> None:
        self.calls = 0
        self._answer = answer

    async def handle(self, _request: web.Request) -> web.StreamResponse:
        self.calls += 1
        return self._answer(self.calls)


def fresh(text: str = "", **headers: str) -> web.Response:
    """A response that stays fresh for a minute; `headers` with underscores for hyphens."""
    fields = {"Cache-Control": "max-age=60"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(text=text, headers=fields)


@contextlib.asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on loopback; gives its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
