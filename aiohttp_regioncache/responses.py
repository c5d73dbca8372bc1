"""Making responses, and marking them with `Cache-Status`."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from typing import Any, Final, Protocol, TypeVar

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.helpers import EMPTY_BODY_STATUS_CODES, rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_writer import _serialize_headers
from multidict import CIMultiDict

from .exchange import Handler
from .semantics import conditional
from .semantics.directives import OWN_FIELDS
from .semantics.fields import Headers, remove

CACHE_STATUS: Final = "Cache-Status"

Streaming = Callable[[web.StreamResponse], None]
"""What is called with a response that a handler sends by itself, just before its head goes out."""
_IS_DUE: Final = "regioncache_is_due"
_JOINED: Final = 64 * 1024
"""Octets of the longest body that is sent in one piece with its head."""
Hook = Callable[[web.Request, web.StreamResponse], Awaitable[object]]
_streaming: Final[ContextVar[Streaming | None]] = ContextVar("regioncache_streaming", default=None)
_is_unattended: Final[ContextVar[bool]] = ContextVar("regioncache_unattended", default=False)


def cache_name(region: str | None) -> str:
    """Our name in `Cache-Status`: with the region that answered."""
    return f"regioncache/{region}" if region else "regioncache"


@contextlib.contextmanager
def unattended() -> Iterator[None]:
    """Ask for nobody: the request that is asked with has its answer, and its connection may carry another's by now."""
    token = _is_unattended.set(True)
    try:
        yield
    finally:
        _is_unattended.reset(token)


def is_unattended() -> bool:
    """Whether nobody waits at the connection of the request that is being asked with."""
    return _is_unattended.get()


async def ask(request: web.Request, handler: Handler, streaming: Streaming) -> web.StreamResponse:
    """Call the handler; a raised `HTTPException` is a response too.

    `streaming` hears of a response that the handler sends by itself; it may add to its headers, or raise.
    """
    with streaming_too(streaming):
        try:
            return await handler(request)
        except web.HTTPException as answer:
            return answer


class streaming_too:  # noqa: N801 - a context manager
    """Hear of responses that handlers send by themselves, after whoever asks within this has heard of them."""

    __slots__ = ("_outer", "_streaming", "_token")

    def __init__(self, streaming: Streaming) -> None:
        self._streaming = streaming

    def __enter__(self) -> None:
        self._outer = _streaming.get()
        self._token = _heard_by(self._streaming if self._outer is None else self._tell)

    def __exit__(self, *_: object) -> None:
        _streaming.reset(self._token)

    def _tell(self, response: web.StreamResponse) -> None:
        self._streaming(response)
        if self._outer is not None:
            self._outer(response)


def _heard_by(streaming: Streaming) -> Token[Streaming | None]:
    return _streaming.set(streaming)


class UntypedStream(web.StreamResponse):
    """A response without a media type. aiohttp would give it one, and so keep the client from finding out itself."""


class Whole(web.Response):
    """A response that is there as a whole: it is sent in one piece where nobody else has a word to say on it."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Send it as aiohttp would, if it is plain and goes to a connection that stays."""
        body = self.body or b""
        if not (isinstance(body, bytes) and self._is_plain(request) and takes_octets(request)):
            return await super().prepare(request)
        send_octets(self, request, head_of(self, len(body)), body)
        if request.protocol.writing_paused:
            await request.writer.drain()
        return request.writer

    def _is_plain(self, request: web.BaseRequest) -> bool:
        """Whether it is one with a length that nothing has been added to but fields."""
        is_changed = self.prepared or self._cookies or self.compression or self.chunked or self._keep_alive is not None
        is_whole = self.status >= 200 and self.status not in EMPTY_BODY_STATUS_CODES and request.method != "HEAD"
        is_described = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        return is_whole and not (is_changed or is_described or "Transfer-Encoding" in request.headers)


def head_of(response: web.Response, length: int) -> bytes:
    """Finish the fields of a response with a body of `length` octets as aiohttp does, but for cookies; write them."""
    headers = response.headers
    headers["Content-Length"] = str(length)
    if isinstance(response, UntypedStream):
        headers.popall("Content-Type", None)
    elif length:
        headers.setdefault("Content-Type", "application/octet-stream")
    if "Date" not in headers:
        headers["Date"] = rfc822_formatted_time()
    headers.setdefault("Server", SERVER_SOFTWARE)
    return _serialize_headers(f"HTTP/1.1 {response.status} {response.reason}", headers)


_Of = TypeVar("_Of", contravariant=True)


class Octets(Protocol[_Of]):
    """Responses of one kind as the octets that go out; what tells one from the other is given each time."""

    def octets(self, of: _Of, /) -> bytes:
        """The whole response."""
        ...

    def head(self, of: _Of, /) -> bytes:
        """The status line and the fields."""
        ...

    def ordinary(self, of: _Of, /) -> web.Response:
        """The response as a middleware sees it."""
        ...


class _Later:
    """What a `ReadyResponse` has once it is ordinary; without it `web.Response` would say that there is nothing."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, response: ReadyResponse | None, owner: type) -> Any:
        if response is None:
            return None
        response.become_ordinary()
        return response.__dict__.get(self._name)


class ReadyResponse(web.Response):
    """A response whose octets are there; an ordinary one as soon as anybody looks at it or changes it.

    It is `made` `of` what it is told. What `web.Response` keeps of itself comes into being when it is asked for.
    """

    __http_exception__ = False
    _body = _Later()
    _cookies = _Later()

    def __init__(self, made: Octets[_Of], of: _Of) -> None:
        self._made = made
        self._of = of

    def __getattr__(self, name: str) -> Any:
        # What an instance of web.Response has and this one does not yet.
        if name.startswith("__") or "_headers" in self.__dict__:
            raise AttributeError(name)
        self.become_ordinary()
        return getattr(self, name)

    def become_ordinary(self) -> None:
        """Have all that `web.Response` has; what has been changed already stays."""
        if "_headers" in self.__dict__:
            return
        self.__dict__.update({**vars(self._made.ordinary(self._of)), **self.__dict__})

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Send it as it is, if nobody has touched it and the connection is one that it was made ready for."""
        if len(self.__dict__) != 2 or not takes_octets(request):
            return await super().prepare(request)
        octets = self._made.head(self._of) if request.method == "HEAD" else self._made.octets(self._of)
        send_octets(self, request, octets, b"")
        if request.protocol.writing_paused:
            await request.writer.drain()
        return request.writer


def takes_octets(request: web.BaseRequest) -> bool:
    """Whether a response may go to a request as octets: as HTTP/1.1 that stays, and with no signal to be heard."""
    message = request._message
    if message.version != HttpVersion11 or message.should_close or not isinstance(request, web.Request):
        return False
    if _streaming.get() is not None:  # somebody wants to hear of the responses that are sent now
        return False
    for app in request.match_info.apps:  # as `hooks_of`, without lists: every hit comes here
        hooks = app.on_response_prepare
        if len(hooks) == 1 and hooks[0] is on_response_prepare:
            continue
        for hook in hooks:
            if hook is not on_response_prepare and _is_due(hook):
                return False
    return True


def send_octets(response: web.StreamResponse, request: web.BaseRequest, head: bytes, body: bytes) -> None:
    """Send a whole response to a request that takes octets, and note that it has been.

    Wait for its `writer.drain()` where `protocol.writing_paused`.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ClientConnectionResetError("Cannot write to closing transport")
    if len(body) <= _JOINED:
        transport.write(head + body if body else head)
    else:
        transport.write(head)
        transport.write(body)
    response._keep_alive = True
    response._eof_sent = True
    response._body_length = len(head) + len(body)


class _Untyped(Whole, UntypedStream):
    """The same without a media type."""


async def on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Tell whoever asked that a handler sends its response by itself; take back a media type that aiohttp made up.

    The connection ends with the answer to a chunked request: aiohttp's parser takes its last trailer field for one of
    the request that follows, which a proxy may send for somebody else.
    """
    if "Transfer-Encoding" in request.headers:
        response.force_close()
        response.headers["Connection"] = "close"  # aiohttp has made the fields already
    if (streaming := _streaming.get()) is not None:
        streaming(response)
    if isinstance(response, UntypedStream):
        response.headers.popall("Content-Type", None)


def heard_if(is_due: Callable[[], bool]) -> Callable[[Hook], Hook]:
    """Mark an `on_response_prepare` handler of ours that has something to say only when something is so."""

    def marked(hook: Hook) -> Hook:
        vars(hook)[_IS_DUE] = is_due
        return hook

    return marked


def hooks_of(request: web.Request) -> list[Hook]:
    """The `on_response_prepare` handlers that have a word to say on the response to a request, without our own."""
    found: list[Hook] = []
    for app in request.match_info.apps:
        found += app.on_response_prepare
    return [hook for hook in found if hook is not on_response_prepare and _is_due(hook)]


def _is_due(hook: Hook) -> bool:
    is_due: Callable[[], bool] | None = getattr(hook, _IS_DUE, None)
    return is_due is None or is_due()


async def ask_marked(request: web.Request, handler: Handler, status: str) -> web.StreamResponse:
    """Call the handler and add `Cache-Status` to its answer, also to one that it sends by itself."""
    response = await ask(request, handler, lambda streamed: mark(streamed, status))
    return as_it_came(with_status(response, status))


def respond(
    status: int, reason: str, headers: Iterable[tuple[str, str]], body: bytes, *, extra: Iterable[tuple[str, str]] = ()
) -> web.Response:
    """Make a new response; aiohttp counts its length itself."""
    fields = CIMultiDict(remove(list(headers), {"content-length", "transfer-encoding", *OWN_FIELDS}))
    fields.extend(extra)
    return typed_as_given(status, reason, fields, body)


def unmodified(headers: Headers, *, extra: Iterable[tuple[str, str]] = ()) -> web.Response:
    """Make the 304 for a client that has the response with these fields already (RFC 9110 section 15.4.5)."""
    return respond(304, "Not Modified", conditional.headers_for_304(headers), b"", extra=extra)


def typed_as_given(status: int, reason: str | None, headers: CIMultiDict[str], body: bytes) -> web.Response:
    """Make a response that has no media type when `headers` has none (RFC 9110 section 8.3)."""
    kind = Whole if "Content-Type" in headers else _Untyped
    return kind(status=status, reason=reason or None, headers=headers, body=body or None)


def with_status(response: web.StreamResponse, status: str) -> web.StreamResponse:
    """Add our `Cache-Status` to an answer of the origin; to one that is on its way already nothing can be added."""
    if not response.prepared:
        mark(response, status)
    return response


def mark(response: web.StreamResponse, status: str) -> None:
    """Add our `Cache-Status`, and keep back the fields that are for nobody but us (RFC 9213 section 2.3)."""
    response.headers.add(CACHE_STATUS, status)
    for name in OWN_FIELDS:
        response.headers.popall(name, None)


def as_it_came(response: web.StreamResponse) -> web.StreamResponse:
    """Return a response, or raise an `HTTPException`: aiohttp wants none returned, even if a handler does."""
    if isinstance(response, Exception):  # a web.HTTPException, told from others faster
        raise response
    return response
