"""Send a stored write to the origin, once."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from ..keys import normalize_path
from ..principal import Signer
from ..records import WriteRecord, from_wire
from ..replays import REPLAY_HEADER, Replay, sign_replay, with_loop_mark
from ..semantics.fields import end_to_end, remove
from .outcome import Attempt, Failure

logger = logging.getLogger(__name__)

ANSWER_BYTES: Final = 64 * 1024
"""Bytes of the origin's answer that are kept; of a longer one no body is."""

_LARGE: Final = 1024 * 1024

# What belongs to the connection, what the client sets itself, and what made sense only before the write was taken.
_OWN_FIELDS: Final = frozenset({"host", "content-length", "expect", "idempotency-key", "prefer", REPLAY_HEADER.lower()})


class Sender:
    """Send writes to the origin of their site.

    `origin` is its address, `name` this deployment in `CDN-Loop`.
    """

    def __init__(self, session: aiohttp.ClientSession, origin: str, signer: Signer, name: str) -> None:
        self._session = session
        self._origin = origin.rstrip("/")
        self._base = normalize_path(URL(self._origin).raw_path).rstrip("/")
        self._signer = signer
        self._name = name

    async def send(self, write: WriteRecord, body: bytes, seq: int, fence: str, timeout: float) -> Attempt:
        """Send one write; redirects are not followed. `timeout` is seconds. Never raises for what the origin does."""
        try:
            async with self._session.request(
                write.method,
                URL(self._origin + write.endpoint, encoded=True),
                headers=self._headers(write, seq, fence),
                data=_payload(body),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                answer = await _whole(response.content)
                headers = tuple((name, value) for name, value in response.headers.items())
                return Attempt(response.status, headers, answer)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, aiohttp.ConnectionTimeoutError) as error:
            logger.debug("write %s: %s", write.id, error)  # its page is for the writer, who need not know addresses
            return Attempt(failure=Failure.NOT_SENT, problem="the origin cannot be reached")
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            logger.debug("write %s: %s", write.id, str(error) or type(error).__name__)
            return Attempt(failure=Failure.NO_ANSWER, problem="the origin did not answer")

    def _headers(self, write: WriteRecord, seq: int, fence: str) -> CIMultiDict[str]:
        kept = remove(end_to_end(from_wire(write.headers)), _OWN_FIELDS)
        endpoint = self._base + write.endpoint
        mark = sign_replay(self._signer, Replay(write.id, seq, fence, int(time.time())), write.method, endpoint)
        marked = [*kept, ("Idempotency-Key", f'"{write.idempotency_key}"'), (REPLAY_HEADER, mark)]
        return CIMultiDict(with_loop_mark(marked, self._name))


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """A body as aiohttp likes it: large ones in pieces, so that they do not hold up the loop."""
    return io.BytesIO(body) if len(body) > _LARGE else body or None


async def _whole(content: aiohttp.StreamReader) -> bytes:
    try:
        await content.readexactly(ANSWER_BYTES + 1)
    except asyncio.IncompleteReadError as error:
        return error.partial
    return b""


def client_session() -> aiohttp.ClientSession:
    """Make the client session for an origin: no cookies kept, nothing decoded or added."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
