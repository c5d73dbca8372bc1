"""Send stored writes to the origin, once: one by itself, or several in one request."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import secrets
import time
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from ..origins.origins import Origins, Way
from ..principal import Signer
from ..records import WriteRecord, from_wire
from ..replays import REPLAY_HEADER, Replay, sign_replay, with_loop_mark
from ..rules import BulkItem, BulkRequest
from ..semantics.fields import HOP_BY_HOP, Headers, end_to_end
from ..settings import Sync
from ..store.breaker import Breaker
from ..upstream import Upstream
from .outcome import Attempt, Failure, is_failing

logger = logging.getLogger(__name__)

ANSWER_BYTES: Final = 64 * 1024
"""Bytes of the origin's answer that are kept; of a longer one no body is."""

_LARGE: Final = 1024 * 1024

# What belongs to the connection, what the client sets itself, and what made sense only before the write was taken.
_OWN_FIELDS: Final = frozenset({"host", "content-length", "expect", "idempotency-key", "prefer", REPLAY_HEADER.lower()})
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})


class _Request(NamedTuple):
    """What goes out; `limit` is the bytes of the answer that are kept."""

    method: str
    endpoint: str
    headers: Headers
    body: bytes
    limit: int


class Sender:
    """Send writes to the origin of their site.

    `upstream` is where that is, `name` this deployment in `CDN-Loop`, `site` the site's id, empty for the origin of the
    settings, which alone gets the service's credential. All loops of an edge share one sender, and so `slots`, the
    requests that the origin gets at once, and `breaker`, which opens when it fails. Writes that must not be repeated
    go over connections of their own: one that the origin has closed meanwhile would leave their fate unknown.
    """

    def __init__(
        self,
        origins: Origins,
        upstream: Upstream,
        signer: Signer,
        name: str,
        settings: Sync | None = None,
        *,
        site: str = "",
    ) -> None:
        settings = settings or Sync()
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_seconds)
        self._origins = origins
        self._upstream = upstream
        self._path = upstream.path
        self._host = site or URL(upstream.addresses[0].url).host
        self._signer = signer
        self._name = name
        self._site = site
        self._service = None if site else settings.authorization
        self._dropped = HOP_BY_HOP | _OWN_FIELDS | (_CREDENTIALS if self._service is not None else frozenset())

    def note_health(self, attempt: Attempt) -> None:
        """Learn from an attempt whether the origin takes writes; what it comes to is told once."""
        was_out = self.breaker.is_open or self.breaker.is_half_open
        if is_failing(attempt):
            self.breaker.failed()
        else:
            self.breaker.succeeded()
        if self.breaker.is_open and not was_out:
            logger.warning("%s: writes wait: %s", self._host, attempt.problem or f"status {attempt.status}")
        elif was_out and not self.breaker.remaining and not self.breaker.is_half_open:
            logger.warning("%s: the origin takes writes again", self._host)

    @property
    def is_suspect(self) -> bool:
        """Whether what it refuses now may be no fault of the write."""
        return self.breaker.is_open or self.breaker.is_half_open

    async def send(self, write: WriteRecord, body: bytes, seq: int, fence: str, timeout: float) -> Attempt:
        """Send one write; redirects are not followed. `timeout` is seconds. Never raises for what the origin does."""
        request = _Request(
            write.method, write.endpoint, [*self._headers(write, seq, fence), _key(write)], body, ANSWER_BYTES
        )
        host = urlsplit(write.url).netloc if self._upstream.keeps_host else None
        return await self._send(request, host, timeout, reuse=write.repeatable)

    def item(self, write: WriteRecord, body: bytes, seq: int, fence: str) -> BulkItem:
        """Describe a write as it goes into a bulk request."""
        headers = self._headers(write, seq, fence)
        return BulkItem(write.method, self._path + write.endpoint, headers, body, write.idempotency_key)

    async def send_bulk(self, endpoint: str, request: BulkRequest, count: int, timeout: float) -> Attempt:
        """Send `count` writes in one request. `timeout` is seconds. Never raises for what the origin does."""
        replay = Replay(secrets.token_hex(16), count, "bulk", int(time.time()))
        mark = sign_replay(self._signer, replay, request.method, self._path + endpoint, self._site)
        headers = [("Content-Type", request.content_type), ("Accept-Encoding", "identity"), (REPLAY_HEADER, mark)]
        if self._service is not None:
            headers.append(("Authorization", self._service))
        asked = _Request(request.method, endpoint, headers, request.body, count * ANSWER_BYTES)
        return await self._send(asked, None, timeout)

    async def _send(self, request: _Request, host: str | None, timeout: float, *, reuse: bool = True) -> Attempt:
        """Send a request to the first address of the origin that can be connected to."""
        deadline = time.monotonic() + timeout
        attempt = Attempt(failure=Failure.NOT_SENT, problem="the origin cannot be reached")
        for way in self._origins.ways(self._upstream, host):
            attempt = await self._ask(way, request, timeout, reuse=reuse)
            if attempt.failure is not Failure.NOT_SENT:
                break
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                break
        return attempt

    async def _ask(self, way: Way, request: _Request, timeout: float, *, reuse: bool) -> Attempt:
        host = [] if way.host is None else [("Host", way.host)]
        try:
            async with way.session(reuse=reuse).request(
                request.method,
                way.url(request.endpoint),
                headers=CIMultiDict(with_loop_mark([*host, *request.headers], self._name)),
                data=_payload(request.body),
                allow_redirects=False,
                timeout=_seconds(timeout),
                middlewares=(_Once(),),
                **way.tls,
            ) as response:
                answer = await _whole(response.content, request.limit)
                way.note(response.status)
                return Attempt(response.status, tuple(response.headers.items()), answer)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, aiohttp.ConnectionTimeoutError) as error:
            way.note_failure(error)
            logger.debug("%s %s: %s", request.method, request.endpoint, error)  # a status page need not show addresses
            return Attempt(failure=Failure.NOT_SENT, problem="the origin cannot be reached")
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            way.note_failure(error)
            logger.debug("%s %s: %s", request.method, request.endpoint, str(error) or type(error).__name__)
            return Attempt(failure=Failure.NO_ANSWER, problem="the origin did not answer")

    def _headers(self, write: WriteRecord, seq: int, fence: str) -> list[tuple[str, str]]:
        """The end-to-end fields of a write with its mark, and the service's credential in place of any other."""
        kept = self._kept(from_wire(write.headers))
        if self._service is not None:
            kept.append(("Authorization", self._service))
        endpoint = self._path + write.endpoint
        replay = Replay(write.id, seq, fence, int(time.time()))
        mark = sign_replay(self._signer, replay, write.method, endpoint, self._site)
        kept.append((REPLAY_HEADER, mark))
        return kept

    def _kept(self, headers: Headers) -> list[tuple[str, str]]:
        names = [name.lower() for name, _ in headers]
        if "connection" in names:  # it may name more
            headers = end_to_end(headers)
            names = [name.lower() for name, _ in headers]
        return [line for line, name in zip(headers, names, strict=True) if name not in self._dropped]


@functools.lru_cache(maxsize=64)
def _seconds(timeout: float) -> aiohttp.ClientTimeout:
    """Most attempts have the same time."""
    return aiohttp.ClientTimeout(total=timeout)


def _key(write: WriteRecord) -> tuple[str, str]:
    return ("Idempotency-Key", f'"{write.idempotency_key}"')


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """A body as aiohttp likes it: large ones in pieces, so that they do not hold up the loop."""
    return io.BytesIO(body) if len(body) > _LARGE else body or None


async def _whole(content: aiohttp.StreamReader, limit: int) -> bytes:
    pieces: list[bytes] = []
    left = limit + 1
    while left > 0:
        pieces.append(await content.read(left))
        left -= len(pieces[-1])
        if left > 0 and content.at_eof():
            return b"".join(pieces)
    return b""


class _SecondAttemptError(aiohttp.ClientError):
    """A request that aiohttp was about to send again."""


class _Once:
    """Let a request go out once: aiohttp repeats idempotent methods by itself when a connection breaks."""

    def __init__(self) -> None:
        self._sent = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._sent:
            raise _SecondAttemptError("the connection broke before the answer")
        self._sent = True
        return await handler(request)
