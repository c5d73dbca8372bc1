"""`origin_idempotency`: one key, one effect; over real sockets and on a real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from redis.asyncio import Redis

from aiohttp_regioncache import MemoryStorage, RedisStorage, Rule, origin_idempotency
from aiohttp_regioncache.idempotency import Storage
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.replays import Replay, sign_replay
from tests.support import eventually
from tests.support.servers import ValkeyServer, free_port
from tests.support.world import SECRET, World

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}
KEY = {"Idempotency-Key": '"k1"'}


@pytest_asyncio.fixture
async def storage(server: ValkeyServer) -> AsyncIterator[RedisStorage]:
    async with server.client() as client:
        yield RedisStorage(client)


@pytest.fixture(params=["redis", "memory"])
def either(request: pytest.FixtureRequest, storage: RedisStorage) -> Storage:
    return storage if request.param == "redis" else MemoryStorage()


class Reply(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: Any

    @property
    def is_again(self) -> bool:
        return self.headers.get("Idempotency-Replayed") == "true"


Respond = Callable[["Desk", web.Request], Awaitable[web.StreamResponse]]


class Desk:
    """An origin that counts its orders: `respond` makes the answer of one, `gate` holds it before it counts."""

    def __init__(self, respond: Respond | None = None) -> None:
        self.orders: Counter[str] = Counter()
        self.respond = respond
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.url = ""
        self.session: aiohttp.ClientSession

    async def take(self, request: web.Request) -> web.StreamResponse:
        order = await request.text()
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        self.orders[order] += 1
        if self.respond:
            return await self.respond(self, request)
        headers = [
            ("Location", f"/orders/{self.orders.total()}"),
            ("Link", "</a>"),
            ("Link", "</b>"),
            ("Set-Cookie", "s=1"),
        ]
        response = web.Response(status=201, text=f"order {self.orders.total()}", headers=headers)
        response.set_cookie("session", "secret")
        return response

    async def post(self, body: str | aiohttp.FormData = "tea", path: str = "/orders", **headers: str) -> Reply:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            fields.setdefault("Content-Type", "text/plain; charset=utf-8")
        data = io.BytesIO(body.encode()) if isinstance(body, str) else body
        async with self.session.post(self.url + path, data=data, headers=fields) as answer:
            return Reply(answer.status, answer.headers, await answer.read(), answer.cookies)

    async def buy(self, order: str = "tea", key: str = '"k1"', user: str = "ann", **headers: str) -> Reply:
        return await self.post(order, Idempotency_Key=key, Authorization=f"Bearer {user}", **headers)


@contextlib.asynccontextmanager
async def open_desk(storage: Storage, respond: Respond | None = None, **options: Any) -> AsyncIterator[Desk]:
    desk = Desk(respond)
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/orders", desk.take)
    app.router.add_route("*", "/items/{id}", desk.take)
    origin_idempotency(app, storage, **options)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    desk.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as desk.session:
        try:
            yield desk
        finally:
            desk.gate.set()
            await runner.cleanup()


async def test_the_same_request_again_gets_the_answer_of_before(either: Storage) -> None:
    async with open_desk(either) as desk:
        first, again = await desk.buy(), await desk.buy()
        assert (again.status, again.body) == (first.status, first.body) == (201, b"order 1")
        assert again.headers["Location"] == "/orders/1"
        assert again.headers.getall("Link") == ["</a>", "</b>"]  # type: ignore[attr-defined]
        assert (first.is_again, again.is_again) == (False, True)
        assert (len(first.cookies), len(again.cookies)) == (2, 0)
        assert desk.orders.total() == 1


async def test_fifty_at_once_are_applied_once(either: Storage) -> None:
    async with open_desk(either) as desk:
        desk.gate.clear()
        asking = [asyncio.create_task(desk.buy()) for _ in range(50)]
        await eventually(lambda: sum(task.done() for task in asking) == 49)
        desk.gate.set()
        answers = await asyncio.gather(*asking)
        assert Counter(answer.status for answer in answers) == {201: 1, 409: 49}
        assert {answer.headers["Retry-After"] for answer in answers if answer.status == 409} == {"1"}
        assert (await desk.buy()).is_again
        assert desk.orders.total() == 1


async def test_another_payload_under_the_key_is_refused(storage: RedisStorage) -> None:
    async with open_desk(storage) as desk:
        await desk.buy("tea")
        other, other_type = await desk.buy("coffee"), await desk.buy("tea", Content_Type="text/csv")
        assert (other.status, other_type.status) == (422, 422)
        assert other.headers["Content-Type"].startswith("application/problem+json")
        assert desk.orders.total() == 1


async def test_a_key_counts_for_one_principal_method_and_target(storage: RedisStorage) -> None:
    async with open_desk(storage) as desk:
        await desk.buy(user="ann")
        assert not (await desk.buy(user="bob")).is_again
        assert not (await desk.post(path="/orders", Idempotency_Key='"k1"', Cookie="user=ann")).is_again
        assert not (await desk.post(path="/items/1", Idempotency_Key='"k1"', Authorization="Bearer ann")).is_again
        assert not (await desk.post(path="/orders?x", Idempotency_Key='"k1"', Authorization="Bearer ann")).is_again
        async with desk.session.put(desk.url + "/orders", data="tea", headers=KEY | ANN) as put:
            assert "Idempotency-Replayed" not in put.headers
        assert desk.orders.total() == 6
        assert (await desk.buy(user="bob")).is_again


async def test_the_principal_can_be_named(storage: RedisStorage) -> None:
    async with open_desk(storage, principal="header:X-User") as desk:
        await desk.buy(user="old", X_User="ann")
        assert (await desk.buy(user="new", X_User="ann")).is_again
        assert not (await desk.buy(user="new", X_User="bob")).is_again


async def test_a_key_is_needed_only_where_it_is_required(storage: RedisStorage) -> None:
    async with open_desk(storage) as desk:
        await desk.post("tea")
        await desk.post("tea")
        assert desk.orders["tea"] == 2
    async with open_desk(storage, required=True) as desk:
        assert (await desk.post("tea")).status == 400
        async with (
            desk.session.get(desk.url + "/orders", headers=KEY) as got,
            desk.session.get(desk.url + "/orders", headers=KEY) as got_again,
        ):
            assert (got.status, got_again.status) == (201, 201)
        assert desk.orders.total() == 2


@pytest.mark.parametrize("key", ["", "x" * 256], ids=["empty", "long"])
async def test_a_key_that_is_none_is_refused(storage: RedisStorage, key: str) -> None:
    async with open_desk(storage) as desk:
        assert (await desk.buy(key=key)).status == 400
        assert not desk.orders


async def test_two_keys_are_refused_and_odd_ones_count(storage: RedisStorage) -> None:
    async with open_desk(storage) as desk:
        port = int(desk.url.rpartition(":")[2])
        assert await _raw(port, b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n") == 400
        odd = [b"\xff\xfe", b'"\xc3\xa9"', b'"never closed', b"{rc:x}", b"k;p=1", b"x" * 255, b"$(x)", b"%00"]
        for key in odd:
            assert await _raw(port, b"Idempotency-Key: " + key + b"\r\n") == 201, key
            assert await _raw(port, b"Idempotency-Key: " + key + b"\r\n") == 201, key
        assert desk.orders.total() == len(odd)
        assert await _raw(port, b"Idempotency-Key: z\r\nContent-Encoding: gzip\r\n") == 400


async def _raw(port: int, fields: bytes) -> int:
    """The status of a POST with header fields that no client library writes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n" + fields + b"\r\ntea"
    )
    status = int((await reader.read()).split()[1])
    writer.close()
    return status


async def test_failures_and_answers_that_ask_to_come_again_leave_the_key_free(storage: RedisStorage) -> None:
    async def fail(desk: Desk, _request: web.Request) -> web.StreamResponse:
        answers: list[Callable[[], web.Response]] = [
            lambda: web.Response(status=500),
            lambda: web.Response(status=429),
            lambda: web.Response(status=409, headers={"Retry-After": "1"}),
            lambda: _raising(web.HTTPServiceUnavailable()),
            lambda: _raising(web.HTTPUnauthorized()),
            lambda: _raising(ZeroDivisionError()),
            lambda: _raising(web.HTTPBadRequest(text="no tea")),
        ]
        return answers[desk.orders.total() - 1]()

    async with open_desk(storage, fail) as desk:
        answers = [await desk.buy() for _ in range(8)]
        assert [answer.status for answer in answers] == [500, 429, 409, 503, 401, 500, 400, 400]
        assert [answer.is_again for answer in answers] == [False] * 7 + [True]
        assert answers[-1].body == b"no tea"


def _raising(error: Exception) -> web.Response:
    raise error


async def test_a_write_whose_client_goes_away_ends_and_is_known(storage: RedisStorage) -> None:
    async with open_desk(storage) as desk:
        desk.gate.clear()
        asking = asyncio.create_task(desk.buy())
        await eventually(lambda: desk.waiting == 1)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert (await desk.buy()).status == 409
        desk.gate.set()
        await eventually(lambda: desk.orders.total() == 1)
        await eventually(lambda: _is_again(desk))
        assert desk.orders.total() == 1


async def _is_again(desk: Desk) -> bool:
    return (await desk.buy()).is_again


async def test_a_shutdown_waits_for_a_write_whose_client_has_gone(storage: RedisStorage) -> None:
    async def work(_desk: Desk, _request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)  # longer than the connections have at a shutdown
        return web.Response(status=201)

    async with open_desk(storage, work) as desk:
        asking = asyncio.create_task(desk.buy())
        await eventually(lambda: desk.orders.total() == 1)
        asking.cancel()
    async with open_desk(storage) as other:
        assert (await other.buy(Host=desk.url.removeprefix("http://"))).is_again


async def test_a_crashed_worker_does_not_block_for_ever(server: ValkeyServer, storage: RedisStorage) -> None:
    port = free_port()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.idempotency_worker", server.url, str(port), "1.5"
    )
    host = {"Host": f"127.0.0.1:{port}"}
    async with open_desk(storage) as desk, server.client() as client:
        asking = asyncio.create_task(_until_it_breaks(desk.session, f"http://127.0.0.1:{port}/orders"))
        try:
            await eventually(lambda: _has_keys(client))
        finally:
            os.kill(worker.pid, signal.SIGKILL)
            await worker.wait()
        await asking
        assert (await desk.buy(**host)).status == 409

        async def is_taken() -> bool:
            return (await desk.buy(**host)).status == 201

        await eventually(is_taken)
        assert desk.orders.total() == 1


async def _until_it_breaks(session: aiohttp.ClientSession, url: str) -> None:
    """Send an order until an origin takes it, and see it die."""
    while True:
        try:
            async with session.post(url, data="tea", headers=KEY | ANN):
                raise AssertionError("the worker never answers")
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.02)  # it does not listen yet
        except aiohttp.ClientError:
            return


async def _has_keys(client: Redis) -> bool:
    return bool(await client.dbsize())


async def test_a_worker_that_overran_does_not_touch_what_another_has(either: Storage) -> None:
    assert await either.reserve("k", "f", "late", 0.02) is None

    async def has_ended() -> bool:
        return await either.reserve("k", "f", "next", 10.0) is None

    await eventually(has_ended)
    assert not await either.finish("k", "f", "late", None, 10.0)
    assert not await either.finish("k", "f", "late", b"late", 10.0)
    assert await either.reserve("k", "f", "third", 10.0) == ("f", None)
    assert await either.finish("k", "f", "next", b"next", 10.0)
    assert not await either.finish("k", "f", "late", b"late", 10.0)
    assert await either.reserve("k", "f", "third", 10.0) == ("f", b"next")


async def test_a_storage_can_be_told_twice(either: Storage) -> None:
    assert [await either.reserve("k", "f", "own", 10.0) for _ in range(2)] == [None, None]
    assert [await either.finish("k", "f", "own", b"a", 10.0) for _ in range(2)] == [True, True]
    assert await either.reserve("k", "g", "other", 10.0) == ("f", b"a")
    # The work was done; its reservation had ended, and nobody came.
    assert await either.finish("ended", "f", "own", b"a", 0.02)

    async def is_gone() -> bool:
        return await either.reserve("ended", "f", "other", 10.0) is None

    await eventually(is_gone)
    assert await either.finish("ended", "f", "other", None, 10.0)
    assert await either.reserve("ended", "f", "third", 10.0) is None


async def test_the_memory_is_bounded() -> None:
    now = 0.0
    storage = MemoryStorage(max_bytes=10_000, clock=lambda: now)
    for n in range(100):
        await storage.reserve(f"k{n}", "f", "own", 1.0)
        await storage.finish(f"k{n}", "f", "own", b"x" * 488, 10.0)
    assert len(storage) == 10
    assert await storage.reserve("k99", "f", "other", 1.0) == ("f", b"x" * 488)
    assert await storage.reserve("k0", "f", "other", 1.0) is None
    now = 20.0
    await storage.reserve("new", "f", "own", 1.0)
    await storage.finish("new", "f", "own", b"", 10.0)
    assert len(storage) == 1


async def test_a_storage_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    async with (
        ValkeyServer(tmp_path / "down") as server,
        server.client() as client,
        open_desk(RedisStorage(client)) as desk,
    ):
        await server.kill()
        answer = await desk.buy()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert not desk.orders
        await server.start()
        assert (await desk.buy()).status == 201


async def test_an_answer_that_cannot_be_stored_at_once_is_stored_later(tmp_path: Path) -> None:
    safe = {"appendonly": "yes", "appendfsync": "always"}
    async with (
        ValkeyServer(tmp_path / "down", config=safe) as server,
        server.client() as client,
        open_desk(RedisStorage(client), work_seconds=600.0) as desk,
    ):
        desk.gate.clear()
        asking = asyncio.create_task(desk.buy())
        await eventually(lambda: desk.waiting == 1)
        await server.kill()
        desk.gate.set()
        assert (await asking).status == 201
        await server.start()
        await eventually(lambda: _is_again(desk))
        assert desk.orders.total() == 1


async def test_large_bodies(storage: RedisStorage) -> None:
    large = "x" * 3_000_000

    async def echo(_desk: Desk, request: web.Request) -> web.StreamResponse:
        return web.Response(status=201, body=await request.read())

    async with open_desk(storage, echo, max_answer=4_000_000) as desk:
        assert (await desk.buy(large)).body == large.encode()
        assert (await desk.buy(large)).is_again
        assert (await desk.buy(large)).body == large.encode()
        assert (await desk.buy(large[:-1] + "y")).status == 422
        assert (await desk.buy(large * 2, key="other")).status == 413
        assert desk.orders.total() == 1


async def test_an_answer_that_was_not_kept_is_told_from_a_repeated_one(storage: RedisStorage) -> None:
    async def stream(desk: Desk, request: web.Request) -> web.StreamResponse:
        if desk.orders["large"]:
            return web.Response(status=403 if desk.orders["no"] else 201, body=b"x" * 101)
        response = web.StreamResponse(status=201, headers={"X-Of-The-First": "1"})
        await response.prepare(request)
        await response.write(b"piece by piece")
        await response.write_eof()
        return response

    async with open_desk(storage, stream, max_answer=100, release=()) as desk:
        assert (await desk.buy("tea")).body == b"piece by piece"
        await desk.buy("large", key="2")
        await desk.buy("no", key="3")
        tea, large, refused = await desk.buy("tea"), await desk.buy("large", key="2"), await desk.buy("no", key="3")
        assert [answer.is_again for answer in (tea, large, refused)] == [True] * 3
        assert (tea.status, large.status, refused.status) == (200, 200, 403)
        assert (json.loads(tea.body)["status"], json.loads(refused.body)["status"]) == (201, 403)
        assert "X-Of-The-First" not in tea.headers
        assert desk.orders.total() == 3


async def test_the_handler_can_read_a_form(storage: RedisStorage) -> None:
    async def read(_desk: Desk, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        part = form["file"]
        assert isinstance(part, web.FileField)
        return web.Response(body=part.file.read())

    async with open_desk(storage, read) as desk:
        form = aiohttp.FormData()
        form.add_field("file", b"leaf" * 100_000, filename="tea")
        answer = await desk.post(form, Idempotency_Key="k")
        assert answer.body == b"leaf" * 100_000


async def test_a_sub_application_is_included_by_name(storage: RedisStorage) -> None:
    taken: Counter[str] = Counter()

    async def take(request: web.Request) -> web.Response:
        taken[request.path] += 1
        return web.Response()

    parent = web.Application()
    parts = {name: web.Application() for name in ("in", "out")}
    for name, part in parts.items():
        part.router.add_post("/x", take)
        parent.add_subapp(f"/{name}", part)
    origin_idempotency(parent, storage, include=[parts["in"]])
    async with _running(parent) as url, aiohttp.ClientSession() as session:
        for name in ("in", "in", "out", "out", "nowhere", "nowhere"):
            async with session.post(f"{url}/{name}/x", headers=KEY) as answer:
                assert answer.status == (404 if name == "nowhere" else 200)
    assert taken == {"/in/x": 1, "/out/x": 2}


@contextlib.asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def _mark(secret: str, path: str = "/orders") -> str:
    return sign_replay(Signer([secret]), Replay("w1", 1, "f", int(time.time())), "POST", path)


async def test_a_replay_counts_by_its_key_alone_whatever_its_credentials(storage: RedisStorage) -> None:
    async with open_desk(storage, secrets=[SECRET]) as desk:
        await desk.buy(user="before", Regioncache_Replay=_mark(SECRET))
        assert (await desk.buy(user="rotated", Regioncache_Replay=_mark(SECRET))).is_again
        assert desk.orders.total() == 1
        # One that nobody of ours signed, or for another target, is a client's.
        for mark in (_mark("another secret, not of ours"), _mark(SECRET, "/other"), "x", "a;b;c;d;e"):
            assert not (await desk.buy(user=mark, Regioncache_Replay=mark)).is_again
        assert not (await desk.buy(user="before")).is_again


async def test_an_edge_whose_answers_are_lost_applies_once(tmp_path: Path, storage: RedisStorage) -> None:
    lost: Counter[str] = Counter()

    def rotated(_request: web.Request) -> str:
        return secrets.token_hex()

    async def lose(desk: Desk, request: web.Request) -> web.StreamResponse:
        if lost[request.path] < 2:
            lost[request.path] += 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"taken": desk.orders.total()})

    rules = [Rule("/items/{id}", write="behind")]
    async with open_desk(storage, lose, secrets=[SECRET], principal=rotated) as desk, World(tmp_path) as world:
        edge = await world.edge(origin=desk.url, rules=rules, sync={"retry_base": 0.01, "retry_cap": 0.05})
        pages = [
            (await edge.put(f"/items/{n}", {"n": n}, headers=ANN if n % 2 else BOB)).headers["Location"]
            for n in range(10)
        ]
        for n, page in enumerate(pages):

            async def is_synced(n: int = n, page: str = page) -> bool:
                answer = await edge.get(page, headers=ANN if n % 2 else BOB)
                assert json.loads(answer.body)["state"] in ("pending", "synced")
                return bool(json.loads(answer.body)["state"] == "synced")

            await eventually(is_synced)
        assert sorted(desk.orders.values()) == [1] * 10
        assert lost.total() >= 10


async def test_bad_options_are_refused(server: ValkeyServer) -> None:
    app = web.Application()
    for options in ({"seconds": 0}, {"work_seconds": 0}, {"max_answer": -1}, {"principal": "X-User"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            origin_idempotency(app, MemoryStorage(), **options)
    async with Redis.from_url(server.url, decode_responses=True) as client:
        with pytest.raises(ValueError, match="decode_responses"):
            RedisStorage(client)
