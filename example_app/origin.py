"""The origin, in Tokyo: a small inventory service that knows nothing of any cache.

python -m example_app.origin --port 8001 --database inventory.sqlite
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from email.utils import formatdate
from pathlib import Path

from aiohttp import ETag, web

from example_app.documents import Answer, RefusedError, Write, entity_tag
from example_app.inventory import LIST_LIMIT, Inventory, Item
from example_app.serving import PortBusyError, listen, start_server, stop_event, stop_with_stdin

CACHE_CONTROL = "max-age=60"
PROBLEM_TYPE = "application/problem+json"
MEDIA_TYPES = {
    "PUT": frozenset({"application/json"}),
    "POST": frozenset({"application/json"}),
    "PATCH": frozenset({"application/merge-patch+json", "application/json"}),
}
KEY_LIMIT = 255

INVENTORY = web.AppKey("inventory", Inventory)
SERVED = web.AppKey("served", Counter[str])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
routes = web.RouteTableDef()


def make_origin(database: Path, *, seeds: int = 20) -> web.Application:
    """Return the origin's application; it opens `database` when it starts."""
    app = web.Application(middlewares=[problems])
    app[SERVED] = Counter()
    app.add_routes(routes)

    async def inventory(app: web.Application) -> AsyncIterator[None]:
        app[INVENTORY] = await Inventory.open(database, seeds=seeds)
        yield
        await app[INVENTORY].close()

    app.cleanup_ctx.append(inventory)
    return app


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal as a problem document (RFC 9457)."""
    try:
        return await handler(request)
    except RefusedError as refused:
        return _problem(refused.status, refused.title, refused.detail)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = _problem(error.status, error.reason, error.text or error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


@routes.get("/items")
async def get_items(request: web.Request) -> web.Response:
    """Answer with all items, as `{"items": [{"id": ..., "item": ...}]}`."""
    _count(request)
    items = await request.app[INVENTORY].items()
    # The stored text goes out as it is: a number that Python cannot hold stays what the client wrote.
    body = b'{"items":[' + b",".join(map(_listed, items)) + b"]}"
    return _representation(request, body, max((item.updated for item in items), default=0.0))


@routes.get("/items/{id:[A-Za-z0-9_-]{1,64}}")
async def get_item(request: web.Request) -> web.Response:
    """Answer with one item, or 304 when the client has it (RFC 9110 section 13)."""
    _count(request)
    item = await request.app[INVENTORY].item(request.match_info["id"])
    if item is None:
        raise RefusedError(404, "Not found", f"there is no {request.path}")
    return _representation(request, item.body, item.updated)


@routes.put("/items/{id:[A-Za-z0-9_-]{1,64}}")
@routes.patch("/items/{id:[A-Za-z0-9_-]{1,64}}")
@routes.delete("/items/{id:[A-Za-z0-9_-]{1,64}}")
async def change_item(request: web.Request) -> web.Response:
    """Replace, patch (RFC 7396) or delete an item."""
    _count(request)
    return await _apply(request, request.match_info["id"])


@routes.post("/items")
async def create_item(request: web.Request) -> web.Response:
    """Create an item under a new id."""
    _count(request)
    return await _apply(request, secrets.token_hex(8))


@routes.get("/stats")
async def get_stats(request: web.Request) -> web.Response:
    """Answer with the requests for items served since the start, by method, and the writes applied."""
    served = request.app[SERVED]
    effects = await request.app[INVENTORY].count_effects()
    stats = {"requests": served.total(), "methods": dict(served), "effects": effects}
    return web.json_response(stats, headers={"Cache-Control": "no-store"})


@routes.get("/effects")
async def get_effects(request: web.Request) -> web.Response:
    """Answer with the applied writes after `?after=SEQ`, oldest first, at most `LIST_LIMIT` in one answer."""
    effects = await request.app[INVENTORY].effects(after=_sequence(request.query.get("after", "0")))
    body = [asdict(effect) | {"body": effect.body.decode(errors="replace")} for effect in effects]
    return web.json_response({"effects": body, "limit": LIST_LIMIT}, headers={"Cache-Control": "no-store"})


async def _apply(request: web.Request, item_id: str) -> web.Response:
    write = Write(
        method=request.method,
        item_id=item_id,
        body=await _body(request),
        key=_idempotency_key(request),
        if_match=_tags(request.if_match),
        if_none_match=_tags(request.if_none_match),
    )
    return _answer(await request.app[INVENTORY].apply(write))


async def _body(request: web.Request) -> bytes:
    allowed = MEDIA_TYPES.get(request.method)
    if allowed is None:
        return b""
    if request.content_type not in allowed:
        raise RefusedError(415, "Unsupported media type", f"send one of: {', '.join(sorted(allowed))}")
    return await request.read()


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (key.isascii() and key.isprintable() and 0 < len(key) <= KEY_LIMIT):
        raise RefusedError(400, "Bad Idempotency-Key", f"a key has 1 to {KEY_LIMIT} printable ASCII characters")
    return key


def _tags(tags: tuple[ETag, ...] | None) -> tuple[str, ...] | None:
    return None if tags is None else tuple(tag.value for tag in tags)


def _sequence(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise RefusedError(400, "Bad query", "after is a number that is not negative")
    return int(text)


def _answer(answer: Answer) -> web.Response:
    if answer.body is None:
        response = web.Response(status=answer.status)
    else:
        response = web.Response(status=answer.status, body=answer.body, content_type="application/json")
        response.etag = entity_tag(answer.body)
    if answer.location is not None:
        response.headers["Location"] = answer.location
    if answer.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _representation(request: web.Request, body: bytes, updated: float) -> web.Response:
    tag = entity_tag(body)
    if _not_modified(request, tag, updated):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, content_type="application/json")
    response.etag = tag
    response.headers["Last-Modified"] = formatdate(updated, usegmt=True)
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response


def _not_modified(request: web.Request, tag: str, updated: float) -> bool:
    tags = _tags(request.if_none_match)
    if tags is not None:
        return "*" in tags or tag in tags
    since = request.if_modified_since
    return since is not None and int(updated) <= since.timestamp()


def _listed(item: Item) -> bytes:
    return b'{"id":"%s","item":%s}' % (item.item_id.encode(), item.body)


def _problem(status: int, title: str, detail: str) -> web.Response:
    body = {"title": title, "status": status, "detail": detail}
    return web.json_response(body, status=status, content_type=PROBLEM_TYPE)


def _count(request: web.Request) -> None:
    request.app[SERVED][request.method] += 1


async def _serve(options: argparse.Namespace, database: Path) -> None:
    stop = stop_event()
    server = await start_server(make_origin(database, seeds=options.seeds), listen(options.port))
    watch = asyncio.create_task(stop_with_stdin(stop)) if options.stop_with_stdin else None
    try:
        print(f"origin listens on {server.url}", flush=True)
        await stop.wait()
    finally:
        if watch is not None:
            watch.cancel()
        await server.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the origin alone; return the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="regioncache-origin-") as directory, suppress(KeyboardInterrupt):
        try:
            asyncio.run(_serve(options, options.database or Path(directory, "inventory.sqlite")))
        except PortBusyError as error:
            print(f"origin: {error}", file=sys.stderr)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m example_app.origin", description="Run the origin alone.")
    parser.add_argument("--port", type=int, default=8001, help="port on loopback, 0 for a free one (default 8001)")
    parser.add_argument("--database", type=Path, help="SQLite file (default: a temporary one)")
    parser.add_argument("--seeds", type=int, default=20, help="items of an empty database (default 20)")
    parser.add_argument("--stop-with-stdin", action="store_true", help="end when standard input, a pipe, closes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
