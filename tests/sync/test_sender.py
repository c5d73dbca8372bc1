"""One attempt: what the origin gets, and what is kept of its answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from aiohttp import web

from aiohttp_regioncache.origins.origins import Origins
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.replays import REPLAY_HEADER, verify_replay
from aiohttp_regioncache.sync.outcome import Attempt, Failure
from aiohttp_regioncache.sync.sender import ANSWER_BYTES, Sender
from aiohttp_regioncache.upstream import plain_upstream
from tests.store.tools import acceptance
from tests.support.servers import free_port
from tests.support.world import SECRET

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
SIGNER = Signer([SECRET])


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server on loopback whose every request goes to `handler`."""
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def send(origin: str, *, timeout: float = 5.0, body: bytes = b"{}", **changes: object) -> Attempt:
    """Send one write to an origin."""
    record = msgspec.structs.replace(acceptance("/items/1").record, **changes)
    async with Origins() as origins:
        return await Sender(origins, plain_upstream(origin), SIGNER, "here").send(record, body, 7, "fence", timeout)


async def test_the_origin_gets_the_request_as_it_came_with_our_own_marks() -> None:
    seen: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        assert await request.read() == b'{"n": 1}'
        return web.Response(status=204)

    headers = (
        (b"Content-Type", b"application/json"), (b"X-Twice", b"1"), (b"X-Twice", b"2"), (b"X-Octets", b"caf\xc3\xa9"),
        (b"Authorization", b"Bearer secret"), (b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"Host", b"edge"),
        (b"Idempotency-Key", b"the client's"), (b"Prefer", b"respond-async"), (b"Regioncache-Replay", b"forged"),
        (b"CDN-Loop", b"other"),
    )  # fmt: skip
    async with serving(handler) as origin:
        attempt = await send(
            origin, body=b'{"n": 1}', headers=headers, method="PATCH", endpoint="/a%2Fb?x=%20&y", idempotency_key="own"
        )
    assert (attempt.status, attempt.failure) == (204, None)
    (request,) = seen
    assert (request.method, request.path_qs, request.headers["Host"]) == ("PATCH", "/a%2Fb?x=%20&y", origin[7:])
    got = request.headers
    assert got.getall("X-Twice") == ["1", "2"]
    assert got["X-Octets"].encode() == b"caf\xc3\xa9"
    assert got["Authorization"] == "Bearer secret"
    assert got.getall("Idempotency-Key") == ['"own"']
    assert got.getall("CDN-Loop") == ["other", "here"]
    assert not {"X-Hop", "Prefer"} & set(got)
    mark = verify_replay(SIGNER, got[REPLAY_HEADER], "PATCH", "/a%2Fb?x=%20&y", now=time.time())
    assert mark is not None
    assert (mark.seq, mark.fence) == (7, "fence")


@pytest.mark.parametrize("size", [0, 1, ANSWER_BYTES - 1, ANSWER_BYTES])
async def test_an_answer_in_many_pieces_is_kept_whole(size: int) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for start in range(0, size, 5000):
            await response.write(b"x" * min(5000, size - start))
        return response

    async with serving(handler) as origin:
        attempt = await send(origin)
    assert attempt.body == b"x" * size


async def test_of_an_answer_that_is_too_long_no_part_is_kept() -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * (ANSWER_BYTES + 1))

    async with serving(handler) as origin:
        attempt = await send(origin)
    assert (attempt.status, attempt.body) == (200, b"")


async def test_a_coded_answer_stays_as_it_is_with_its_coding() -> None:
    packed = gzip.compress(b"answer")

    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with serving(handler) as origin:
        attempt = await send(origin, headers=((b"Accept-Encoding", b"gzip"),))
    assert attempt.body == packed
    assert ("Content-Encoding", "gzip") in attempt.headers


async def test_a_redirect_is_not_followed() -> None:
    seen: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with serving(handler) as origin:
        assert (await send(origin)).status == 307
    assert seen == ["/items/1"]


async def test_without_a_connection_nothing_was_sent() -> None:
    attempt = await send(f"http://127.0.0.1:{free_port()}")
    assert attempt.failure is Failure.NOT_SENT
    assert not attempt.is_unknown


async def test_a_connection_that_breaks_has_an_unknown_outcome_and_is_not_sent_again() -> None:
    arrived: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        arrived.append(request.path)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as origin:
        attempt = await send(origin)
    assert attempt.failure is Failure.NO_ANSWER
    assert attempt.is_unknown
    assert len(arrived) == 1  # aiohttp would repeat a PUT by itself


async def test_a_write_that_must_not_be_repeated_uses_no_old_connection() -> None:
    ports: list[object] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername"))
        return web.Response()

    async with serving(handler) as origin, Origins() as origins:
        sender = Sender(origins, plain_upstream(origin), SIGNER, "here")
        for repeatable in (True, True, False, False):
            record = msgspec.structs.replace(acceptance("/items/1").record, repeatable=repeatable)
            assert (await sender.send(record, b"{}", 7, "fence", 5.0)).status == 200
    assert len(set(ports)) == 3


async def test_an_answer_that_breaks_off_has_an_unknown_outcome() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(handler) as origin:
        assert (await send(origin)).failure is Failure.NO_ANSWER


async def test_an_origin_that_does_not_answer_in_time_has_an_unknown_outcome() -> None:
    released = asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(handler) as origin:
        attempt = await send(origin, timeout=0.05)
        released.set()
    assert attempt.failure is Failure.NO_ANSWER


async def test_an_origin_that_speaks_no_http_has_an_unknown_outcome() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 banana\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        attempt = await send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert attempt.failure is Failure.NO_ANSWER
