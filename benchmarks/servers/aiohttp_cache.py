"""aiohttp-cache, in front of a handler."""

from __future__ import annotations

import sys

from aiohttp import web
from aiohttp_cache import RedisConfig, cache, setup_cache

from .running import Handler, answering, made, run


def main(kind: str, redis_port: str, database: str) -> None:
    """Serve `/SIZE/NUMBER`, from `memory` or `redis`."""
    app = web.Application()
    config = RedisConfig(host="127.0.0.1", port=int(redis_port), db=int(database)) if kind == "redis" else None
    setup_cache(app, cache_type=kind, backend_config=config)

    def caching(body: bytes) -> Handler:
        @cache(expires=86_400)  # type: ignore[untyped-decorator]
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(body=made(body))

        return handler  # type: ignore[no-any-return]

    answering(app, caching)
    run(app)


if __name__ == "__main__":
    main(*sys.argv[2:])
