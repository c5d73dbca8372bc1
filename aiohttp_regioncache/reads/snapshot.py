"""Responses of aiohttp as a whole."""

from __future__ import annotations

import msgspec
from aiohttp import payload, web


class Snapshot(msgspec.Struct, frozen=True):
    """A response that is complete: its status, header fields in order, cookies among them, and body."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def take(response: web.StreamResponse, max_body: int) -> Snapshot | None:
    """Look at a response as a whole; None for streams, files, what has been sent already, and what is too large."""
    if response.prepared or not isinstance(response, web.Response):
        return None
    body = await _bytes_of(response.body)
    if body is None or len(body) > max_body:
        return None
    headers = list(response.headers.items())
    headers += [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    return Snapshot(response.status, response.reason or "", tuple(headers), body)


async def _bytes_of(body: object) -> bytes | None:
    if body is None:
        return b""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return bytes(await body.as_bytes()) if isinstance(body, payload.BytesPayload) else None
