"""Several origins of a site: who is asked, what becomes of one that fails, and what is shown instead."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aiohttp_regioncache import Gateway, OriginAddress
from aiohttp_regioncache.origins.balance import FAILURES, Balance
from tests.conformance.wire import Head
from tests.gateway.octets import RawOrigin, connection, request, response, silent
from tests.sites.world import Tenants, tenants
from tests.support import eventually
from tests.support.servers import free_port
from tests.support.world import World

HOST = "shop.example"
UNSTORED = "Cache-Control: no-store"


def answering(status: int = 200) -> Callable[[Head], bytes]:
    """An origin's answers of one status, which nobody stores."""

    def answer(head: Head) -> bytes:
        whole = response(head.start, UNSTORED, status=status)
        return whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head.start.startswith("HEAD ") else whole

    return answer


@contextlib.asynccontextmanager
async def placed(
    directory: Path, *origins: str, weights: tuple[int, ...] = (), gateway: Gateway | None = None, **options: Any
) -> AsyncIterator[Tenants]:
    """An edge with a site of several origins."""
    async with tenants(directory, gateway=gateway or Gateway()) as place:
        weights = weights or (1,) * len(origins)
        addresses = [OriginAddress(url, weight) for url, weight in zip(origins, weights, strict=True)]
        await place.put(HOST, origin=addresses, **options)
        yield place


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


# --- Who is asked ---


async def test_each_origin_gets_its_share(tmp_path: Path) -> None:
    async with RawOrigin(answering()) as one, RawOrigin(answering()) as other:
        async with placed(tmp_path, one.url, other.url, weights=(9, 1)) as place:
            for number in range(200):
                assert (await place.ask(HOST, f"/{number}")).status == 200
        assert len(one.seen) + len(other.seen) == 200
        assert 2 <= len(other.seen) <= 50


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
async def test_one_that_is_down_costs_no_request(tmp_path: Path, method: str) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    async with RawOrigin(answering()) as well, placed(tmp_path, down, well.url) as place:
        for number in range(30):
            data = b"body" if method in ("POST", "PUT") else None
            assert (await place.ask(HOST, f"/{number}", method, data=data)).status == 200
        assert len(well.seen) == 30
        assert all(body == (data or b"") for _, body in well.seen)


async def test_with_all_of_them_down_it_is_a_502(tmp_path: Path) -> None:
    down = [f"http://127.0.0.1:{free_port()}" for _ in range(3)]
    async with placed(tmp_path, *down) as place:
        for number in range(8):
            assert (await place.ask(HOST, f"/{number}")).status == 502


async def test_one_that_cannot_serve_is_left_alone(tmp_path: Path) -> None:
    async with RawOrigin(answering(503)) as ill, RawOrigin(answering()) as well:
        async with placed(tmp_path, ill.url, well.url) as place:
            statuses = [(await place.ask(HOST, f"/{number}")).status for number in range(60)]
        assert len(ill.seen) == statuses.count(503) == FAILURES
        assert set(statuses[-20:]) == {200}


async def test_an_error_of_a_page_speaks_against_nobody(tmp_path: Path) -> None:
    async with RawOrigin(answering(500)) as one, RawOrigin(answering(404)) as other:
        async with placed(tmp_path, one.url, other.url) as place:
            for number in range(60):
                assert (await place.ask(HOST, f"/{number}")).status in (404, 500)
        assert min(len(one.seen), len(other.seen)) > 10


async def test_one_that_is_well_again_gets_requests_again(tmp_path: Path) -> None:
    async with (
        RawOrigin(answering(503)) as one,
        RawOrigin(answering()) as other,
        placed(tmp_path, one.url, other.url) as place,
    ):
        for number in range(60):
            await place.ask(HOST, f"/{number}")
        one.answer = answering()
        before = len(one.seen)

        async def is_back() -> bool:
            await place.ask(HOST, "/again")
            return len(one.seen) > before + 3

        await eventually(is_back)


async def test_a_check_takes_one_out_and_brings_it_back(tmp_path: Path) -> None:
    def health(status: int) -> Callable[[Head], bytes]:
        return lambda head: response("", UNSTORED, status=status if "/up" in head.start else 200)

    gateway = Gateway(health_seconds=0.05)
    async with (
        RawOrigin(health(500)) as one,
        RawOrigin(health(200)) as other,
        placed(tmp_path, one.url, other.url, health_path="/up", gateway=gateway) as place,
    ):
        await place.ask(HOST, "/first")
        await eventually(lambda: one.targets.count("/up") > FAILURES)
        asked = len(one.targets) - one.targets.count("/up")
        for number in range(30):
            assert (await place.ask(HOST, f"/{number}")).status == 200
        assert len(one.targets) - one.targets.count("/up") == asked
        (checked,) = {head.get("Host") for head, _ in one.seen if "/up" in head.start}
        assert checked == HOST
        one.answer = health(200)

        async def is_back() -> bool:
            await place.ask(HOST, "/again")
            return "/again" in one.targets

        await eventually(is_back)


def test_the_pause_doubles_up_to_a_minute_and_ends_with_a_success() -> None:
    clock, (one, other) = Clock(), (OriginAddress("http://one"), OriginAddress("http://other"))
    balance = Balance((one, other), clock)
    for _ in range(FAILURES - 1):
        balance.failed(one)
    assert balance.is_well(one)
    balance.failed(one)
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        clock.now += pause - 0.01
        assert not balance.is_well(one)
        balance.failed(one)  # what was under way still
        assert list(balance.order()) == [other, one]
        clock.now += 0.01
        assert balance.is_well(one)
        balance.failed(one)
    balance.succeeded(one)
    assert balance.is_well(one)
    balance.failed(one)
    assert balance.is_well(one)


# --- What is sent again ---


@contextlib.asynccontextmanager
async def dropping() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An origin that reads the head of each request and ends the connection."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


async def test_only_what_is_safe_goes_to_another_one_when_it_may_have_been_read(tmp_path: Path) -> None:
    async with (
        dropping() as (drops, dropped),
        RawOrigin(answering()) as well,
        placed(tmp_path, drops, well.url, weights=(1_000_000, 1)) as place,
    ):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            before = len(dropped)
            origins = place.edge.cache._origins
            for balance in origins._balances.values():
                balance.succeeded(OriginAddress(drops, 1_000_000))
            assert (await place.ask(HOST, "/x", method, data=b"body")).status == 502
            assert len(dropped) == before + 1
            assert well.seen == []
        for method in ("GET", "HEAD", "OPTIONS"):
            assert (await place.ask(HOST, f"/{method}", method)).status == 200
        assert len(well.seen) == 3


# --- Time ---


async def test_an_origin_that_says_nothing_is_a_504_and_is_not_asked_twice(tmp_path: Path) -> None:
    gateway = Gateway(read_timeout=0.2)
    async with (
        silent() as url,
        RawOrigin(answering()) as well,
        placed(tmp_path, url, well.url, weights=(1_000_000, 1), gateway=gateway) as place,
    ):
        for method in ("GET", "POST"):
            assert (await place.ask(HOST, "/x", method)).status == 504
        assert well.seen == []


async def test_an_origin_that_stops_in_the_middle_is_a_502_or_no_whole_answer(tmp_path: Path) -> None:
    def half(_: Head) -> bytes:
        return b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhalf"

    async with RawOrigin(half) as origin, World(tmp_path) as world:
        edge = await world.edge(origin=origin.url, rules=[], gateway=Gateway(read_timeout=0.2))
        for _ in range(2):
            assert (await edge.get("/page")).status == 504
        assert len(origin.seen) >= 2


async def test_a_connection_that_is_not_made_in_time_is_a_504(tmp_path: Path) -> None:
    """A listener whose queue is full answers no SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        async with World(tmp_path) as world:
            origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
            edge = await world.edge(origin=origin, gateway=Gateway(connect_timeout=0.2))
            assert (await edge.get("/page")).status == 504


# --- What is shown instead ---

ACCEPTED = [
    ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
    ("*/*", "application/problem+json"), ("", "application/problem+json"),
    ("application/json", "application/problem+json"), ("application/json, text/html", "application/problem+json"),
]  # fmt: skip


@pytest.mark.parametrize(("accept", "kind"), ACCEPTED)
async def test_a_page_or_a_problem_as_it_is_wanted(tmp_path: Path, accept: str, kind: str) -> None:
    async with placed(tmp_path, f"http://127.0.0.1:{free_port()}") as place:
        answer = await place.ask(HOST, headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"]) == (502, kind)
        assert answer.headers["Cache-Control"] == "no-store"
        if kind.startswith("application"):
            assert json.loads(answer.body)["status"] == 502
        else:
            assert b"<h1>Bad Gateway</h1>" in answer.body


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
async def test_nothing_of_a_request_stands_in_a_page_unescaped(tmp_path: Path, accept: str) -> None:
    evil = "<script>alert(1)</script>"
    async with placed(tmp_path, f"http://127.0.0.1:{free_port()}") as place:
        for host in (HOST, "nobody.example", f"{evil}.example"):
            for target in (f"/{evil}?{evil}", "/"):
                async with connection(place.edge) as client:
                    client.send(request(target, f"Accept: {accept}", f"X-A: {evil}", f"Referer: {evil}", host=host))
                    answer = await client.answer()
                assert answer is not None
                assert answer.head.status in (400, 421, 502)
                assert b"<script" not in answer.body
