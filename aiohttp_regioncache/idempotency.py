"""`origin_idempotency`: an aiohttp origin that carries out the writes of one `Idempotency-Key` once.

After draft-ietf-httpapi-idempotency-key-header-07: the key is reserved before the work, and the answer is stored after
it, for whoever sends the same request again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets as random
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, Final, Protocol

import msgspec
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import ContentEncodingError
from redis.asyncio import Redis, RedisCluster

from .exchange import Handler, fingerprint_of, idempotency_key
from .keys import Target
from .principal import Signer, identity
from .problems import problem, unavailable
from .records import WirePairs, from_wire, to_wire
from .replays import REPLAY_HEADER, verify_replay
from .responses import respond
from .semantics.fields import Headers, end_to_end, first, remove
from .semantics.methods import is_safe
from .tasks import Tasks

logger = logging.getLogger(__name__)

REPLAYED: Final = "Idempotency-Replayed"
"""Marks an answer that was given before."""
NOT_DONE: Final = frozenset({401, 403, 408, 425, 429})
"""Statuses that say come again with other credentials, or later: the key is free after them."""

_DAY: Final = 86_400.0
_MIB: Final = 1024 * 1024
_STORAGE_SECONDS: Final = 3.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_DRAIN_SECONDS: Final = 10.0
_NOT_STORED: Final = ("set-cookie", "content-length", "date", "server")

PrincipalSource = str | Callable[[web.Request], str | None] | None
"""Where the identity of a request is, as in `Rule.principal`."""
Held = tuple[str, bytes | None]
"""What stands under a key: the fingerprint of its request, and the answer, None while it is at work."""


class Storage(Protocol):
    """Where keys stand. Any object with these two methods will do; what they raise makes a 503."""

    async def reserve(self, key: str, fingerprint: str, owner: str, seconds: float) -> Held | None:
        """Reserve `key` for `owner` unless something stands there, in one atomic step.

        Returns None when it is `owner`'s now or was before, else what stands there. The reservation ends after
        `seconds`, so that a worker that died blocks nobody for ever.
        """

    async def finish(self, key: str, fingerprint: str, owner: str, answer: bytes | None, seconds: float) -> bool:
        """Put `answer` in the place of `owner`'s reservation for `seconds`, or take the reservation away when None.

        In one atomic step, harmless to repeat. An answer is also stored where nothing stands any more; what stands
        there of another owner stays, and False says so.
        """


class RedisStorage:
    """Keep keys in a Redis or Valkey >= 7.0, standalone or Cluster, under `prefix`.

    `client` decodes nothing; its timeouts and retries are its owner's, who also closes it. Raises `ValueError` for a
    client with `decode_responses`. The server's `maxmemory-policy` must not evict what has a lifetime.
    """

    _OWNER_LENGTH: Final = 32
    _FINISH: Final = f"""
        local owner = redis.call('GETRANGE', KEYS[1], 0, {_OWNER_LENGTH - 1})
        if owner ~= ARGV[1] and (owner ~= '' or ARGV[2] == '') then return 0 end
        if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
        redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
        return 1
    """

    def __init__(self, client: Redis | RedisCluster, *, prefix: str = "idempotency:") -> None:
        if client.get_encoder().decode_responses:
            raise ValueError("the client decodes answers; make it without decode_responses")
        self._client: Any = client  # untyped in redis-py as far as it is used here
        self._prefix = prefix

    async def reserve(self, key: str, fingerprint: str, owner: str, seconds: float) -> Held | None:
        """Reserve a key: one `SET NX GET`. Raises `redis.exceptions.RedisError` and `OSError`."""
        value = self._fixed(owner) + _encode((fingerprint, None))
        found = await self._client.set(self._prefix + key, value, nx=True, get=True, px=_milliseconds(seconds))
        if found is None or found.startswith(self._fixed(owner)):
            return None
        held: Held = _held.decode(found[self._OWNER_LENGTH :])
        return held

    async def finish(self, key: str, fingerprint: str, owner: str, answer: bytes | None, seconds: float) -> bool:
        """End a reservation: one script. Raises `redis.exceptions.RedisError` and `OSError`."""
        value = b"" if answer is None else _encode((fingerprint, answer))
        arguments = (self._prefix + key, self._fixed(owner), value, _milliseconds(seconds))
        return bool(await self._client.eval(self._FINISH, 1, *arguments))

    @classmethod
    def _fixed(cls, owner: str) -> bytes:
        return hashlib.blake2b(owner.encode(), digest_size=cls._OWNER_LENGTH // 2).hexdigest().encode()


class MemoryStorage:
    """Keep keys in this process: for tests, and for an origin that is one process and may forget them at a restart.

    Beyond `max_bytes` of answers the oldest ones are forgotten.
    """

    _OVERHEAD: Final = 512  # bytes, about what an answer costs beside its own

    def __init__(self, *, max_bytes: int = 64 * _MIB, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._reserved: dict[str, _Entry] = {}
        self._finished: dict[str, _Entry] = {}

    async def reserve(self, key: str, fingerprint: str, owner: str, seconds: float) -> Held | None:
        """Reserve a key."""
        found = self._find(key)
        if found is not None and found.owner != owner:
            return found.fingerprint, found.answer
        if found is None:
            self._reserved[key] = _Entry(fingerprint, owner, None, self._clock() + seconds)
        return None

    async def finish(self, key: str, fingerprint: str, owner: str, answer: bytes | None, seconds: float) -> bool:
        """End a reservation."""
        found = self._find(key)
        if found is not None and found.owner != owner:
            return False
        self._remove(key)
        if answer is not None:
            self._finished[key] = _Entry(fingerprint, owner, answer, self._clock() + seconds)
            self._bytes += len(answer) + self._OVERHEAD
            self._make_room()
        return found is not None or answer is not None

    def __len__(self) -> int:
        return len(self._reserved) + len(self._finished)

    def _find(self, key: str) -> _Entry | None:
        self._forget_reservations()
        found = self._reserved.get(key) or self._finished.get(key)
        if found is not None and found.ends <= self._clock():
            self._remove(key)
            return None
        return found

    def _remove(self, key: str) -> None:
        self._reserved.pop(key, None)
        removed = self._finished.pop(key, None)
        if removed is not None and removed.answer is not None:
            self._bytes -= len(removed.answer) + self._OVERHEAD

    def _forget_reservations(self) -> None:
        """Take away the oldest reservations that have ended: nobody may ask for them again."""
        while self._reserved:
            key = next(iter(self._reserved))
            if self._reserved[key].ends > self._clock():
                return
            self._remove(key)

    def _make_room(self) -> None:
        while self._finished:
            key = next(iter(self._finished))
            if self._bytes <= self._max_bytes and self._finished[key].ends > self._clock():
                return
            self._remove(key)


def origin_idempotency(
    app: web.Application,
    storage: Storage,
    *,
    secrets: Sequence[str] = (),
    principal: PrincipalSource = None,
    required: bool = False,
    seconds: float = 4 * _DAY,
    work_seconds: float = 60.0,
    max_answer: int = _MIB,
    release: Collection[int] = NOT_DONE,
    middleware_pos: int | None = None,
    include: Sequence[web.Application] = (),
) -> None:
    """Carry out the writes of an aiohttp origin once per `Idempotency-Key`.

    A request of an unsafe method that has the field reserves its key before the handler is called; what the handler
    answers is stored for `seconds`. The same request again gets that answer, marked `Idempotency-Replayed: true`,
    without `Set-Cookie`: it can be days old, and its session may have ended. While the first is at work a second gets
    409 with `Retry-After`; another content type or body under the same key gets 422, a field that is no one key of 1
    to 255 characters 400. Without the field a request passes, or gets 400 when it is `required`.

    A key counts for one principal, method and target. `principal` says where the identity is, as in `Rule`:
    `header:NAME`, `cookie:NAME`, or a function of the request; None: `Authorization` and all cookies. With `secrets`,
    those of the edges' settings, a replay that one of them signed counts by its key alone, which is one principal's
    already: credentials that change between two attempts do not double it.

    The key is free again after an exception, a status >= 500 or among `release`, or a 409 with `Retry-After`. The
    handler runs to its end when the client goes away. It has `work_seconds`: then its reservation ends, as that of a
    worker that died, and the next request is carried out beside it; give more than the longest one takes. The body is
    read as a whole before the handler, up to the application's `client_max_size`.

    An answer that is no `web.Response` of bytes, that the handler sends itself or that is longer than `max_answer`
    bytes is not kept. A repeated request is not carried out again all the same: it gets 200 with a JSON object that
    names the `status`, or a problem of the same status from 300 on.

    When `storage` fails, the answer is 503 with `Retry-After` and the handler is not called. Like `setup`, it handles
    what `app` itself or a sub-application in `include` answers, innermost or at `middleware_pos`. Call it after the
    `cleanup_ctx` of what handlers need was added: that is closed after the last of them has ended.

    Raises `ValueError` for a bad option, `RuntimeError` for an application that has been started.
    """
    if not (seconds > 0 and work_seconds > 0 and max_answer >= 0):
        raise ValueError("seconds and work_seconds must be more than 0, max_answer at least 0")
    if isinstance(principal, str) and not principal.startswith(("header:", "cookie:")):
        raise ValueError(f"principal={principal!r} is neither 'header:NAME' nor 'cookie:NAME'")
    guard = _Guard(
        storage,
        scope=_Scope(Signer(secrets) if secrets else None, principal),
        required=required,
        seconds=seconds,
        work_seconds=work_seconds,
        keeping=_Keeping(max_answer, frozenset(release)),
    )
    own = frozenset(id(application) for application in (app, *include))

    @web.middleware
    async def idempotency(request: web.Request, handler: Handler) -> web.StreamResponse:
        match = request.match_info
        if is_safe(request.method) or id(match.apps[-1]) not in own or match.http_exception is not None:
            return await handler(request)
        return await guard.handle(request, handler)

    async def context(_app: web.Application) -> AsyncIterator[None]:
        yield
        await guard.drain()

    app.middlewares.insert(len(app.middlewares) if middleware_pos is None else middleware_pos, idempotency)
    app.cleanup_ctx.append(context)


class _Entry(msgspec.Struct, frozen=True):
    """What `MemoryStorage` holds under a key; `ends` is its clock's time."""

    fingerprint: str
    owner: str
    answer: bytes | None
    ends: float


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A stored answer; `body` is None when it was not kept."""

    status: int
    reason: str
    headers: WirePairs
    body: bytes | None


class _Claim(msgspec.Struct, frozen=True):
    """A reservation: the key in the storage, the fingerprint of the request, and the random owner."""

    key: str
    fingerprint: str
    owner: str


class _Scope:
    """For whom and what a client's key counts."""

    def __init__(self, signer: Signer | None, principal: PrincipalSource) -> None:
        self._signer = signer
        self._principal = principal

    def key(self, request: web.Request, client_key: str) -> str:
        """The key in the storage: a hash, without the secrets, so that a rotation doubles nothing."""
        target = Target.of(request.scheme, request.host, request.rel_url.raw_path, request.rel_url.raw_query_string)
        mark = request.headers.get(REPLAY_HEADER)
        if verify_replay(self._signer, mark, request.method, target.endpoint, now=time.time()):
            return _hash("replay", client_key)
        return _hash("client", self._identity(request), request.method, target.url, client_key)

    def _identity(self, request: web.Request) -> str:
        source = self._principal
        found = source(request) if callable(source) else identity(request, source)
        return "anonymous" if found is None else f"known:{found}"


class _Keeping(msgspec.Struct, frozen=True):
    """Which answers are kept: `max_answer` bytes, none of the statuses `release`."""

    max_answer: int
    release: frozenset[int]

    def stored(self, response: web.StreamResponse) -> bytes | None:
        """An answer as it is stored; None when the key is to be free again."""
        headers = list(response.headers.items())
        if response.status >= 500 or response.status in self.release or _asks_again(response.status, headers):
            return None
        body = self._body(response)
        kept = [] if body is None else remove(end_to_end(headers), _NOT_STORED)
        return _encode(_Stored(response.status, response.reason or "", to_wire(kept), body))

    def _body(self, response: web.StreamResponse) -> bytes | None:
        if response.prepared or not isinstance(response, web.Response):
            return None
        body = b"" if response.body is None else response.body
        if not isinstance(body, (bytes, bytearray)) or len(body) > self.max_answer:
            return None
        return bytes(body)


class _Guard:
    """Reserve, call the handler, store."""

    def __init__(
        self,
        storage: Storage,
        *,
        scope: _Scope,
        required: bool,
        seconds: float,
        work_seconds: float,
        keeping: _Keeping,
    ) -> None:
        self._storage = storage
        self._scope = scope
        self._required = required
        self._seconds = seconds
        self._work_seconds = work_seconds
        self._keeping = keeping
        self._tasks = Tasks()

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one write."""
        try:
            key = idempotency_key(request)
        except ValueError as error:
            return _bad(str(error))
        if key is None:
            return await handler(request) if not self._required else _bad("This request needs an Idempotency-Key.")
        try:
            body = await request.read()
        except (web.RequestPayloadError, ContentEncodingError):
            return _bad("The body is not what its Content-Encoding says.")
        _rewind(request, body)
        claim = _Claim(self._scope.key(request, key), fingerprint_of(request, body), random.token_hex(16))
        try:
            held = await self._reserve(claim)
            if held is not None:
                return _answer_again(held, claim.fingerprint)
        except Exception:  # whatever a storage may raise
            logger.exception("the storage of idempotency keys failed")
            return unavailable("Whether this request was carried out before cannot be known now.")
        return await self._carry_out(request, handler, claim)

    async def drain(self) -> None:
        """Wait for the handlers that are at work."""
        await self._tasks.drain(_DRAIN_SECONDS)

    async def _carry_out(self, request: web.Request, handler: Handler, claim: _Claim) -> web.StreamResponse:
        task = self._tasks.spawn(self._work(request, handler, claim), "idempotent write")
        if task is None:
            await self._finish(claim, None)
            return unavailable("Too many writes are at work.")
        try:
            outcome: web.StreamResponse | Exception = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)  # nobody else hears of it
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _work(self, request: web.Request, handler: Handler, claim: _Claim) -> web.StreamResponse | Exception:
        """Call the handler and store its answer; what it raises comes back, `HTTPException` among it."""
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            response = answer
        except Exception as error:
            await self._finish(claim, None)
            return error
        await self._finish(claim, self._keeping.stored(response))
        return response

    async def _reserve(self, claim: _Claim) -> Held | None:
        async with asyncio.timeout(_STORAGE_SECONDS):
            return await self._storage.reserve(claim.key, claim.fingerprint, claim.owner, self._work_seconds)

    async def _finish(self, claim: _Claim, answer: bytes | None) -> None:
        """End a reservation; in the background when the storage cannot now: the work is done, its answer may go."""
        if not await self._try_finish(claim, answer):
            logger.warning("the end of an idempotent write cannot be stored now")
            self._tasks.spawn(self._finish_later(claim, answer), "store an answer")

    async def _finish_later(self, claim: _Claim, answer: bytes | None) -> None:
        deadline, pause = time.monotonic() + self._seconds, _FIRST_PAUSE
        if answer is None:  # it ends by itself
            deadline = time.monotonic() + self._work_seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(pause)
            if await self._try_finish(claim, answer):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try_finish(self, claim: _Claim, answer: bytes | None) -> bool:
        try:
            async with asyncio.timeout(_STORAGE_SECONDS):
                ended = await self._storage.finish(claim.key, claim.fingerprint, claim.owner, answer, self._seconds)
        except Exception as error:
            logger.debug("the end of an idempotent write could not be stored: %r", error)
            return False
        if not ended:
            logger.warning("a write took longer than %s s; its idempotency key is another's", self._work_seconds)
        return True


_encode = msgspec.msgpack.Encoder().encode
_held = msgspec.msgpack.Decoder(Held)
_stored = msgspec.msgpack.Decoder(_Stored)


def _answer_again(held: Held, fingerprint: str) -> web.Response:
    """Answer a request whose key is taken. Raises `msgspec.MsgspecError` for an answer that cannot be read."""
    known, answer = held
    if known != fingerprint:
        return problem(422, "Unprocessable Content", "This Idempotency-Key was used for another request.")
    if answer is None:
        detail = "A request with this Idempotency-Key is at work."
        return problem(409, "Conflict", detail, headers={"Retry-After": "1"})
    stored = _stored.decode(answer)
    response = _unkept(stored) if stored.body is None else _kept(stored, stored.body)
    response.headers[REPLAYED] = "true"
    return response


def _kept(stored: _Stored, body: bytes) -> web.Response:
    return respond(stored.status, stored.reason, from_wire(stored.headers), body)


def _unkept(stored: _Stored) -> web.Response:
    """Say that a request was carried out whose answer is gone (RFC 9110 section 15.3.1: the status of the action)."""
    detail = f"This request was carried out before with status {stored.status}; its answer was not kept."
    if stored.status >= 300:
        return problem(stored.status, stored.reason or "Carried Out", detail)
    return web.json_response({"status": stored.status, "detail": detail}, headers={"Cache-Control": "no-store"})


def _asks_again(status: int, headers: Headers) -> bool:
    return status == 409 and first(headers, "Retry-After") is not None


def _rewind(request: web.Request, body: bytes) -> None:
    """Let the handler read the body that has been read as a stream too: forms of several parts are read so."""
    if body:
        content = StreamReader(request.protocol, limit=len(body), loop=asyncio.get_running_loop())
        content.feed_data(body)
        content.feed_eof()
        request._payload = content


def _hash(*parts: str) -> str:
    octets = [part.encode("utf-8", "surrogateescape") for part in parts]
    return hashlib.sha256(_encode(octets)).hexdigest()


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _bad(detail: str) -> web.Response:
    return problem(400, "Bad Request", detail)


def _log_failure(task: asyncio.Task[Any]) -> None:
    outcome = None if task.cancelled() else task.result()
    if isinstance(outcome, Exception) and not isinstance(outcome, web.HTTPException):
        logger.error("a write failed after its client had gone", exc_info=outcome)
