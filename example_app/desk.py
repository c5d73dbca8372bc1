"""The page to try it in a browser, and the desk behind it that sends requests over a user's own ways."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import aiohttp
import msgspec
from aiohttp import web

from example_app.distance import ORIGIN_REGION
from example_app.exchange import exchange
from example_app.ways import Way
from example_app.world import city

PAGE = Path(__file__).with_name("page.html")
NO_STORE = {"Cache-Control": "no-store"}
RESOURCES = r"^/(items|_regioncache/writes)/[A-Za-z0-9_-]{1,64}$"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request that the page wants sent: for a user in `country`, through the nearest edge or straight."""

    country: str
    way: Literal["edge", "straight"]
    method: Literal["GET", "PUT", "DELETE"]
    path: Annotated[str, msgspec.Meta(pattern=RESOURCES)]
    body: str | None = None


def add_desk(app: web.Application, ways: Mapping[str, Way]) -> web.Application:
    """Put the page at `/` and its desk below `/demo/` in front of all that `app` does; return it."""
    desk = {
        ("GET", "/"): _page,
        ("HEAD", "/"): _page,
        ("GET", "/demo/world"): lambda request: _world(ways),
        ("POST", "/demo/send"): lambda request: _send(request, ways),
    }

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await desk.get((request.method, request.path), handler)(request)

    app.middlewares.insert(0, middleware)
    return app


async def _page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(PAGE, headers=NO_STORE)


async def _world(ways: Mapping[str, Way]) -> web.StreamResponse:
    users = [
        {
            "country": way.user.country,
            "name": way.user.name,
            "region": way.user.region,
            "city": city(way.user.region),
            "lastMile": way.user.last_mile_ms,
            "straight": way.user.straight_ms,
        }
        for way in ways.values()
    ]
    return web.json_response({"origin": city(ORIGIN_REGION), "users": users}, headers=NO_STORE)


async def _send(request: web.Request, ways: Mapping[str, Way]) -> web.StreamResponse:
    # A page of another site cannot send this type without asking first (CORS preflight).
    if request.content_type != "application/json":
        return _refusal(415, "send application/json")
    try:
        errand = msgspec.json.decode(await request.read(), type=Errand)
        way = ways[errand.country]
    except msgspec.DecodeError as error:
        return _refusal(400, str(error))
    except KeyError:
        return _refusal(400, f"country is one of {', '.join(ways)}")
    return await _sent(errand, way.edge if errand.way == "edge" else way.straight)


async def _sent(errand: Errand, client: aiohttp.ClientSession) -> web.StreamResponse:
    body = None if errand.body is None else errand.body.encode()
    reply = await exchange(client, errand.method, errand.path, body=body)
    if reply.status == 0:
        return _refusal(502, f"no answer: {reply.body.decode()}")
    answer = {
        "status": reply.status,
        "milliseconds": reply.milliseconds,
        "cacheStatus": reply.cache_status,
        "location": reply.location,
        "body": reply.body.decode(errors="replace"),
    }
    return web.json_response(answer, headers=NO_STORE)


def _refusal(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status, headers=NO_STORE)
