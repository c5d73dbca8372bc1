"""An origin whose writes never end: `python -m tests.idempotency_worker REDIS PORT WORK_SECONDS`."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web
from redis.asyncio import Redis

from aiohttp_regioncache import RedisStorage, origin_idempotency


async def _hang(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def serve(redis: str, port: int, work_seconds: float) -> None:
    """Answer until somebody ends the process."""
    app = web.Application()
    app.router.add_post("/orders", _hang)
    origin_idempotency(app, RedisStorage(Redis.from_url(redis)), work_seconds=work_seconds)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
