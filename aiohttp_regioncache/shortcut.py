"""What is answered by a plan is answered before the router, where nobody could tell the difference.

The application's own handler is wrapped: routing, and what aiohttp does around middlewares, cost as much as a hit does.
A plan that was made while our middleware was the outermost one takes the place of both: the same method, host and path
lead to the same route. Everything here that aiohttp does not promise to keep stands in this file. It was written for
the sources whose digest is `FINGERPRINT`; beside others, and for applications that handle requests in another way, it
steps aside.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp.web_urldispatcher import Domain, MaskDomain, MatchedSubAppResource, PrefixedSubAppResource, UrlDispatcher

from .middleware import LOOKED_FOR, Edge
from .reads.misses import MissPlan
from .sources import digest_of

logger = logging.getLogger(__name__)

FINGERPRINT: Final = "9f6d544e1b0f9d21"
"""What `fingerprint` gives for the aiohttp that this was written for."""
MADE_FOR: Final = "3.14.5"
"""The version of aiohttp that this was written for."""
_HANDLE: Final = web.Application._handle
_RESOURCES: Final = (web.PlainResource, web.DynamicResource, web.StaticResource)
_MOUNTS: Final = (PrefixedSubAppResource, MatchedSubAppResource)
_RULES: Final = (type(None), Domain, MaskDomain)
_RELIED_ON: Final = (
    _HANDLE,
    UrlDispatcher,
    Domain,
    MaskDomain,
    *_RESOURCES,
    *_MOUNTS,
    web.Application._make_handler,
    web.AppRunner._make_server,
    web.Request._prepare_hook,
    web.UrlMappingMatchInfo,
)


@functools.cache
def fingerprint() -> str:
    """A digest of the sources of aiohttp that this file relies on; empty when they are not there."""
    return digest_of(_RELIED_ON)


def answer_before_router(app: web.Application, edge: Edge, middleware: Middleware) -> Callable[[], None]:
    """Answer by an edge's plans before the router of an application, where that can be done; gives what undoes it.

    `middleware` is the one that makes the plans: nothing is done while another one comes before it. Call it before the
    application's handler is made: at the latest while it starts.
    """
    is_aiohttps = type(app)._handle is _HANDLE and "_handle" not in vars(app)
    if not is_aiohttps or fingerprint() != FINGERPRINT:
        why = f"aiohttp {aiohttp.__version__} is not {MADE_FOR}" if is_aiohttps else "somebody has changed its handling"
        logger.warning("hits and planned writes come behind the application's router, and cost more: %s", why)
        return lambda: None
    # Found out once: nothing is added to an application that is in use.
    may_come_first: bool | None = None
    is_only = False

    async def handle_at_once(request: web.Request) -> web.StreamResponse:
        nonlocal may_come_first, is_only
        handle = type(app)._handle  # somebody who watches it may have come after us
        if may_come_first is None:
            may_come_first = middleware in app.middlewares[:1] and _routes_by_target(app)
            is_only = len(app.middlewares) == 1
        if may_come_first and handle is _HANDLE:
            plan = edge.find(request)
            match = None if plan is None else plan.match
            if isinstance(plan, MissPlan) and match is not None and not (is_only and len(match.apps) == 1):
                match = None  # what a route leads to does not come next
            if plan is not None and match is not None:
                # Whoever sends the answer, or logs it, asks for it.
                request._match_info = match = _own(match)
                answer = await edge.follow(plan, request, match.handler)
                if answer is not None:
                    return answer
                plan = None
            request[LOOKED_FOR] = plan
        return await handle(app, request)

    def undo() -> None:
        if vars(app).get("_handle") is handle_at_once:
            del vars(app)["_handle"]

    vars(app)["_handle"] = handle_at_once
    return undo


def _routes_by_target(app: web.Application) -> bool:
    """Whether nothing but method, host and path decides who answers a request, here and in what lies below."""
    return type(app.router) is UrlDispatcher and all(map(_is_by_target, app.router.resources()))


def _is_by_target(resource: web.AbstractResource) -> bool:
    if isinstance(resource, PrefixedSubAppResource):
        rule = resource._rule if isinstance(resource, MatchedSubAppResource) else None
        return type(resource) in _MOUNTS and type(rule) in _RULES and _routes_by_target(resource._app)
    return type(resource) in _RESOURCES


def _own(match: web.UrlMappingMatchInfo) -> web.UrlMappingMatchInfo:
    """A request's own: whoever hears of the answer may write into it, but for the applications."""
    own = web.UrlMappingMatchInfo.__new__(web.UrlMappingMatchInfo)  # whose __init__ would set everything twice
    own.update(match)
    own._route = match._route
    own._apps = match._apps
    own._current_app = match._current_app
    own._frozen = True
    return own
