"""The signed webhook `POST /_regioncache/sync`: it wakes the sync loops and tells how much they drained."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from ..errors import RegionUnavailableError, SettingsError
from ..exchange import read_body
from ..problems import problem
from ..settings import Webhook
from ..store import queue
from ..store.region import RegionStore
from ..sync.loop import SyncLoop

if TYPE_CHECKING:
    import standardwebhooks

MAX_BODY: Final = 1024 * 1024
"""Bytes of the longest call."""
STANDARD_SECONDS: Final = 300
"""How far the time of a Standard Webhooks call may be from ours."""
MOMENTO_SECONDS: Final = 60
"""How far the `publish_timestamp` of a Momento call may be from ours."""
_KEY_OCTETS: Final = 16
_LOOK_SECONDS: Final = (0.02, 0.25)


class Verifier:
    """Tell signed calls from others, by every secret of the settings.

    Raises `SettingsError` for secrets that are none, and for those of Standard Webhooks when its package is missing.
    """

    def __init__(self, settings: Webhook) -> None:
        self._standard = _standard_keys(settings.secrets)
        self._momento = _momento_keys(settings.momento_secrets)

    @property
    def is_configured(self) -> bool:
        """Whether there is any secret, without which nobody can call."""
        return bool(self._standard or self._momento)

    def refusal(self, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
        """Say why a call is refused; None for one that any secret signed. `now` is seconds since the epoch.

        `headers` are found in any case. Sources: the Standard Webhooks specification 1.0, Momento's webhook page.
        """
        if "webhook-signature" in headers:
            return self._refuse_standard(headers, body, now)
        if "momento-signature" in headers:
            return self._refuse_momento(headers["momento-signature"], body, now)
        return "The call is not signed."

    def _refuse_standard(self, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
        name, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not (name and name.isascii()) or not (moment.isascii() and moment.isdecimal() and len(moment) <= 12):
            return "webhook-id or webhook-timestamp is malformed."
        if abs(now - int(moment)) > STANDARD_SECONDS:
            return "webhook-timestamp is too far from now."
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return "The body is no UTF-8."
        stamp = datetime.fromtimestamp(int(moment), UTC)
        made = [key.sign(name, stamp, text) for key in self._standard]
        given = headers["webhook-signature"].split(" ")
        return None if _is_any(given, made) else "No secret of ours made this signature."

    def _refuse_momento(self, given: str, body: bytes, now: float) -> str | None:
        made = [hmac.new(key, body, hashlib.sha3_256).hexdigest() for key in self._momento]
        if not _is_any([given.lower()], made):
            return "No secret of ours made this signature."
        try:
            published = _published.decode(body).publish_timestamp / 1000
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "The body has no publish_timestamp."
        return None if abs(now - published) <= MOMENTO_SECONDS else "publish_timestamp is too far from now."


class SyncHook:
    """What a call does: wake the loops of this edge, and wait a bounded time until its regions have nothing pending.

    `loops` gives the loops that run. Raises `SettingsError` as `Verifier` does.
    """

    def __init__(
        self, settings: Webhook, stores: Sequence[RegionStore], loops: Callable[[], Sequence[SyncLoop]]
    ) -> None:
        self._verifier = Verifier(settings)
        self._wait = settings.wait
        self._stores = stores
        self._loops = loops

    @property
    def is_configured(self) -> bool:
        """Whether anybody can call."""
        return self._verifier.is_configured

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a call: JSON `{"drained": writes, "left": writes}`; 503 when a region cannot be asked."""
        if request.method != "POST":
            return problem(405, "Method Not Allowed", "This page is called with POST.", headers={"Allow": "POST"})
        try:
            body = await read_body(request, MAX_BODY)
        except (web.RequestPayloadError, ContentEncodingError):
            return problem(400, "Bad Request", "The body is not what its Content-Encoding says.")
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "Content Too Large", f"A call has at most {MAX_BODY} bytes.")
        refusal = self._verifier.refusal(request.headers, body, time.time())
        if refusal is not None:
            return problem(401, "Unauthorized", refusal, headers={"WWW-Authenticate": "Signature"})
        return await self._drain()

    async def _drain(self) -> web.Response:
        before = self._settled()
        for loop in self._loops():
            loop.wake()
        left, unreachable = await self._until_drained()
        drained = self._settled() - before
        if unreachable:
            detail = f"The queue of {', '.join(unreachable)} cannot be asked."
            return problem(503, "Service Unavailable", detail, headers={"Retry-After": "1"}, drained=drained, left=left)
        return web.json_response({"drained": drained, "left": left}, headers={"Cache-Control": "no-store"})

    async def _until_drained(self) -> tuple[int, list[str]]:
        """Wait until nothing is pending, at most the time set; returns what is left, and who cannot be asked."""
        deadline, (pause, longest) = time.monotonic() + self._wait, _LOOK_SECONDS
        while True:
            left, unreachable = await self._pending()
            remaining = deadline - time.monotonic()
            if not left or remaining <= 0:
                return left, unreachable
            await asyncio.sleep(min(pause, remaining))
            pause = min(2 * pause, longest)

    async def _pending(self) -> tuple[int, list[str]]:
        depths = await asyncio.gather(*(_pending_in(store) for store in self._stores))
        unreachable = [store.name for store, left in zip(self._stores, depths, strict=True) if left is None]
        return sum(left or 0 for left in depths), unreachable

    def _settled(self) -> int:
        return sum(loop.settled.total() for loop in self._loops())


class _Published(msgspec.Struct, frozen=True):
    publish_timestamp: int | float
    """Milliseconds since the epoch."""


_published = msgspec.json.Decoder(_Published)


async def _pending_in(store: RegionStore) -> int | None:
    """How many writes are pending in a region; None when it cannot be asked."""
    try:
        depths = await asyncio.gather(*(queue.depth(store, partition) for partition in store.partitions))
    except RegionUnavailableError:
        return None
    return sum(depth.writes for depth in depths)


def _is_any(given: Sequence[str], made: Sequence[str]) -> bool:
    """Whether one of the signatures given is one of those made; each pair is compared in constant time."""
    octets = [one.encode("utf-8", "surrogateescape") for one in given]
    return any(hmac.compare_digest(one, other.encode()) for one in octets for other in made)


def _standard_keys(secrets: Sequence[str]) -> list[standardwebhooks.Webhook]:
    if not secrets:
        return []
    try:
        from standardwebhooks import Webhook as StandardWebhook
    except ImportError:
        problem = "needs the package standardwebhooks: pip install 'aiohttp-regioncache[webhook]'"
        raise SettingsError("webhook.secrets", problem) from None
    return [StandardWebhook(_standard_octets(secret)) for secret in secrets]


def _standard_octets(secret: str) -> bytes:
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise SettingsError("webhook.secrets", "one is no base64 with or without whsec_ before it") from None
    if len(octets) < _KEY_OCTETS:
        raise SettingsError("webhook.secrets", f"one has {len(octets)} octets; at least {_KEY_OCTETS}")
    return octets


def _momento_keys(secrets: Sequence[str]) -> list[bytes]:
    shortest = min(map(len, secrets), default=_KEY_OCTETS)
    if shortest < _KEY_OCTETS:
        raise SettingsError("webhook.momento_secrets", f"one has {shortest} characters; at least {_KEY_OCTETS}")
    return [secret.encode("utf-8", "surrogateescape") for secret in secrets]
