"""The forwarding handler: a request goes to the origin, its answer comes back."""

from __future__ import annotations

import logging
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict
from yarl import URL

from ..exchange import described_body
from ..keys import ascii_only
from ..pin import without_pins
from ..problems import Unanswered, problem
from ..replays import is_looping, with_loop_mark
from ..responses import UntypedStream, typed_as_given
from ..semantics.fields import Headers, end_to_end, remove, values
from .interim import relay_to

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 10.0
VIA: Final = "regioncache"
"""The pseudonym of an edge in `Via`."""
_OWN_FIELDS: Final = frozenset({"host", "expect"})
_CHUNK: Final = 64 * 1024
_STREAMED_TYPES: Final = ("text/event-stream", "multipart/x-mixed-replace")


class _BrokenOffError(ConnectionResetError):
    """An answer of which a part may have gone out already."""


class Forwarder:
    """Forward requests to the origin at `origin`.

    `name` is this deployment in `CDN-Loop`; `max_body` the bytes up to which an answer is read as a whole, so that it
    can be stored: longer ones, and streams, pass through as they come. `timeout` is seconds without a byte, which only
    event streams may be silent for.
    """

    def __init__(
        self, session: aiohttp.ClientSession, origin: str, name: str, *, max_body: int, timeout: float
    ) -> None:
        self._session = session
        self._origin = origin.rstrip("/")
        self._name = name
        self._max_body = max_body
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=timeout)
        self._endless = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with the origin's answer; 502 or 504 when there is none, 508 for a loop."""
        headers = list(request.headers.items())
        if is_looping(headers, self._name):
            return problem(508, "Loop Detected", "This request has been here before.")
        relay_to(request)
        try:
            # Still to come, or read already: by us, or by an outer middleware.
            body = request.content if request.can_read_body else await request.read()
            async with self._ask(request, headers, body) as answer:
                return await self._pass_on(request, answer)
        except _BrokenOffError:
            raise
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return _failed(request, error)  # also when the client has gone: others may have joined its fetch

    def _ask(
        self, request: web.Request, headers: Headers, body: bytes | aiohttp.StreamReader
    ) -> aiohttp.client._RequestContextManager:
        passed = remove(described_body(without_pins(end_to_end(headers))), _OWN_FIELDS)
        kept = with_loop_mark(_with_via(passed, request), self._name)
        endpoint = ascii_only(request.rel_url.raw_path_qs)
        awaits_events = "text/event-stream" in request.headers.get("Accept", "")
        return self._session.request(
            request.method,
            URL(self._origin + endpoint, encoded=True),
            headers=CIMultiDict(kept),
            data=body or None,
            allow_redirects=False,
            timeout=self._endless if awaits_events else self._timeout,
        )

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = CIMultiDict(end_to_end(list(answer.headers.items())))
        beginning = b""
        if not self._is_stream(answer):  # of a write too: its answer must not be there before the invalidation is
            beginning = await _read_up_to(answer.content, self._max_body + 1)
            if len(beginning) <= self._max_body:
                return self._whole(request, answer, headers, beginning)
        return await self._stream(request, answer, headers, beginning)

    def _is_stream(self, answer: aiohttp.ClientResponse) -> bool:
        length = answer.content_length
        return answer.content_type in _STREAMED_TYPES or (length is not None and length > self._max_body)

    @staticmethod
    def _whole(
        request: web.Request, answer: aiohttp.ClientResponse, headers: CIMultiDict[str], body: bytes
    ) -> web.Response:
        if request.method != "HEAD":
            headers.pop("Content-Length", None)
        return typed_as_given(answer.status, answer.reason, headers, body)

    @staticmethod
    async def _stream(
        request: web.Request, answer: aiohttp.ClientResponse, headers: CIMultiDict[str], beginning: bytes
    ) -> web.StreamResponse:
        kind = web.StreamResponse if "Content-Type" in headers else UntypedStream
        response = kind(status=answer.status, reason=answer.reason, headers=headers)
        try:
            await response.prepare(request)
            if beginning:
                await response.write(beginning)
            async for chunk in answer.content.iter_chunked(_CHUNK):
                await response.write(chunk)
            await response.write_eof()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if request.transport is None or request.transport.is_closing():
                return response  # nobody is there to be told
            request.transport.abort()  # nobody may take a part for the whole
            raise _BrokenOffError("the origin or the client broke off") from error
        return response


def _with_via(headers: Headers, request: web.Request) -> Headers:
    """The fields with this intermediary, and how the request has reached it (RFC 9110 section 7.6.3)."""
    ours = f"{request.version.major}.{request.version.minor} {VIA}"
    return [*remove(headers, ("via",)), ("Via", ", ".join([*values(headers, "via"), ours]))]


def _failed(request: web.Request, error: Exception) -> web.Response:
    if isinstance(request.content.exception(), (web.RequestPayloadError, ContentEncodingError)):
        return problem(400, "Bad Request", "The body is not what its Content-Encoding says.")
    if isinstance(error, TimeoutError):
        return problem(504, "Gateway Timeout", "The origin did not answer in time.", kind=Unanswered)
    logger.warning("%s %s: the origin failed: %s", request.method, request.path, error)
    return problem(502, "Bad Gateway", "The origin cannot be reached or broke off.", kind=Unanswered)


async def _read_up_to(content: aiohttp.StreamReader, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size < limit and (chunk := await content.read(limit - size)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
