"""The origin of the fault campaign: it logs every effect, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from tests.campaigns.rules import BULK_ENDPOINT, NUMBER_HEADER, kind_of, shelf_of
from tests.support.servers import free_port

DOWN: Final = "down"
SLOW: Final = "slow"
TOO_MANY: Final = "429"
BROKEN: Final = "500"
PARTIAL_BULK: Final = "partial-bulk"
LOST_ANSWER: Final = "lost-answer"
SIGNATURE: Final = "X-From"
"""A field of every answer of the origin: an edge's own 500 lacks it."""
SLOW_SECONDS: Final = (0.5, 3.0)
_WORK_SECONDS: Final = (0.0, 0.01)
_READ_SECONDS: Final = (0.0, 0.02)
_LONG_READ_SECONDS: Final = (0.1, 0.4)
_RETRY_AFTER: Final = {"Retry-After": "1"}


class Item(msgspec.Struct, frozen=True):
    """A write as it arrives, alone or in a bulk request."""

    method: str
    path: str
    number: int
    principal: str
    key: str
    body: bytes
    edge: str


class Effect(msgspec.Struct, frozen=True):
    """A write that was applied: as the `seq`-th of all, at a monotonic time."""

    seq: int
    at: float
    path: str
    number: int
    principal: str
    method: str
    key: str
    edge: str


class Origin:
    """An HTTP server over JSON documents by path, with an address for each edge by which it knows who asks.

    `idempotent`: it reserves the key before the work, answers 409 with `Retry-After` meanwhile and the same answer
    afterwards. `faults` gives each misbehaviour the probability with which it meets a request. `between_items` is
    awaited with the edge's name after the first of several items of a bulk request.
    """

    def __init__(self, rng: random.Random, *, idempotent: bool) -> None:
        self.documents: dict[str, dict[str, Any]] = defaultdict(dict)
        self.effects: list[Effect] = []
        self.applied: dict[str, dict[int, int]] = defaultdict(dict)
        """By path and number, the place of the first effect in the order of all."""
        self.again: dict[str, set[int]] = defaultdict(set)
        """By path, the numbers that were applied more than once."""
        self.deleted: dict[str, int] = {}
        self.keys: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.faults: dict[str, float] = {}
        self.met: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.overlaps: list[str] = []
        self.on_effect: Callable[[Effect], None] | None = None
        self.between_items: Callable[[str], Awaitable[None]] | None = None
        self._rng = rng
        self._idempotent = idempotent
        self._answers: dict[str, dict[str, Any] | None] = {}
        self._in_work: dict[str, int] = {}
        self._edges: dict[int, str] = {}
        self._runner: web.AppRunner | None = None
        self._sites: list[web.TCPSite] = []

    async def start(self, edges: list[str]) -> dict[str, str]:
        """Listen; returns the address for each edge."""
        app = web.Application()
        app.router.add_post(BULK_ENDPOINT, self._bulk)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_sign)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._edges = {free_port(): name for name in edges}
        await self.come_back()
        return {name: f"http://127.0.0.1:{port}" for port, name in self._edges.items()}

    async def close(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def go_down(self) -> None:
        """Refuse connections; those that exist break at the next request."""
        self.faults[DOWN] = 1.0
        for site in self._sites:
            await site.stop()
        self._sites = []

    async def come_back(self) -> None:
        """End `go_down`."""
        self.faults.pop(DOWN, None)
        assert self._runner is not None
        if not self._sites:
            self._sites = [web.TCPSite(self._runner, "127.0.0.1", port) for port in self._edges]
            for site in self._sites:
                await site.start()

    def _edge(self, request: web.Request) -> str:
        """The edge that has the address which a request came to."""
        sockname = request.transport.get_extra_info("sockname") if request.transport is not None else None
        return self._edges[sockname[1]] if sockname else ""

    def _meets(self, fault: str) -> bool:
        met = self._rng.random() < self.faults.get(fault, 0.0)
        self.met[fault] += met
        return met

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests["reads" if request.method == "GET" else "writes"] += 1
        if self._meets(DOWN):
            return _break(request)
        if request.method == "GET":
            return await self._read(request)
        if refused := self._refused():
            return refused
        status, answer = await self._once(await _item(request, self._edge(request)))
        if self._meets(LOST_ANSWER):
            return _break(request)
        return web.json_response(answer, status=status, headers=_RETRY_AFTER if status == 409 else {})

    def _refused(self) -> web.Response | None:
        if self._meets(TOO_MANY):
            return web.Response(status=429, headers=_RETRY_AFTER)
        return web.Response(status=500) if self._meets(BROKEN) else None

    async def _read(self, request: web.Request) -> web.StreamResponse:
        document = self.documents.get(request.path)
        body = json.dumps(document).encode() if document is not None else b""
        if self._meets(BROKEN):
            return web.Response(status=500)
        # The state of when the request came, given later: as a slow way to the edge would.
        span = _LONG_READ_SECONDS if self._meets(SLOW) or self._rng.random() < 0.05 else _READ_SECONDS
        await asyncio.sleep(self._rng.uniform(*span))
        headers = {"Cache-Control": "public, max-age=3600"}
        if document is None:
            return web.Response(status=404, headers=headers)
        headers["ETag"] = etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _bulk(self, request: web.Request) -> web.StreamResponse:
        self.requests["bulk"] += 1
        described = json.loads(await request.read())
        self.requests["bulk items"] += len(described)
        if self._meets(DOWN):
            return _break(request)
        if refused := self._refused():
            return refused
        edge = self._edge(request)
        items = [_bulk_item(each, edge) for each in described]
        partial = len(items) > 1 and self._meets(PARTIAL_BULK)
        applied = items[: len(items) // 2] if partial else items
        answers = [await self._in_bulk(item, index) for index, item in enumerate(applied)]
        if self._meets(LOST_ANSWER):
            return _break(request)
        if partial and self._rng.random() < 0.5:
            return await _half(request, json.dumps(answers))
        answers += [{"status": 503} for _ in items[len(applied) :]]
        return web.json_response(answers)

    async def _in_bulk(self, item: Item, index: int) -> dict[str, Any]:
        if index == 1 and self.between_items is not None:
            await self.between_items(item.edge)
        status, answer = await self._once(item)
        headers = _RETRY_AFTER if status == 409 else {}
        return {"status": status, "headers": headers, "body": json.dumps(answer)}

    async def _once(self, item: Item) -> tuple[int, dict[str, Any]]:
        """Apply a write, unless its key is known."""
        self.keys[item.path, item.number].add(item.key)
        if self._idempotent and item.key in self._answers:
            known = self._answers[item.key]
            return (409, {"problem": "in work"}) if known is None else (200, known)
        self._answers[item.key] = None
        other = self._in_work.setdefault(item.path, item.number)
        if other != item.number and _is_ordered(item.path):
            self.overlaps.append(f"{item.path} {item.number} while {other} is in work")
        try:
            slow = self._meets(SLOW)
            await asyncio.sleep(self._rng.uniform(*(SLOW_SECONDS if slow else _WORK_SECONDS)))
            answer = self._answers[item.key] = self._apply(item)
        finally:
            self._in_work.pop(item.path, None)
        return 200, answer

    def _apply(self, item: Item) -> dict[str, Any]:
        seq = len(self.effects)
        effect = Effect(seq, time.monotonic(), item.path, item.number, item.principal, item.method, item.key, item.edge)
        self.effects.append(effect)
        if self.applied[item.path].setdefault(item.number, seq) != seq:
            self.again[item.path].add(item.number)
        if item.method == "DELETE":
            self.documents.pop(item.path, None)
            self.deleted[item.path] = seq
        elif item.method == "PUT":
            self.documents[item.path] = json.loads(item.body)
        else:
            self.documents[item.path] = {**self.documents.get(item.path, {}), **json.loads(item.body)}
        if (shelf := shelf_of(item.path)) is not None:
            self.documents[shelf[0]][shelf[1]] = item.number
        if self.on_effect is not None:
            self.on_effect(effect)
        return {"applied": seq}


def _is_ordered(path: str) -> bool:
    """Whether the edges wait for one write before they send the next: not behind one whose end nobody will know."""
    return kind_of(path).behind and kind_of(path).repeatable


async def _item(request: web.Request, edge: str) -> Item:
    headers = request.headers
    return Item(
        request.method,
        request.path,
        int(headers[NUMBER_HEADER]),
        headers.get("Authorization", ""),
        headers.get("Idempotency-Key", "").strip('"'),  # a string there (RFC 9651), plain text in the JSON form
        await request.read(),
        edge,
    )


def _bulk_item(described: dict[str, Any], edge: str) -> Item:
    headers = {name.lower(): value for name, value in described["headers"]}
    return Item(
        described["method"],
        described["path"],
        int(headers[NUMBER_HEADER.lower()]),
        headers.get("authorization", ""),
        described["idempotency_key"],
        described["body"].encode(),
        edge,
    )


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[SIGNATURE] = "origin"


def _break(request: web.Request) -> web.Response:
    """Break the connection instead of an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _half(request: web.Request, text: str) -> web.StreamResponse:
    """Send half of an answer, then break the connection."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(text))})
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write(text[: len(text) // 2].encode())
    _break(request)
    return response
