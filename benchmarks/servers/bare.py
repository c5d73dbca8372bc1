"""What everything is compared with: a handler that answers with bytes, and one that reads a body."""

from __future__ import annotations

from aiohttp import web

from .running import Handler, answering, read, run


def main() -> None:
    """Serve `/SIZE/NUMBER` and take `PUT /items/ID`."""
    app = web.Application()
    answering(app, _bytes)
    app.router.add_put("/items/{id}", read)
    run(app)


def _bytes(body: bytes) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    return handler


if __name__ == "__main__":
    main()
