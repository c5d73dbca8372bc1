"""Misses that are passed on inside the protocol: what origin, region and client do meanwhile changes no answer."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Gateway, Rule
from aiohttp_regioncache.exchange import Asker
from aiohttp_regioncache.gateway.passing import Passed
from aiohttp_regioncache.origins.letters import Answer, Patience
from aiohttp_regioncache.reads.misses import MissPlan
from aiohttp_regioncache.upstream import OriginAddress, Upstream
from tests.conformance.wire import Head
from tests.gateway.octets import named, request, response
from tests.gateway.passing import DATE, NEVER, NOTED, PAGE, Noted, held, passing
from tests.support import eventually

# --- what the origin says ---


async def test_a_miss_is_passed_on_as_it_was_before(tmp_path: Path) -> None:
    async with passing(tmp_path, lambda _: response("ok", NEVER, DATE, "Set-Cookie: a=b", "Set-Cookie: c=d")) as made:
        first = await made.asked()
        asked = made.origin.seen[-1]
        await made.until_passed()
        again = await made.asked()
        assert again == first
        assert made.origin.seen == [asked]
        assert ("Cache-Status", "regioncache/ap-northeast-1; fwd=miss") in again.head.lines


@pytest.mark.parametrize(
    "octets",
    [
        response("x" * 3_000_000, NEVER),
        b"HTTP/1.1 200 Given\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        response("abc", NEVER, "Content-Type: text/event-stream"),
        b"HTTP/1.1 204 Given\r\nCache-Control: no-store\r\n\r\n",
    ],
    ids=["long", "chunked", "events", "empty"],
)
async def test_what_is_not_short_goes_the_normal_way_and_is_asked_for_once(tmp_path: Path, octets: bytes) -> None:
    is_special = False

    def answer(_: Head) -> bytes:
        return octets if is_special else response("ok", NEVER)

    async with passing(tmp_path, answer) as made:
        await made.until_passed()
        is_special = True
        async with made.connection() as client:
            client.send(PAGE)
            if b"chunked" in octets:  # whose end comes later than its head
                await eventually(lambda: any(isinstance(each, Answer) for each in made.outcomes))
                for writer in made.origin._writers:
                    writer.write(b"0\r\n\r\n")
            came = await client.answer()
        assert came is not None
        assert came.head.status in (200, 204)
        assert len(came.body) in (0, 3, 3_000_000)
        assert [type(each) for each in made.outcomes] == [Answer]
        assert len(made.origin.seen) == 1


@pytest.mark.parametrize("is_first", [True, False])
async def test_what_may_be_stored_by_now_is_asked_for_anew_and_stored(tmp_path: Path, is_first: bool) -> None:
    is_fresh = False

    def answer(head: Head) -> bytes:
        return named(head) if is_fresh else response("ok", NEVER)

    async with passing(tmp_path, answer) as made:
        await made.until_passed()
        is_fresh = True
        came = await made.asked(PAGE if is_first else request("/page", "X-Other: 1"))  # for which there is no plan
        assert came.body == b"GET /page"
        # The state of the resource has to be remembered before.
        assert made.outcomes == [None] * is_first
        assert len(made.origin.seen) == 1 + is_first

        async def is_hit() -> bool:
            return "; hit" in str((await made.asked()).head.lines)

        await eventually(is_hit)
        assert len(made.origin.seen) == 1 + is_first


async def test_interim_responses_are_passed_on(tmp_path: Path) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: x\r\n\r\n"
    async with passing(tmp_path, lambda _: early + response("ok", NEVER, DATE)) as made:
        first = await made.asked()
        await made.until_passed()
        again = await made.asked()
        assert [type(each) for each in made.outcomes] == [Passed]
        assert again == first
        assert [head.status for head in again.interim] == [103]
        assert again.interim[0].lines == [("Link", "</a>; rel=preload")]


# --- when it does not ---


@NOTED
async def test_an_origin_that_is_silent_is_waited_for_once(tmp_path: Path, is_noted: bool) -> None:
    async with held(tmp_path, is_noted=is_noted, gateway=Gateway(read_timeout=0.3)) as (made, origin, client):
        came = await client.answer()
        assert came is not None
        assert came.head.status == 504
        assert isinstance(made.outcomes[0], TimeoutError)
        assert len(origin.writers) == 1


async def test_an_origin_that_breaks_off_is_asked_once_more(tmp_path: Path) -> None:
    async with held(tmp_path) as (made, origin, client):
        origin.end()
        await eventually(lambda: bool(origin.writers))  # it may have ended a connection that was kept
        origin.end()
        came = await client.answer()
        assert came is not None
        assert came.head.status == 502
        assert isinstance(made.outcomes[0], aiohttp.ClientError)
        assert not origin.writers


async def test_a_body_that_is_cut_is_no_answer(tmp_path: Path) -> None:
    async with held(tmp_path) as (made, origin, client):
        writer = origin.tell(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        writer.close()
        came = await client.answer()
        assert came is not None
        assert came.head.status == 502
        assert len(made.outcomes) == 1


async def test_a_body_that_does_not_come_is_waited_for_as_long(tmp_path: Path) -> None:
    async with held(tmp_path, gateway=Gateway(read_timeout=0.3)) as (made, origin, client):
        origin.tell(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 100\r\n\r\nabc")
        came = await client.answer()
        assert came is not None
        assert came.head.status == 504
        assert isinstance(made.outcomes[0], TimeoutError)


@NOTED
async def test_no_request_gets_what_was_said_to_another(tmp_path: Path, is_noted: bool) -> None:
    async with held(tmp_path, is_noted=is_noted) as (made, origin, client):
        client.send(request("/other"))  # held, for it came too early
        origin.free = True
        early = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        writer = origin.tell(early)
        await eventually(lambda: bool(made.outcomes))
        writer.write(b"0\r\n\r\n")
        came = [await client.answer(), await client.answer()]
        assert [each and each.body for each in came] == [b"abc", b"held"]
        assert isinstance(made.outcomes[0], Answer)


@NOTED
async def test_an_early_answer_that_nobody_takes_is_no_other_request_s(tmp_path: Path, is_noted: bool) -> None:
    early = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with held(tmp_path, is_noted=is_noted) as (made, origin, client):
        handle = made.cache.edge.handle

        async def handled(request: Any, handler: Any) -> Any:
            return await handle(request, _another if request.path == "/page" else handler)

        vars(made.cache.edge)["handle"] = handled
        vars(made.cache.edge)["find"] = lambda _request: None
        client.send(request("/other"))  # held while the origin is asked
        origin.free = True
        origin.tell(early)
        came = [await client.answer(), await client.answer()]
        assert [each and each.body for each in came] == [b"another", b"held"]
        (answer,) = made.outcomes
        assert isinstance(answer, Answer)
        assert answer._connection is None  # and it keeps no connection to the origin
        assert made.handler.early is None


async def _another(_request: Any) -> aiohttp.web.Response:
    """What answers when something has changed since the origin was asked."""
    return aiohttp.web.Response(text="another")


# --- what the client does ---


@NOTED
async def test_a_client_that_leaves_costs_nothing(tmp_path: Path, is_noted: bool) -> None:
    async with held(tmp_path, is_noted=is_noted) as (made, origin, client):
        handler = made.handler
        client._writer.transport.abort()
        await eventually(lambda: handler.transport is None)
        origin.tell()
        await eventually(lambda: bool(made.outcomes))
        origin.free = True
        assert (await made.asked()).body == b"held"


async def test_a_client_that_leaves_ends_an_answer_that_comes_on(tmp_path: Path) -> None:
    async with held(tmp_path) as (made, origin, client):
        handler = made.handler
        client._writer.transport.abort()
        await eventually(lambda: handler.transport is None)
        origin.tell(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await eventually(lambda: bool(made.outcomes))
        (answer,) = made.outcomes
        assert isinstance(answer, Answer)
        assert answer._connection is None


@NOTED
async def test_a_server_that_stops_waits_for_the_origin(tmp_path: Path, is_noted: bool) -> None:
    async with held(tmp_path, is_noted=is_noted) as (made, origin, client):
        server: Any = made.runner.server
        server.pre_shutdown()
        stopping = asyncio.ensure_future(server.shutdown(5.0))
        await asyncio.sleep(0)
        origin.tell()
        came = await client.answer()
        assert came is not None
        assert came.body == b"held"
        assert await client.answer() is None
        await asyncio.wait_for(stopping, 2)


async def test_a_stop_waits_for_nobody_s_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with held(tmp_path) as (made, _, client):
        handler = made.handler
        client._writer.transport.abort()
        await eventually(lambda: handler.transport is None)
        assert made.cache._passing is not None
        assert len(made.cache._passing._tasks) == 1
        async with asyncio.timeout(2):
            await made.runner.cleanup()
        assert not made.cache._passing._tasks
        gc.collect()
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_each_peer_is_told_of_by_its_own_address(tmp_path: Path) -> None:
    async with passing(tmp_path) as made:
        sources = ("127.0.0.1", "127.0.0.2")
        for source in sources:
            await made.until_passed(source=source)
        for source in (*sources, *sources):
            await made.asked(source=source)
        told = [dict(head.lines)["X-Forwarded-For"] for head, _ in made.origin.seen]
        assert told == [*sources, *sources]
        assert {type(each) for each in made.outcomes} == {Passed}


async def test_each_user_has_an_own_answer(tmp_path: Path) -> None:
    def answer(head: Head) -> bytes:
        return response(dict(head.lines).get("Cookie", "nobody"), "Cache-Control: private, max-age=60")

    users = [request("/page", f"Cookie: user={name}") for name in "ab"]
    async with passing(tmp_path, answer) as made:
        for octets in (*users, PAGE):
            await made.until_passed(octets)
        told = [(await made.asked(octets)).body for octets in (*users, PAGE, *users, PAGE)]
        assert told == [b"user=a", b"user=b", b"nobody"] * 2
        assert [type(each) for each in made.outcomes] == [Passed] * 6


# --- what is looked at each time ---


async def test_a_region_that_is_down_is_left_out(tmp_path: Path) -> None:
    async with passing(tmp_path) as made:
        await made.until_passed()
        for store in made.cache.stores.values():
            monkeypatch = pytest.MonkeyPatch()
            monkeypatch.setattr(store.glances, "ask", _refusing(store.name))
        came = await made.asked()
        assert came.body == b"ok"
        assert made.outcomes == [None]
        assert "detail=no-region" in str(came.head.lines)


def _refusing(region: str) -> Callable[..., None]:
    def ask(_partition: object, _keys: object, told: Callable[[Exception], None]) -> None:
        told(regioncache.RegionUnavailableError(region, "closed"))

    return ask


async def test_nothing_is_planned_for_what_writes_behind_can_change(tmp_path: Path) -> None:
    rules = [Rule("/page", write="behind")]
    async with passing(tmp_path, rules=rules) as made:
        for _ in range(5):
            await made.asked()
        assert made.outcomes == []
        assert len(made.origin.seen) == 5


async def test_event_streams_go_the_normal_way(tmp_path: Path) -> None:
    async with passing(tmp_path) as made:
        for _ in range(5):
            await made.asked(request("/page", "Accept: text/event-stream"))
        assert not any(made.outcomes)
        assert len(made.origin.seen) == 5


async def test_what_goes_to_one_of_several_addresses_goes_the_normal_way(tmp_path: Path) -> None:
    async with passing(tmp_path) as made:
        await made.until_passed()
        (plan,) = (plan for plan, _ in made.cache.edge.plans._exact._values.values())
        assert isinstance(plan, MissPlan)

        def letter(*urls: str, path: str = "/page") -> Any:
            served: Any = SimpleNamespace(upstream=Upstream(addresses=tuple(map(OriginAddress, urls))))
            asker = Asker("127.0.0.1", is_trusted=False, scheme="http")
            return made.cache.forwarder.find_letter(plan.asked, path, asker, served, aiohttp.HttpVersion11)

        assert letter(made.origin.url) is not None
        assert letter(made.origin.url, "http://127.0.0.1:9") is None
        assert letter(made.origin.url, path="*") is None


async def test_the_log_has_the_same_line_both_ways(tmp_path: Path) -> None:
    log: Any = Noted()
    async with passing(tmp_path, access=log) as made:
        await made.until_passed()
        *_, passed = log.lines
    assert (passed.status, passed.bytes, passed.cache, passed.path) == (200, 2, "fwd=miss", "/page")
    assert (passed.region, passed.peer, passed.method) == ("ap-northeast-1", "127.0.0.1", "GET")
    assert passed.duration > 0


# --- patience ---


async def test_who_asks_later_is_waited_for_longer() -> None:
    patience = Patience(aiohttp.ClientTimeout(sock_read=0.2))
    ended: list[str] = []

    class Waiting:
        def __init__(self, name: str) -> None:
            self.name = name
            self._read_timeout_handle = None

        def set_exception(self, error: Exception) -> None:
            assert isinstance(error, TimeoutError)
            ended.append(self.name)

    first, second, third = (Waiting(name) for name in ("first", "second", "third"))
    for each in (first, second):
        patience.begin(each)  # type: ignore[arg-type]
    began = asyncio.get_running_loop().time()
    patience.end(first)  # type: ignore[arg-type]
    await eventually(lambda: ended == ["second"])
    patience.begin(third)  # type: ignore[arg-type]
    await eventually(lambda: ended == ["second", "third"])
    assert asyncio.get_running_loop().time() - began >= 0.4
    assert not patience._until
    assert patience._timer is None
