"""A response that is sent in one piece is the one that aiohttp would send."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from aiohttp_regioncache.responses import (
    Streaming,
    UntypedStream,
    Whole,
    heard_if,
    on_response_prepare,
    streaming_too,
    typed_as_given,
)
from tests.reads.apps import running

_DATE = re.compile(rb"\r\nDate: [^\r]*")
_TYPE = ("Content-Type", "text/plain")
FIELDS: tuple[tuple[tuple[str, str], ...], ...] = (
    (_TYPE,),
    (),
    (_TYPE, ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Server", "b"), ("x-a", "1"), ("X-A", "\udcfc\u00e9")),
    (_TYPE, ("Content-Length", "2")),
    (_TYPE, ("Connection", "close")),
)
BODIES = (b"", b"ok", b"x" * 100_000, bytearray(b"ok"))
CHANGES: tuple[Callable[[web.Response], Any], ...] = (
    lambda _: None,
    lambda response: response.set_cookie("a", "b"),
    lambda response: response.enable_compression(web.ContentCoding.gzip),
    lambda response: response.enable_chunked_encoding(),
    lambda response: response.force_close(),
    lambda response: setattr(response, "text", "changed"),
    lambda response: response.set_status(299, "Changed"),
)


class _Untyped(web.Response, UntypedStream):
    """As it was before it could be sent in one piece."""


def _made(request: web.Request, kind: type[web.Response] | None) -> web.Response:
    status, fields, body, change = (int(request.match_info[name]) for name in ("status", "fields", "body", "change"))
    headers = CIMultiDict(FIELDS[fields])
    if kind is None:
        response = typed_as_given(status, "Reason", headers, BODIES[body])  # type: ignore[arg-type]
    else:
        made = kind if "Content-Type" in headers else _Untyped
        response = made(status=status, reason="Reason", headers=headers, body=BODIES[body] or None)
    CHANGES[change](response)
    return response


def _app(kind: type[web.Response] | None, *hooks: Any) -> web.Application:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return _made(request, kind)

    app = web.Application()
    app.on_response_prepare.append(on_response_prepare)
    app.on_response_prepare.extend(hooks)
    app.router.add_route("*", "/{status}/{fields}/{body}/{change}", handle)
    return app


async def _octets(url: str, request: bytes) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    # What comes last shows in which state the answers before it have left the connection.
    writer.write(request + request + b"GET /200/0/1/0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return _DATE.sub(b"", found)


REQUESTS = (
    "{} {} HTTP/1.1\r\nHost: a\r\n\r\n",
    "{} {} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "{} {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "{} {} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
)


async def test_it_is_the_same_to_the_octet() -> None:
    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Added"] = "1"

    for hooks in ((), (add,), (heard_if(lambda: False)(add),), (heard_if(lambda: True)(add),)):
        async with running(_app(web.Response, *hooks)) as plain, running(_app(None, *hooks)) as ours:
            kinds = itertools.product((200, 404, 204, 304, 206), range(len(FIELDS)), range(len(BODIES)))
            targets = [f"/{status}/{fields}/{body}/0" for status, fields, body in kinds]
            targets += [f"/200/{fields}/1/{change}" for fields in (0, 1) for change in range(1, len(CHANGES))]
            for target, method, request in itertools.product(targets, ("GET", "HEAD", "POST"), REQUESTS):
                octets = request.format(method, target).encode()
                if target.split("/")[2] == "3" and method != "HEAD" and int(target.split("/")[3]) != 1:
                    continue  # a length that is wrong breaks the connection
                assert await _octets(ours, octets) == await _octets(plain, octets), (hooks, octets)


@pytest.mark.parametrize("is_heard", [True, False])
async def test_who_listens_hears_of_it(is_heard: bool) -> None:
    heard: list[web.StreamResponse] = []

    async def handle(_request: web.Request) -> web.StreamResponse:
        response = Whole(text="ok")
        listening: Streaming = heard.append
        if is_heard:
            with streaming_too(listening):
                await response.prepare(_request)
        return response

    app = web.Application()
    app.on_response_prepare.append(on_response_prepare)
    app.router.add_get("/", handle)
    async with running(app) as url:
        octets = await _octets(url, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert octets.count(b"ok") == 2
    assert len(heard) == (2 if is_heard else 0)


async def test_heads_cannot_be_split() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return typed_as_given(200, "OK", CIMultiDict({"X-A": "a\r\nX-B: b"}), b"ok")

    app = web.Application()
    app.router.add_get("/", handle)
    async with running(app) as url:
        octets = await _octets(url, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"X-B" not in octets
