"""Send the same octets to an edge with and without its fast ways, and give both answers to the octet."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

import aiohttp_regioncache as regioncache
from aiohttp_regioncache.gateway.protocol import FastHandler, GatewayRunner
from aiohttp_regioncache.origins.letters import Answer
from aiohttp_regioncache.reads.ready import Ready
from aiohttp_regioncache.semantics.dates import format_date
from aiohttp_regioncache.settings import Cache
from tests.support import eventually
from tests.support.world import World, forwarding_app

FRESH: Final = {"Cache-Control": "public, max-age=3600", "Date": format_date(time.time())}
LAST: Final = b"GET /plain/last HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
"""Ends a connection, and shows what state the ones before it have left it in."""
WITHIN: Final = 10.0
MOST_PLAYS: Final = 9
_DATE: Final = re.compile(rb"\r\nDate: [^\r]*")


class Script(NamedTuple):
    """What a client sends, piece by piece; `slow`: it reads nothing before it has sent everything."""

    pieces: tuple[bytes, ...]
    slow: bool = False


class Came(NamedTuple):
    """All that came back on a connection. What the server had not read when it ended may have cut off the end."""

    octets: bytes
    is_cut: bool

    def agrees(self, other: Came) -> bool:
        """Whether both are the same, as far as they came."""
        if not (self.is_cut or other.is_cut):
            return self.octets == other.octets
        return self.octets.startswith(other.octets) or other.octets.startswith(self.octets)


class Answers(NamedTuple):
    """The answers to a script: all that it got the normal way, and those of the fast way, when the plans are there.

    The normal way gives several where a response that is being stored keeps others out of memory at that moment.
    """

    normal: frozenset[Came]
    fast: tuple[Came, Came]

    @property
    def are_same(self) -> bool:
        """Whether the fast way says what the normal way says."""
        return all(any(each.agrees(other) for other in self.normal) for each in self.fast)


_KINDS: Final[dict[str, dict[str, str]]] = {
    "vary": {"Vary": "Accept-Encoding, Accept-Language"},
    "agents": {"Vary": "User-Agent"},
    "tagged": {"ETag": '"one"', "Last-Modified": "Sun, 01 Jan 2023 00:00:00 GMT", "Server": "origin"},
    "never": {"Cache-Control": "no-store"},
    "missing": {"Cache-Control": "no-store"},
    "chunks": {"Cache-Control": "no-store"},
    "endless": {"Cache-Control": "no-store"},
    "cookies": {"Cache-Control": "private"},
    "failing": {"Cache-Control": "no-store", "ETag": '"one"'},
    "none": {"Cache-Control": "no-store"},
    "stale": {"Cache-Control": "max-age=1", "Age": "600"},
}
_STATUSES: Final = {"gone": 410, "nothing": 204, "none": 204, "missing": 404, "failing": 500}


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer with what the first segment of the path says."""
    kind = request.path.split("/")[1]
    headers = [*(FRESH | _KINDS.get(kind, {})).items()]
    if kind == "twice":
        headers += [("X-A", "1"), ("x-a", "2"), ("Link", "<b>")]
    asked = (
        [request.headers.get(name, "") for name in ("User-Agent", "Accept-Language")] if "Vary" in dict(headers) else []
    )
    if kind == "cookies":
        headers += [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("Connection", "X-Hidden"), ("X-Hidden", "1")]
    times = {"large": 20_000, "endless": 100_000}.get(kind, 1)
    body = f"{request.method} {request.path_qs} {asked}".encode() * times
    response = web.Response(body=b"" if kind in ("empty", "nothing", "none") else body, status=_STATUSES.get(kind, 200))
    response.headers.extend(headers)
    if kind != "failing":
        response.headers["Content-Type"] = "text/plain"
    if kind == "chunks":
        response.enable_chunked_encoding()
    return response


class Pair:
    """`async with Pair(tmp_path, "gateway", memory_seconds=60) as pair`: `await pair.answers(script)`.

    The fast way is that of the `gateway`, inside the protocol, or of the `plugin`, in a middleware of `app`.
    `sent` counts its answers, and `handed_over` those of the origin that it left to the normal way.
    """

    def __init__(
        self,
        directory: Path,
        way: str,
        *,
        memory_seconds: float,
        app: web.Application | None = None,
        keepalive: float = 3630.0,
        **settings: Any,
    ) -> None:
        self._keepalive = keepalive
        self._way = way
        self._app = app or forwarding_app()
        self._world = World(directory, regions=("eu-central-1",))
        self._memory_seconds = memory_seconds
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self.sent = 0
        self.handed_over = 0
        self._is_fast = True
        self._taken = 0
        self._has_ended = False
        self.runner: GatewayRunner

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._world)
        origin = await self._stack.enter_async_context(_served(answer))
        cache = regioncache.setup(
            self._app,
            self._world.settings(
                origin=origin,
                cache=Cache(memory_seconds=self._memory_seconds),
                **({"rules": (), "trusted_proxies": ()} | self._settings),
            ),
        )
        assert cache is not None
        self.cache = cache
        ways = cache.ways if self._way == "gateway" else None
        self.runner = GatewayRunner(
            self._app, ways, None, access_log=None, shutdown_timeout=1.0, keepalive_timeout=self._keepalive
        )
        await self.runner.setup()
        self._stack.push_async_callback(self.runner.cleanup)
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        (self.store,) = cache.stores.values()
        await eventually(lambda: self.store.is_checked and self.store.events.is_connected)
        now = self.store.now() + 100
        vars(self.store)["now"] = lambda: now  # what is said of times is the same in both answers
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _listen(self) -> None:
        """Count what the connections take, when they end, and which answers the fast way gives."""

        def counted(kind: type, name: str, count: Callable[..., None]) -> None:
            method = getattr(kind, name)

            def counting(own: Any, *arguments: Any) -> Any:
                count(*arguments)
                return method(own, *arguments)

            setattr(kind, name, counting)
            self._stack.callback(setattr, kind, name, method)

        def sent(*_: object) -> None:
            self.sent += self._is_fast

        def passed(_plan: object, _data: object, _message: object, outcome: object) -> None:
            self.handed_over += isinstance(outcome, Answer)

        def taken(data: bytes) -> None:
            self._taken += len(data)

        def lost(*_: object) -> None:
            self._has_ended = True

        handler = RequestHandler if self.runner.gate is None else FastHandler
        if self.runner.gate is None:
            counted(Ready, "octets", sent)
            counted(Ready, "head", sent)
        else:
            counted(FastHandler, "_send", sent)
            counted(FastHandler, "_told", passed)
        counted(handler, "data_received", taken)
        counted(handler, "connection_lost", lost)

    def _take_fast_way(self, is_fast: bool) -> None:
        self._is_fast = is_fast
        if self.runner.gate is not None:
            self.runner.gate.is_open = is_fast
        plans = self.cache.edge.plans
        vars(plans).pop("find", None)
        if not is_fast:
            vars(plans)["find"] = lambda _request: None

    async def _has_taken(self, octets: int, script: Script) -> None:
        """Wait until what was sent has been taken, so that it is not cut in another way each time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (0.05 if script.slow else WITHIN)  # who does not read is not read from at some point
        while self._taken < octets and not self._has_ended and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def answers(self, script: Script) -> Answers:
        """Play a script until nothing new is stored, then both ways."""
        self._take_fast_way(False)
        plays = [await self.play(script) for _ in range(3)]
        while len(set(plays[-3:])) > 1 and len(plays) < MOST_PLAYS:
            plays.append(await self.play(script))
        self._take_fast_way(True)
        fast = (await self.play(script), await self.play(script))
        if not Answers(frozenset(plays[-3:]), fast).are_same:
            self._take_fast_way(False)
            plays += [await self.play(script) for _ in range(3)]
        return Answers(frozenset(plays[2:]), fast)

    async def play(self, script: Script) -> Came:
        """Send a script over a connection of its own; gives all that came back, without dates."""
        client = socket.socket()
        client.setblocking(False)
        if script.slow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = self.runner.addresses[0][1]
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=client, limit=4096 if script.slow else 2**20)
        came, is_cut = bytearray(), False
        self._taken, self._has_ended = 0, False

        async def read() -> None:
            nonlocal is_cut
            try:
                while chunk := await reader.read(2**16):
                    came.extend(chunk)
            except ConnectionError:
                is_cut = True

        try:
            async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as tasks:
                # At once: an answer that nobody has read yet is lost when what the server has not read resets it.
                if not script.slow:
                    tasks.create_task(read())
                octets = 0
                for piece in script.pieces:
                    await self._has_taken(octets, script)
                    writer.write(piece)
                    octets += len(piece)
                if script.slow:
                    await self._has_taken(octets, script)
                    await read()
        finally:
            writer.close()
        return Came(_DATE.sub(b"\r\nDate:", bytes(came)), is_cut)


@contextlib.asynccontextmanager
async def _served(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


# --- what clients send ---

NEVER_STORED: Final = (
    "/never/1", "/never/1?q=a", "/never/2", "/missing/1", "/cookies/1", "/chunks/1", "/failing/1", "/endless/1",
    "/none/1",
)  # fmt: skip
PATHS: Final = (
    "/plain/1", "/plain/1?q=a", "/plain/%7Ea", "/plain/~a", "/plain/../plain/1", "//plain/1", "/vary/1", "/agents/1",
    "/tagged/1", "/large/1", "/empty/1", "/gone/1", "/nothing/1", "/never/1", "/stale/1", "/twice/1",
    "/_regioncache/health", "http://a.example/plain/1", "*",
)  # fmt: skip
COMMON: Final = (
    b"User-Agent: one",
    b"user-agent: two",
    b"Accept: */*",
    b"Accept-Encoding: gzip",
    b"ACCEPT-ENCODING: br, gzip",
)
FIELDS: Final = (
    *COMMON, b"Accept-Language: de, en;q=0.5", b"Accept-Language: en", b"Referer: http://b.example/", b"DNT: 1",
    b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-Proto: https", b"Forwarded: proto=https", b"Traceparent: 00-0-0-00",
    b"Cookie: a=b", b"Cookie: __Host-regioncache=x", b"Authorization: Basic YTpi", b"Cache-Control: no-cache",
    b"Cache-Control: max-age=0", b"Cache-Control: only-if-cached", b"Cache-Control: no-store", b"Pragma: no-cache",
    b'If-None-Match: "one"', b'if-none-match: "two"', b"If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT",
    b'If-Match: "one"', b"Range: bytes=0-3", b"Range: bytes=99999999-", b'If-Range: "one"', b"Expect: 100-continue",
    b"Expect: more", b"Connection: close", b"Connection: keep-alive", b"Connection: keep-alive, X-A", b"X-A: 1",
    b"Keep-Alive: timeout=5", b"TE: trailers", b"Upgrade: websocket", b"Connection: Upgrade", b"CDN-Loop: other",
    b"Via: 1.1 other", b"CF-IPCountry: BR", b"X-Long: " + b"x" * 5000, b"X-Octets: \xe9\xff", b"X-Empty:",
    b"Content-Length: 0", b"Prefer: wait=1", b"Host: b.example", b"X-Bad : 1", b"X-Folded: a\r\n b",
)  # fmt: skip
BODIES: Final = (
    (b"Content-Length: 3", b"abc"),
    (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked", b"0\r\nX-Trailer: 1\r\n\r\n"),
    (b"Content-Length: 22", b"GET / HTTP/1.1\r\n\r\n\r\n\r\n"),
)


def a_request(chance: random.Random, paths: Sequence[str] = PATHS) -> bytes:
    """One request for one of `paths`, above all the first nine; most of them such as browsers send."""
    method = chance.choices((b"GET", b"HEAD", b"POST", b"OPTIONS", b"get"), (80, 12, 4, 2, 2))[0]
    path = chance.choice(paths if chance.random() < 0.5 else paths[:9]).encode()
    version = chance.choices((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"), (95, 4, 1))[0]
    fields = [b"Host: a.example"] if chance.random() < 0.98 else []
    fields += chance.sample(COMMON[1:] if chance.random() < 0.5 else (COMMON[0], *COMMON[2:]), chance.randint(0, 3))
    if chance.random() < 0.3:
        fields += chance.sample(FIELDS, chance.randint(1, 3))
    body = b""
    if chance.random() < 0.06:
        field, body = chance.choice(BODIES)
        fields.append(field)
    if chance.random() < 0.2:
        chance.shuffle(fields)
    end = b"\n" if chance.random() < 0.01 else b"\r\n"
    before = b"\r\n" if chance.random() < 0.02 else b""
    return before + end.join([b" ".join((method, path, version)), *fields, b"", b""]) + body


def a_script(chance: random.Random, paths: Sequence[str] = PATHS) -> Script:
    """Some requests over one connection: one after the other, pipelined, or in pieces."""
    requests = [a_request(chance, paths) for _ in range(chance.choices((1, 2, 3, 5), (40, 30, 20, 10))[0])]
    requests = [chance.choice(requests) for _ in requests] if chance.random() < 0.3 else requests
    kind = chance.random()
    if kind < 0.65:
        return Script((*requests, LAST))
    joined = b"".join(requests) + LAST
    if kind < 0.8:
        return Script((joined,), slow=chance.random() < 0.2)
    return Script(tuple(_pieces(chance, joined)))


def _pieces(chance: random.Random, octets: bytes) -> Sequence[bytes]:
    cuts = sorted(chance.sample(range(1, len(octets)), min(len(octets) - 1, chance.randint(1, 6))))
    return [octets[start:end] for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
