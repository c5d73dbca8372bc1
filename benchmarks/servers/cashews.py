"""cashews, around what a handler answers with."""

from __future__ import annotations

import sys

from aiohttp import web
from cashews import Cache

from .running import Handler, answering, made, run


def main(address: str) -> None:
    """Serve `/SIZE/NUMBER` from the cache at `address`, as cashews spells it."""
    app = web.Application()
    cache = Cache()
    cache.setup(address)

    def caching(body: bytes) -> Handler:
        @cache(ttl="1d", key="bytes:{path}")  # type: ignore[untyped-decorator]
        async def load(path: str) -> bytes:
            return made(body)

        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=await load(request.path))

        return handler

    async def context(_app: web.Application) -> None:
        await cache.init()

    app.on_startup.append(context)
    answering(app, caching)
    run(app)


if __name__ == "__main__":
    main(sys.argv[2])
