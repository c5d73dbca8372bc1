"""aiocache, around what a handler answers with."""

from __future__ import annotations

import sys

import aiocache
from aiocache.serializers import NullSerializer
from aiohttp import web

from .running import Handler, answering, made, run

_SECONDS = 86_400


def main(kind: str, redis_port: str, database: str) -> None:
    """Serve `/SIZE/NUMBER`, from `memory` or `redis`."""
    app = web.Application()

    def caching(body: bytes) -> Handler:
        if kind == "memory":
            cached = aiocache.cached(ttl=_SECONDS, cache=aiocache.Cache.MEMORY)
        else:
            cached = aiocache.cached(
                ttl=_SECONDS,
                cache=aiocache.Cache.REDIS,
                serializer=NullSerializer(),
                endpoint="127.0.0.1",
                port=int(redis_port),
                db=int(database),
                timeout=5,
            )

        @cached  # type: ignore[untyped-decorator]
        async def load(_path: str) -> bytes:
            return made(body)

        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=await load(request.path))

        return handler

    answering(app, caching)
    run(app)


if __name__ == "__main__":
    main(*sys.argv[2:])
