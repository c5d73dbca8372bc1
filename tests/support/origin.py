"""A real origin for tests: it keeps documents, honours idempotency keys, logs every effect, and can misbehave."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

from .servers import free_port


class Effect(NamedTuple):
    """A write that the origin applied: in this order, with this key."""

    method: str
    path: str
    key: str
    body: bytes


class Origin:
    """An HTTP server on loopback over a dict of documents by path.

    GET answers a document (404 without one) with `cache_control`; PUT, PATCH (merge patch), DELETE and POST change it.
    `gate`, when cleared, holds every write before it is applied. `refuse` maps a path to a status that its writes get.
    `lose_answers` counts writes whose connection breaks after they were applied. `idempotent` honours the key.
    """

    def __init__(self, *, idempotent: bool = True) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.effects: list[Effect] = []
        self.reads: Counter[str] = Counter()
        self.requests: list[web.Request] = []
        self.cache_control = "max-age=60"
        self.extra_headers: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.read_gate = asyncio.Event()
        self.read_gate.set()
        self.refuse: dict[str, int] = {}
        self.refuse_headers: dict[str, str] = {}
        self.lose_answers = 0
        self.in_flight: Counter[str] = Counter()
        self.overlaps = 0
        self._idempotent = idempotent
        self._answers: dict[str, dict[str, Any]] = {}
        self._runner: web.AppRunner | None = None
        self._port = free_port()  # nobody else gets it while this does not listen

    @property
    def url(self) -> str:
        """Address of the origin."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen; a second start takes the same port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self.read_gate.set()
        await self.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.method in ("GET", "HEAD"):
            return await self._read(request)
        return await self._write(request)

    async def _read(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.reads[path] += 1
        document = self.documents.get(path)
        answer = json.dumps(document).encode() if document is not None else b""
        await self.read_gate.wait()  # the state of when the request came, as a slow origin would give
        headers = {"Cache-Control": self.cache_control, **self.extra_headers}
        if document is None:
            return web.Response(status=404, headers=headers)
        return web.Response(body=answer, content_type="application/json", headers=headers)

    async def _write(self, request: web.Request) -> web.StreamResponse:
        path, body = request.path, await request.read()
        key = request.headers.get("Idempotency-Key", "")
        self.in_flight[path] += 1
        self.overlaps += self.in_flight[path] > 1
        try:
            await self.gate.wait()
            if path in self.refuse:
                return web.Response(status=self.refuse[path], headers=self.refuse_headers)
            if not (self._idempotent and key in self._answers):
                self.effects.append(Effect(request.method, path, key, body))
                self._answers[key] = self._apply(request.method, path, body)
            if self.lose_answers:
                self.lose_answers -= 1
                assert request.transport is not None
                request.transport.close()
            return web.json_response(self._answers[key])
        finally:
            self.in_flight[path] -= 1

    def _apply(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        if method == "PUT":
            self.documents[path] = json.loads(body)
        elif method == "PATCH":
            self.documents[path] = {**self.documents.get(path, {}), **json.loads(body)}
        elif method == "DELETE":
            self.documents.pop(path, None)
        return {"applied": len(self.effects)}
