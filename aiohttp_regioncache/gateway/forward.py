"""The forwarding handler: a request goes to the origin, its answer comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from ..bounded import Bounded
from ..exchange import ASKER, SERVED_SITE, Asker, described_body
from ..keys import ascii_only
from ..origins.letters import FINGERPRINT, METHODS, Answer, Letter, Patience, fingerprint, is_sendable
from ..origins.origins import Origins, Way
from ..pin import without_pins
from ..problems import Unanswered, problem, shown_problem
from ..reads.misses import Key
from ..records import WirePairs
from ..regions import TrustedProxies
from ..replays import CDN_LOOP, is_looping, with_loop_mark
from ..responses import UntypedStream, typed_as_given
from ..semantics.fields import Headers, end_to_end, remove, values
from ..semantics.methods import is_safe
from ..served import ServedSite
from ..settings import Gateway
from .body import ComingBody
from .early import take_early
from .interim import relay_of, relay_to
from .websocket import is_websocket, refusal, tunnel

logger = logging.getLogger(__name__)

T = TypeVar("T")

VIA: Final = "regioncache"
"""The pseudonym of an edge in `Via`."""
_OWN_FIELDS: Final = frozenset({"host", "expect"})
_CHUNK: Final = 64 * 1024
_STREAMED_TYPES: Final = ("text/event-stream", "multipart/x-mixed-replace")
_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_OVERHEAD: Final = 4096
"""Octets that a letter takes beside its fields, about."""

LetterKey = tuple[WirePairs, str, aiohttp.HttpVersion, str, str | None, bool, str, Hashable]


class _BrokenOffError(ConnectionResetError):
    """An answer of which a part may have gone out already."""


class Forwarder:
    """Forward requests to the origin of their site.

    `default` is the site of requests that no middleware has led here; `name` is this deployment in `CDN-Loop`;
    `max_body` the bytes up to which an answer is read as a whole, so that it can be stored: longer ones, and streams,
    pass as they come. `table_bytes`: those that may be kept of what requests said before.
    """

    def __init__(
        self,
        origins: Origins,
        settings: Gateway,
        trusted: TrustedProxies,
        default: ServedSite,
        name: str,
        *,
        max_body: int,
        table_bytes: int,
    ) -> None:
        self._origins = origins
        self._default = default
        self._settings = settings
        self._trusted = trusted
        self._name = name
        self.max_body = max_body
        self._stopping = asyncio.Event()
        connect, read = settings.connect_timeout, settings.read_timeout
        self.patience = Patience(aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read))
        self._endless = Patience(aiohttp.ClientTimeout(total=None, sock_connect=connect))
        self._letters: Bounded[LetterKey, Letter] | None = None
        if fingerprint() == FINGERPRINT:
            self._letters = Bounded(table_bytes)

    def stop(self) -> None:
        """End what has no end of its own: WebSockets, with a code that says that the server goes away."""
        self._stopping.set()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with the origin's answer; 502 or 504 when there is none, 508 for a loop."""
        if CDN_LOOP in request.headers and is_looping(list(request.headers.items()), self._name):
            return problem(508, "Loop Detected", "This request has been here before.")
        upstream = request.get(SERVED_SITE, self._default).upstream
        if upstream is None:
            return shown_problem(request, 502, "Bad Gateway", "There is no origin for this host.")
        if (request.content_length or 0) > self._settings.max_request_body:
            return self._too_large(request)
        failure: Exception = OSError("it has no address")
        for way in self._origins.ways(upstream, request.host):
            answer = await self._try(request, way)
            if not isinstance(answer, Exception):
                return answer
            failure = answer
        return _failed(request, failure)

    async def _try(self, request: web.Request, way: Way) -> web.StreamResponse | Exception:
        """Ask one address of the origin; what it failed with when another one may be asked instead."""
        if is_websocket(request):
            return await self._tunnelled(request, way, self._passed(request, way))
        body = await self._body_of(request)
        waits_long = _awaits_events(request.raw_headers)
        try:
            asking = self._ask(request, way, body, self._endless if waits_long else self.patience)
            answer = await (self._while_there(request, asking) if waits_long else asking)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if isinstance(body, ComingBody) and body.has_failed:  # which says nothing of the origin
                return self._unreadable(request, body)
            way.note_failure(error)
            return error if _may_go_elsewhere(request, error) else _failed(request, error)
        way.note(answer.status)
        try:
            async with answer:
                passing = self._pass_on(request, answer)
                return await (self._while_there(request, passing) if waits_long else passing)
        except _BrokenOffError:
            raise
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return _failed(request, error)  # also when the client has gone: others may have joined its fetch

    async def _body_of(self, request: web.Request) -> bytes | ComingBody:
        if request.can_read_body:
            return ComingBody(request, self._settings.max_request_body, self._settings.read_timeout)
        return await request.read()

    async def _while_there(self, request: web.Request, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run what may wait for a silent origin without an end, unless the client has gone: then it ends soon."""
        task = asyncio.ensure_future(coroutine)
        try:
            while not (await asyncio.wait((task,), timeout=self._settings.read_timeout))[0]:
                if request.transport is None or request.transport.is_closing():
                    raise TimeoutError
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    async def _ask(
        self, request: web.Request, way: Way, body: bytes | ComingBody, patience: Patience
    ) -> aiohttp.ClientResponse | Answer:
        path, relay = ascii_only(request.rel_url.raw_path_qs), relay_of(request)
        answer: aiohttp.ClientResponse | Answer
        early = take_early(request)
        if isinstance(early, Exception):
            raise early
        if early is not None:
            answer = early
        elif self._letters is not None and _is_plain(request) and is_sendable(path):
            answer = await self._letter(self._letters, request, way).send(path, patience, relay)
        else:
            relay_to(relay)
            answer = await way.session().request(
                request.method,
                way.url(path),
                headers=CIMultiDict(self._passed(request, way)),
                data=body or None,
                allow_redirects=False,
                timeout=patience.timeout,
                **way.tls,
            )
        if answer.status < 200:  # to switch protocols was not asked for, and what follows would be no HTTP
            answer.close()
            raise aiohttp.ClientPayloadError(f"the origin answers {answer.status}")
        return answer

    def _letter(self, letters: Bounded[LetterKey, Letter], request: web.Request, way: Way) -> Letter:
        """What a request says to an address, written out."""
        key = _letter_key(request.method, request.host, request.raw_headers, request.version, self._asker(request), way)
        letter = letters.get(key)
        if letter is None:
            headers = CIMultiDict(self._passed(request, way))
            letter = Letter(way.session(), request.method, way.base, headers, way.tls)
            octets = sum(len(name) + len(value) for name, value in request.raw_headers)
            letters.put(key, letter, _OVERHEAD + octets + 3 * letter.size)
        return letter

    def find_letter(
        self, asked: Key, path: str, asker: Asker, served: ServedSite, version: aiohttp.HttpVersion
    ) -> Letter | None:
        """What a request without a body says to the only address of its origin, if it was written out before.

        None where more has to be looked at than what it says.
        """
        method, _, host, _, _, fields = asked
        upstream = served.upstream
        if self._letters is None or upstream is None or len(upstream.addresses) > 1:
            return None
        if _awaits_events(fields) or not is_sendable(path):
            return None
        (way,) = self._origins.ways(upstream, host)
        return self._letters.get(_letter_key(method, host, fields, version, asker, way))

    def _unreadable(self, request: web.Request, body: ComingBody) -> web.Response:
        if body.is_too_long:
            return self._too_large(request)
        if body.is_late:
            return shown_problem(request, 408, "Request Timeout", "The body did not arrive in time.")
        return problem(400, "Bad Request", "The body is not what its fields say.")

    def _too_large(self, request: web.Request) -> web.Response:
        limit = self._settings.max_request_body
        return shown_problem(request, 413, "Content Too Large", f"A request has at most {limit} bytes.")

    def _asker(self, request: web.Request) -> Asker:
        return request.get(ASKER) or Asker.of(request, self._trusted)

    def _passed(self, request: web.Request, way: Way) -> Headers:
        """The fields of a request as they go on; `_letter` keeps them by everything that they depend on."""
        came = end_to_end(list(request.headers.items()))
        passed = remove(described_body(without_pins(came)), _OWN_FIELDS)
        told = self._asker(request).told(passed, request.method, request.host)
        host = [] if way.host is None else [("Host", way.host)]
        return _spelt_alike([*host, *with_loop_mark(_with_via(told, request), self._name)])

    async def _tunnelled(self, request: web.Request, way: Way, headers: Headers) -> web.StreamResponse | Exception:
        limit, timeout = self._settings.max_websocket_message, self._settings.read_timeout
        timeout += self._settings.connect_timeout  # which is first to end, so that another address may be asked
        try:
            return await tunnel(request, way, headers, self._stopping, max_message=limit, timeout=timeout)
        except aiohttp.WSServerHandshakeError as error:
            way.note(error.status)
            return refusal(error) or shown_problem(request, 502, "Bad Gateway", "The origin opens no WebSocket here.")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            way.note_failure(error)
            return error if isinstance(error, _NOT_SENT) else _failed(request, error)

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse | Answer) -> web.StreamResponse:
        headers = fields_of(answer)
        beginning = b""
        if not self._is_stream(answer):  # of a write too: its answer must not be there before the invalidation is
            beginning = await read_up_to(answer.content, self.max_body + 1)
            if len(beginning) <= self.max_body:
                return whole(answer, headers, beginning, is_head=request.method == "HEAD")
        return await self._stream(request, answer, headers, beginning)

    def _is_stream(self, answer: aiohttp.ClientResponse | Answer) -> bool:
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return kind in _STREAMED_TYPES or int(answer.headers.get("Content-Length", 0)) > self.max_body

    def length_of(self, answer: Answer) -> int | None:
        """The octets of an answer's body, if they are known and it is read as a whole."""
        content = answer.content
        length = content.total_bytes if content.is_eof() else int(answer.headers.get("Content-Length", -1))
        return length if 0 <= length <= self.max_body and not self._is_stream(answer) else None

    @staticmethod
    async def _stream(
        request: web.Request, answer: aiohttp.ClientResponse | Answer, headers: CIMultiDict[str], beginning: bytes
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


def fields_of(answer: aiohttp.ClientResponse | Answer) -> CIMultiDict[str]:
    """The fields of an answer that go on."""
    return CIMultiDict(end_to_end(list(answer.headers.items())))


def whole(
    answer: aiohttp.ClientResponse | Answer, fields: CIMultiDict[str], body: bytes, *, is_head: bool = False
) -> web.Response:
    """Make the response of an answer that is there as a whole."""
    if not is_head:
        fields.pop("Content-Length", None)
    return typed_as_given(answer.status, answer.reason, fields, body)


def _letter_key(
    method: str, host: str, fields: WirePairs, version: aiohttp.HttpVersion, asker: Asker, way: Way
) -> LetterKey:
    return fields, method, version, host, asker.peer, asker.is_trusted, asker.scheme, way.place


def _is_plain(request: web.Request) -> bool:
    """Whether a request is one without a body."""
    return request.method in METHODS and not request.body_exists


def _awaits_events(fields: WirePairs) -> bool:
    return any(name.lower() == b"accept" and b"text/event-stream" in value for name, value in fields)


def _may_go_elsewhere(request: web.Request, error: Exception) -> bool:
    """Whether another address may be asked: nothing was sent, or what was may be repeated and was not just slow."""
    is_repeatable = is_safe(request.method) and not request.can_read_body
    return isinstance(error, _NOT_SENT) or (is_repeatable and not isinstance(error, TimeoutError))


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect` (RFC 9110 section 10.1.1): 100 for `100-continue`, 417 for anything else, whatever it is."""
    if request.version < aiohttp.HttpVersion11:
        return None
    if request.headers.get("Expect", "").strip().lower() != "100-continue":
        return problem(417, "Expectation Failed", "Only 100-continue can be expected.")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # none of the answer has gone out yet
    return None


def _with_via(headers: Headers, request: web.Request) -> Headers:
    """The fields with this intermediary, and how the request has reached it (RFC 9110 section 7.6.3)."""
    ours = f"{request.version.major}.{request.version.minor} {VIA}"
    return [*remove(headers, ("via",)), ("Via", ", ".join([*values(headers, "via"), ours]))]


def _spelt_alike(headers: Headers) -> Headers:
    """The fields with one spelling for each name: of several aiohttp's client would send only the last line."""
    spelt: dict[str, str] = {}
    return [(spelt.setdefault(name.lower(), name), value) for name, value in headers]


def _failed(request: web.Request, error: Exception) -> web.Response:
    if isinstance(error, TimeoutError):
        detail = "The origin did not answer in time."
        return shown_problem(request, 504, "Gateway Timeout", detail, kind=Unanswered)
    logger.warning("%s %s: the origin failed: %s", request.method, request.path, error)
    return shown_problem(request, 502, "Bad Gateway", "The origin cannot be reached or broke off.", kind=Unanswered)


async def read_up_to(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Read a body up to `limit` octets."""
    if content.is_eof() and content.total_bytes <= limit:  # it is all there
        return content.read_nowait()
    chunks: list[bytes] = []
    size = 0
    while size < limit and (chunk := await content.read(limit - size)):
        chunks.append(chunk)
        size += len(chunk)
        if content.at_eof():
            break
    return b"".join(chunks)
