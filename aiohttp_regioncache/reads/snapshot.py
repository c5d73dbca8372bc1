"""Responses of aiohttp as a whole, as they will be sent."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

import msgspec
from aiohttp import payload, web

from ..responses import UntypedStream, hooks_of, respond
from ..semantics.directives import OWN_FIELDS
from ..semantics.fields import Headers, Indexed, values

_WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_QUICKLY_COMPRESSED: Final = 16 * 1024


class Snapshot(msgspec.Struct, frozen=True):
    """A response that is complete: its status, header fields in order, cookies among them, and body.

    `is_coded`: the body has been compressed here, in place of aiohttp, which would do so when it is sent.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_coded: bool = False


async def take(request: web.Request, response: web.StreamResponse, max_body: int) -> Snapshot | None:
    """Look at a response as a whole; None for streams, files, what has been sent already, and what is too large."""
    if response.prepared or not isinstance(response, web.Response):
        return None
    body = await _bytes_of(response.body, max_body)
    if body is None:
        return None
    headers = list(response.headers.items())
    if response._cookies:
        headers += [("Set-Cookie", morsel.OutputString()) for morsel in response._cookies.values()]
    if body and "Content-Type" not in response.headers and not isinstance(response, UntypedStream):
        headers.append(("Content-Type", "application/octet-stream"))  # as aiohttp does when it sends it
    taken = Snapshot(response.status, response.reason or "", Indexed(headers), body)
    return await _coded(request, response, taken) if response.compression else taken


async def _bytes_of(body: object, max_body: int) -> bytes | None:
    if body is None:
        return b""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body) if len(body) <= max_body else None
    if isinstance(body, (payload.BytesPayload, payload.BytesIOPayload)) and (body.size or 0) <= max_body:
        return bytes(await body.as_bytes())
    return None


async def _coded(request: web.Request, response: web.Response, taken: Snapshot) -> Snapshot:
    """The response compressed as `enable_compression` asks for, and as aiohttp does it."""
    accepted = ", ".join(values(list(request.headers.items()), "accept-encoding")).lower()
    forced = response._compression_force
    coding = forced.value if forced else next((name for name in ("deflate", "gzip") if name in accepted), "")
    varying = taken.headers if forced else (*taken.headers, ("Vary", "Accept-Encoding"))
    if coding not in _WINDOWS:
        return msgspec.structs.replace(taken, headers=varying)
    if len(taken.body) <= _QUICKLY_COMPRESSED:
        body = _compress(taken.body, coding)
    else:
        body = await asyncio.get_running_loop().run_in_executor(None, _compress, taken.body, coding)
    return Snapshot(taken.status, taken.reason, (*varying, ("Content-Encoding", coding)), body, is_coded=True)


def _compress(body: bytes, coding: str) -> bytes:
    compressor = zlib.compressobj(wbits=_WINDOWS[coding])
    return compressor.compress(body) + compressor.flush()


async def as_sent(request: web.Request, taken: Snapshot) -> Headers:
    """The fields of a response as its application's `on_response_prepare` handlers will leave them.

    They run for this look as well as for every answer: what they add is not stored, but it says what may be.
    """
    hooks = hooks_of(request)
    if not hooks:
        return taken.headers
    trial = respond(taken.status, taken.reason, taken.headers, taken.body)
    for hook in hooks:
        await hook(request, trial)
    cookies = (("Set-Cookie", morsel.OutputString()) for morsel in trial.cookies.values())
    ours = (pair for pair in taken.headers if pair[0].lower() in OWN_FIELDS)  # no client is sent them
    return [*trial.headers.items(), *cookies, *ours]
