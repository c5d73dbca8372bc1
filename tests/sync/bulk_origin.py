"""A real origin with a bulk endpoint: it honours keys, logs every request and effect, and can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from aiohttp import web

from tests.sync.test_sender import serving


class Effect(NamedTuple):
    """A write that was applied, alone or with others."""

    method: str
    path: str
    key: str
    body: str


class BulkOrigin:
    """Documents by path behind `/bulk` and behind their own addresses.

    `refuse`: statuses by path, of single writes. `spoil`: statuses by path that a bulk request gets which carries it.
    `shape` makes the answer of a bulk request from the items and their outcomes; None breaks the connection.
    `gate`, when cleared, holds every request before anything is applied; `between`, after the first
    item of several; `after`, when all have been applied.
    """

    def __init__(self) -> None:
        self.url = ""
        self.effects: list[Effect] = []
        self.batches: list[list[dict[str, Any]]] = []
        self.requests: list[web.BaseRequest] = []
        self.alone: list[str] = []
        self.refuse: dict[str, int] = {}
        self.spoil: dict[str, int] = {}
        self.shape: Callable[[list[dict[str, Any]], list[dict[str, Any]]], web.StreamResponse | None] = as_array
        self.gate = asyncio.Event()
        self.gate.set()
        self.between = asyncio.Event()
        self.between.set()
        self.after = asyncio.Event()
        self.after.set()
        self.in_flight = 0
        self.keeps_order = False
        self._keys: set[str] = set()

    def applied(self, path: str) -> list[int]:
        """The numbers that were applied at a path, in their order."""
        return [json.loads(effect.body)["n"] for effect in self.effects if effect.path == path]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request."""
        body = await request.text()
        self.requests.append(request)
        self.in_flight += 1
        try:
            await self.gate.wait()
            if request.path == "/bulk":
                return await self._bulk(request, json.loads(body))
            self.alone.append(request.path)
            key = request.headers["Idempotency-Key"].strip('"')
            return web.Response(status=self._apply(Effect(request.method, request.path, key, body)))
        finally:
            self.in_flight -= 1

    async def _bulk(self, request: web.BaseRequest, items: list[dict[str, Any]]) -> web.StreamResponse:
        self.batches.append(items)
        spoilt = next((self.spoil[item["path"]] for item in items if item["path"] in self.spoil), None)
        if spoilt is not None:
            return web.Response(status=spoilt)
        outcomes: list[dict[str, Any]] = []
        failed: set[str] = set()
        for item in items:
            if len(outcomes) == 1:
                await self.between.wait()
            outcomes.append({"status": self._one(item, failed), "idempotency_key": item["idempotency_key"]})
        await self.after.wait()
        answer = self.shape(items, outcomes)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
        return answer or web.Response()

    def _one(self, item: dict[str, Any], failed: set[str]) -> int:
        path = item["path"]
        if self.keeps_order and path in failed:
            return 424
        status = self._apply(Effect(item["method"], path, item["idempotency_key"], item["body"]))
        if status >= 300:
            failed.add(path)
        return status

    def _apply(self, effect: Effect) -> int:
        if effect.path in self.refuse:
            return self.refuse[effect.path]
        if effect.key not in self._keys:
            self._keys.add(effect.key)
            self.effects.append(effect)
        return 200


def as_array(_items: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> web.Response:
    """An array of outcomes in order, without keys."""
    return web.json_response([{"status": outcome["status"]} for outcome in outcomes])


@contextlib.asynccontextmanager
async def bulk_origin() -> AsyncIterator[BulkOrigin]:
    """A running one."""
    origin = BulkOrigin()
    async with serving(origin.handle) as url:
        origin.url = url
        try:
            yield origin
        finally:
            origin.gate.set()
            origin.between.set()
            origin.after.set()
