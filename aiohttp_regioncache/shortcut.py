"""What is answered by a plan is answered before the router, where nobody could tell the difference.

The application's own handler is wrapped: routing, and what aiohttp does around middlewares, cost as much as a hit does.
A plan that was made while our middleware was the outermost one takes the place of both: the same method, host and path
lead to the same route. Everything here that aiohttp does not promise to keep stands in this file. It was written for
the sources whose digest is `FINGERPRINT`; beside others, and for applications that handle requests in another way, it
steps aside.
"""

from __future__ import annotations

import logging
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
_RELIED_ON: Final = (
    web.Application._handle,
    web.Application._make_handler,
    web.AppRunner._make_server,
    web.Request._prepare_hook,
    web.UrlMappingMatchInfo,
)


def fingerprint() -> str:
    """A digest of the sources of aiohttp that this file relies on; empty when they are not there."""
    return digest_of(_RELIED_ON)


def take(app: web.Application, edge: Edge) -> bool:
    """Answer by an edge's plans before the router of an application does anything; whether that can be done.

    Call it before the application's handler is made: at the latest while it starts.
    """
    if type(app)._handle is not web.Application._handle or "_handle" in vars(app):
        return False
    if fingerprint() != FINGERPRINT:
        logger.warning(
            "aiohttp %s is not %s, for which answers before the router were made: they come behind it, and cost more",
            aiohttp.__version__,
            MADE_FOR,
        )
        return False
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

    vars(app)["_handle"] = handle_at_once
    return True


def give_back(app: web.Application) -> None:
    """Let an application handle its requests as it did before."""
    vars(app).pop("_handle", None)
