"""The package as a plug-in: a handler that says how long its answer is fresh, and one whose writes go behind."""

from __future__ import annotations

import sys

from aiohttp import web

import aiohttp_regioncache as regioncache

from .running import Handler, answering, read, run


def main(settings: str) -> None:
    """Serve `/SIZE/NUMBER` and take `PUT /items/ID` as the file `settings` says."""
    app = web.Application()
    answering(app, _cacheable)
    app.router.add_put("/items/{id}", read)
    regioncache.setup(app, regioncache.load(settings))
    run(app)


def _cacheable(body: bytes) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Cache-Control": "max-age=86400"})

    return handler


if __name__ == "__main__":
    main(sys.argv[2])
