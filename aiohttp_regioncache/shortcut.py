"""What is answered by a plan is answered before the router, where nobody could tell the difference.

The application's own handler is wrapped: routing, and what aiohttp does around middlewares, cost as much as a hit does.
A plan that was made while our middleware was the outermost one takes the place of both: the same method, host and path
lead to the same route. Everything here that aiohttp does not promise to keep stands in this file. It was written for
the sources whose digest is `FINGERPRINT`; beside others, and for applications that handle requests in another way, it
steps aside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import web

from .middleware import TRIED, Edge
from .sources import digest_of

logger = logging.getLogger(__name__)

FINGERPRINT: Final = "c834d85c251f9a57"
"""What `fingerprint` gives for the aiohttp that this was written for."""
MADE_FOR: Final = "3.14.5"
"""The version of aiohttp that this was written for."""
_HANDLE: Final = web.Application._handle
_RELIED_ON: Final = (
    _HANDLE,
    web.Application._make_handler,
    web.AppRunner._make_server,
    web.Request._prepare_hook,
    web.UrlMappingMatchInfo,
)


def fingerprint() -> str:
    """A digest of the sources of aiohttp that this file relies on; empty when they are not there."""
    return digest_of(_RELIED_ON)


def answer_before_router(app: web.Application, edge: Edge) -> Callable[[], None]:
    """Answer by an edge's plans before the router of an application, where that can be done; gives what undoes it.

    Call it before the application's handler is made: at the latest while it starts.
    """
    is_aiohttps = type(app)._handle is _HANDLE and "_handle" not in vars(app)
    if not is_aiohttps or fingerprint() != FINGERPRINT:
        why = f"aiohttp {aiohttp.__version__} is not {MADE_FOR}" if is_aiohttps else "somebody has changed its handling"
        logger.warning("hits and planned writes come behind the application's router, and cost more: %s", why)
        return lambda: None
    handle = app._handle

    async def handle_at_once(request: web.Request) -> web.StreamResponse:
        plan = edge.find(request)
        if plan is not None and plan.match is not None:
            answer = await edge.follow(plan, request)
            if answer is not None:
                request._match_info = plan.match  # whoever sends the answer, or logs it, asks for it
                return answer
        request[TRIED] = True
        return await handle(request)

    def undo() -> None:
        if vars(app).get("_handle") is handle_at_once:
            del vars(app)["_handle"]

    vars(app)["_handle"] = handle_at_once
    return undo
