"""What goes to the addresses of an origin and how they are judged, also while clients and origins misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Gateway, OriginAddress
from aiohttp_regioncache.forwarded import with_forwarded
from aiohttp_regioncache.origins.balance import FAILURES, Balance
from aiohttp_regioncache.responses import is_unattended
from aiohttp_regioncache.upstream import is_public_address
from tests.gateway.raw import answering, exchange, listening, status_of
from tests.reads.apps import running
from tests.sites.world import Tenants, tenants
from tests.support import eventually
from tests.support.certificates import Authority
from tests.support.servers import free_port
from tests.support.world import Edge, World, one_edge


class Served:
    """An origin that counts what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.status = self.health = 200
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(request)
        self.bodies.append(body)
        if request.path == "/up":
            return web.Response(status=self.health)
        return web.Response(status=self.status, headers=self.headers, text="ok")

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return app


@contextlib.asynccontextmanager
async def forwarding(directory: Path, **gateway: Any) -> AsyncIterator[tuple[Served, Edge, aiohttp.ClientSession]]:
    """An edge before an origin."""
    origin = Served()
    async with World(directory) as world, running(origin.app()) as url:
        edge = await world.edge(origin=url, rules=[], gateway=Gateway(**gateway))
        yield origin, edge, world.session


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


# --- bodies ---


async def test_a_body_beyond_the_limit_is_refused_whatever_its_fields_say(tmp_path: Path) -> None:
    async with forwarding(tmp_path, max_request_body=1000) as (origin, edge, _):
        packed = gzip.compress(bytes(100_000))
        assert len(packed) < 1000
        for data, headers in (
            (bytes(1001), {}),
            (_pieces(bytes(600), bytes(600)), {}),
            (packed, {"Content-Encoding": "gzip"}),
            (_pieces(packed), {"Content-Encoding": "gzip"}),
        ):
            assert (await edge.ask("POST", "/x", data=data, headers=headers)).status == 413
        assert not origin.bodies
        assert (await edge.ask("POST", "/x", data=bytes(1000))).status == 200


async def test_an_upload_may_take_longer_than_the_origin_may_be_silent(tmp_path: Path) -> None:
    async with forwarding(tmp_path, read_timeout=0.3) as (origin, edge, _):

        async def slow() -> AsyncIterator[bytes]:
            for _ in range(6):
                yield b"x"
                await asyncio.sleep(0.1)

        assert (await edge.ask("POST", "/x", data=slow())).status == 200
        assert origin.bodies == [b"xxxxxx"]


async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    async with forwarding(tmp_path, read_timeout=0.1) as (origin, edge, _):
        answer = await exchange(edge.url, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        assert status_of(answer) == 408
        assert not origin.bodies


@pytest.mark.parametrize(
    "octets",
    [
        b"POST /x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 99\r\n\r\nx",
        b"POST /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nzz\r\n",
        b"POST /x HTTP/1.1\r\nHost: shop.example\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
    ],
)
async def test_clients_that_break_off_do_no_harm_to_an_address(tmp_path: Path, octets: bytes) -> None:
    async with _two(tmp_path) as (place, one, other):
        for _ in range(4 * FAILURES):
            url = URL(place.edge.url)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(octets)
            await writer.drain()
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.05):
                    await reader.read(1)
            writer.close()
        await _shares_again(place, one, other)


async def _shares_again(place: Tenants, one: Served, other: Served) -> None:
    """See that both addresses get requests, without a pause before."""
    one.requests.clear()
    other.requests.clear()
    for number in range(30):
        await place.ask("shop.example", f"/{number}")
    assert min(len(one.requests), len(other.requests)) > 0


@contextlib.asynccontextmanager
async def _two(directory: Path, **options: Any) -> AsyncIterator[tuple[Tenants, Served, Served]]:
    """A site with two addresses."""
    one, other = Served(), Served()
    gateway = Gateway(health_seconds=0.05)
    async with (
        tenants(directory, gateway=gateway) as place,
        running(one.app()) as first,
        running(other.app()) as second,
    ):
        await place.put("shop.example", origin=[OriginAddress(first), OriginAddress(second)], **options)
        yield place, one, other


# --- another address ---


async def test_a_body_goes_to_another_address_whole(tmp_path: Path) -> None:
    origin = Served()
    async with tenants(tmp_path) as place, running(origin.app()) as url:
        down = OriginAddress(f"http://127.0.0.1:{free_port()}", weight=1_000_000)
        await place.put("shop.example", origin=[down, OriginAddress(url)])
        answer = await place.ask("shop.example", "/x", "POST", data=_pieces(b"one", b"two"))
        assert (answer.status, origin.bodies) == (200, [b"onetwo"])


@pytest.mark.parametrize(("method", "status", "sent"), [("GET", 200, 1), ("POST", 502, 0)])
async def test_what_was_sent_goes_to_another_address_only_when_it_may_be_repeated(
    tmp_path: Path, method: str, status: int, sent: int
) -> None:
    origin = Served()
    async with tenants(tmp_path) as place, running(origin.app()) as url, listening(answering(b"")) as broken:
        await place.put("shop.example", origin=[OriginAddress(broken, weight=1_000_000), OriginAddress(url)])
        assert (await place.ask("shop.example", "/x", method)).status == status
        assert len(origin.requests) == sent


# --- health ---


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _balance() -> tuple[Balance, Clock, OriginAddress, OriginAddress]:
    clock, bad, good = Clock(), OriginAddress("http://bad"), OriginAddress("http://good")
    return Balance([bad, good], clock), clock, bad, good


def test_one_request_tries_an_address_whose_pause_is_over() -> None:
    balance, clock, bad, good = _balance()
    told = [balance.failed(bad) for _ in range(FAILURES + 2)]
    assert told == [False, False, True, False, False]
    clock.now += 1.0
    for _ in range(100):
        if next(balance.order()) == bad:
            break
    else:
        pytest.fail("it is never tried")
    assert {next(balance.order()) for _ in range(100)} == {good}
    assert balance.failed(bad)
    clock.now += 1.5
    assert not balance.is_well(bad)  # twice as long
    clock.now += 0.5
    assert balance.is_well(bad)
    balance.succeeded(bad)
    assert {next(balance.order()) for _ in range(100)} == {bad, good}


def test_a_trial_without_an_end_is_followed_by_another() -> None:
    balance, clock, bad, good = _balance()
    for address in (bad, good):
        for _ in range(FAILURES):
            balance.failed(address)
    clock.now += 1.0
    assert set(balance.order()) == {bad, good}
    assert not balance.is_well(bad)
    clock.now += 1.0
    assert balance.is_well(bad)


def test_the_last_address_is_asked_however_it_is() -> None:
    balance, _, bad, good = _balance()
    for address in (good, bad):
        for _ in range(FAILURES):
            balance.failed(address)
            balance.checked(address, is_fit=False)
    assert set(balance.order()) == {bad, good}


async def test_an_address_that_its_health_path_takes_out_gets_no_requests_though_it_answers(tmp_path: Path) -> None:
    """As an origin does that is being drained: requests succeed, and must not bring it back."""
    async with _two(tmp_path, health_path="/up") as (place, one, other):

        async def asked_beside_checks() -> int:
            one.requests.clear()
            for number in range(20):
                await place.ask("shop.example", f"/{number}")
            return sum(request.path != "/up" for request in one.requests)

        async def is_out() -> bool:
            return await asked_beside_checks() == 0

        async def is_back() -> bool:
            return await asked_beside_checks() > 0

        assert await is_back()
        one.health = 503
        await eventually(is_out)
        assert [await asked_beside_checks() for _ in range(5)] == [0] * 5
        assert other.requests[-1].headers["Host"] == "shop.example"
        one.health = 200
        await eventually(is_back)


# --- what an origin answers ---


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"garbage\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_none_is_a_502(tmp_path: Path, octets: bytes) -> None:
    async with listening(answering(octets)) as url, one_edge(tmp_path, origin=url, rules=[]) as (_, edge):
        for method in ("GET", "POST"):
            answer = await edge.ask(method, "/x")
            assert (answer.status, answer.headers["Content-Type"]) == (502, "application/problem+json")


# --- who asks ---


async def test_what_clients_say_of_themselves_does_not_reach_the_origin(tmp_path: Path) -> None:
    names = (
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x-forwarded_host",
        "X_Real_IP",
        "True-Client-IP",
        "CF_Connecting_IP",
    )
    async with World(tmp_path) as world, running((origin := Served()).app()) as url:
        edge = await world.edge(origin=url, rules=[], trusted_proxies=[])
        await edge.get("/x", headers=dict.fromkeys(names, "6.6.6.6") | {"Forwarded": "for=6.6.6.6", "X_Dropped": "1"})
        (request,) = origin.requests
        assert not [value for value in request.headers.values() if "6.6.6.6" in value]
        assert request.headers["X-Forwarded-For"] == "127.0.0.1"
        assert "X_Dropped" not in request.headers  # whatever it may be taken for


def test_a_trusted_proxy_may_name_the_users_address() -> None:
    who: dict[str, Any] = {"peer": "10.0.0.1", "host": "x", "scheme": "https", "is_safe": True}
    came = [("CF-Connecting-IP", "8.8.8.8"), ("X-Forwarded-For", "8.8.8.8"), ("Forwarded", "for=8.8.8.8")]
    told = dict(with_forwarded(came, is_trusted=True, **who))
    assert told["CF-Connecting-IP"] == "8.8.8.8"
    assert told["X-Forwarded-For"] == "8.8.8.8, 10.0.0.1"
    assert told["Forwarded"].startswith("for=8.8.8.8, for=10.0.0.1;")


def test_a_host_ends_no_quoted_string() -> None:
    told = with_forwarded([], peer="", host='a";for="b\\', scheme="http", is_trusted=False, is_safe=True)
    assert dict(told)["Forwarded"] == r'for=unknown;host="a\";for=\"b\\";proto=http'


async def test_a_renewal_asks_as_the_user_did_though_their_proxy_has_hung_up(tmp_path: Path) -> None:
    """Else it would come by another scheme, and the redirect to the right one would be stored under that."""
    app = web.Application()

    async def once_nobody_is_there(request: web.Request) -> web.StreamResponse:
        if is_unattended():
            await eventually(lambda: request.transport is None)
        return await regioncache.forward(request)

    app.router.add_get("/{path:.*}", once_nobody_is_there)
    async with World(tmp_path) as world, running((origin := Served()).app()) as url:
        origin.headers = {"Cache-Control": "max-age=0, stale-while-revalidate=60"}
        edge = await world.edge(app, origin=url, rules=[])
        lines = (b"GET /x HTTP/1.1", b"Host: shop.example", b"X-Forwarded-Proto: https", b"X-Forwarded-For: 8.8.8.8")

        async def is_renewed() -> bool:
            await exchange(edge.url, b"\r\n".join([*lines, b"", b""]))
            return len(origin.requests) > 1

        await eventually(is_renewed)
        for request in origin.requests[:2]:
            assert request.headers["X-Forwarded-Proto"] == "https"
            assert request.headers["X-Forwarded-For"] == "8.8.8.8, 127.0.0.1"


# --- where it lies, and whom it is asked for ---


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "0.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "192.0.0.1", "224.0.0.1",
        "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "fec0::1", "fd00:ec2::254", "ff0e::1",
        "64:ff9b::127.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2001:db8::1", "3fff::1", "", "localhost",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(text: str) -> None:
    assert not is_public_address(text)


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"])
def test_addresses_that_are_public(text: str) -> None:
    assert is_public_address(text)


@pytest.mark.parametrize("host", ["shop.example:99999", "shop.example:", "shop.example.:0"])
async def test_an_odd_port_in_the_host_makes_no_error(tmp_path: Path, host: str) -> None:
    async with tenants(tmp_path) as place:
        await place.put("shop.example", origin=f"https://127.0.0.1:{free_port()}")
        assert (await place.ask(host)).status == 502


@pytest.mark.parametrize(
    "line", [b"GET http:@evil.example/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET @evil.example HTTP/1.1"]
)
async def test_a_target_does_not_lead_elsewhere(tmp_path: Path, line: bytes) -> None:
    async with forwarding(tmp_path) as (origin, edge, _):
        answer = await exchange(edge.url, line + b"\r\nHost: x\r\n\r\n")
        assert status_of(answer) in (400, 404, 405)
        assert not origin.requests


async def test_octets_that_are_no_text_in_a_request_make_no_error(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (_, edge, _session):
        answer = await exchange(edge.url, b"GET /\xff HTTP/1.1\r\nHost: x\r\nX-Odd: \xff\xfe\r\n\r\n")
        assert status_of(answer) < 500


async def test_a_path_with_line_breaks_is_the_origins_to_judge(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as (origin, edge, _):
        assert status_of(await exchange(edge.url, b"GET /a%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\n\r\n")) == 200
        assert origin.requests[0].rel_url.raw_path == "/a%0d%0aX:%20y"


@contextlib.asynccontextmanager
async def _secure(origin: Served, authority: Authority) -> AsyncIterator[str]:
    runner = web.AppRunner(origin.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority of shop.example, which edges trust."""
    made = Authority(tmp_path, "shop.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    return made


async def test_tls_asks_for_and_checks_the_host_and_not_the_address(tmp_path: Path, authority: Authority) -> None:
    async with tenants(tmp_path) as place, _secure(Served(), authority) as url:
        await place.put("shop.example", aliases=["other.example"], origin=url)
        await place.put("named.example", origin=url, origin_host="shop.example")
        assert (await place.ask("SHOP.example.:8080")).status == 200
        assert (await place.ask("named.example")).status == 200
        assert (await place.ask("other.example")).status == 502
        assert authority.names[:1] == ["shop.example"]
        assert authority.names[-1] == "other.example"


async def test_a_host_that_a_certificate_lacks_does_no_harm_to_an_address(tmp_path: Path, authority: Authority) -> None:
    one, other = Served(), Served()
    async with (
        tenants(tmp_path) as place,
        _secure(one, authority) as first,
        _secure(other, authority) as second,
    ):
        origin = [OriginAddress(first), OriginAddress(second)]
        rules = [{"path": "/items/{id}", "write": "behind"}]
        await place.put("shop.example", aliases=["*.shop.example"], origin=origin, rules=rules)
        for number in range(2 * FAILURES):
            assert (await place.ask("a.shop.example")).status == 502
            assert (await place.ask("a.shop.example", f"/items/{number}", "PUT", data=b"x")).status == 202
        await eventually(lambda: len(authority.names) >= 6 * FAILURES)
        await _shares_again(place, one, other)


# --- streams ---


@pytest.mark.parametrize("has_begun", [True, False])
async def test_who_leaves_a_silent_stream_leaves_nothing_behind(tmp_path: Path, has_begun: bool) -> None:
    arrived: list[web.Request] = []

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if has_begun:
            await response.prepare(request)
        arrived.append(request)
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", events)
    async with World(tmp_path) as world, running(app) as url:
        edge = await world.edge(origin=url, rules=[], gateway=Gateway(read_timeout=0.1))
        address = URL(edge.url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        await eventually(lambda: len(arrived) == 1)
        await asyncio.sleep(0.3)  # long enough to be given up, were the client not there
        assert arrived[0].transport is not None
        writer.close()
        await eventually(lambda: arrived[0].transport is None)
