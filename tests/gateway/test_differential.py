"""Hits that are answered inside the protocol are the same to the octet as those that go the normal way."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache.gateway import protocol
from aiohttp_regioncache.reads import plans

from .differential import LAST, NEVER_STORED, Pair, Script, a_script, answer

SCRIPTS = 250
ONE = b"GET /plain/1 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: one\r\nAccept: */*\r\n\r\n"


@pytest.fixture(autouse=True)
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything remembered that can be, at once."""
    monkeypatch.setattr(plans, "SAMPLE", 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("memory_seconds", [3600.0, 0.0])
@pytest.mark.parametrize("way", ["gateway", "plugin"])
async def test_generated_requests_get_the_same_octets_both_ways(
    tmp_path: Path, way: str, memory_seconds: float
) -> None:
    chance = random.Random(f"{way} {memory_seconds}")
    async with Pair(tmp_path, way, memory_seconds=memory_seconds) as pair:
        for _ in range(SCRIPTS):
            script = a_script(chance)
            assert (await pair.answers(script)).are_same, script
        assert pair.sent > SCRIPTS // 2  # of two fast plays each, or else this says nothing


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["gateway", "plugin"])
async def test_what_is_never_stored_gets_the_same_octets_both_ways(tmp_path: Path, way: str) -> None:
    chance = random.Random(f"never {way}")
    async with Pair(tmp_path, way, memory_seconds=3600.0) as pair:
        for _ in range(SCRIPTS // 2):
            script = a_script(chance, NEVER_STORED)
            assert (await pair.answers(script)).are_same, script
        if way == "gateway":
            assert pair.sent > SCRIPTS // 4  # or else this says nothing
            assert pair.handed_over > SCRIPTS // 50


@pytest.mark.parametrize("memory_seconds", [3600.0, 0.0])
async def test_signals_and_other_middlewares_see_what_they_always_do(tmp_path: Path, memory_seconds: float) -> None:
    chance = random.Random(f"signals {memory_seconds}")
    async with Pair(tmp_path, "plugin", memory_seconds=memory_seconds, app=_watched()) as pair:
        for _ in range(SCRIPTS // 10):
            script = a_script(chance)
            assert (await pair.answers(script)).are_same, script


def _watched() -> web.Application:
    """An application that changes its answers on their way, as others do: fields, cookies, the body, its coding."""

    @web.middleware
    async def changing(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        kind = request.headers.get("User-Agent")
        if kind == "one":
            response.headers["X-Seen"] = f"{response.status} {response.headers.get('Age')}"
            response.set_cookie("a", "b")
        elif kind == "two" and isinstance(response, web.Response) and response.body:
            response.body = bytes(response.body) + b" changed"  # type: ignore[arg-type]
        elif request.path.startswith("/tagged"):
            response.enable_compression(web.ContentCoding.gzip)
        elif request.path.startswith("/vary"):
            response.force_close()
        return response

    async def prepared(request: web.Request, response: web.StreamResponse) -> None:
        if "Accept" in request.headers:
            response.headers["X-Prepared"] = str(response.content_length)

    app = web.Application(middlewares=[changing])
    app.on_response_prepare.append(prepared)
    app.router.add_route("*", "/{path:.*}", answer)
    return app


@pytest.mark.parametrize("memory_seconds", [3600.0, 0.0])
async def test_a_request_may_be_cut_anywhere(tmp_path: Path, memory_seconds: float) -> None:
    async with Pair(tmp_path, "gateway", memory_seconds=memory_seconds) as pair:
        for cut in range(1, len(ONE)):
            script = Script((ONE[:cut], ONE[cut:], ONE, ONE + ONE[:cut], ONE[cut:] + LAST))
            assert (await pair.answers(script)).are_same, script
        script = Script((*(bytes([octet]) for octet in ONE + LAST),))
        assert (await pair.answers(script)).are_same, script
        assert pair.sent > len(ONE)


async def test_a_client_that_reads_slowly_gets_everything_in_its_order(tmp_path: Path) -> None:
    large = ONE.replace(b"/plain/1", b"/large/1")
    async with Pair(tmp_path, "gateway", memory_seconds=3600.0) as pair:
        script = Script((*(large, ONE) * 30, LAST), slow=True)  # 12 MB: more than the system keeps for a client
        assert (await pair.answers(script)).are_same, script
        assert 0 < pair.sent < 120  # of two plays: what comes while the client is behind goes the normal way


@pytest.mark.parametrize("memory_seconds", [3600.0, 0.0])
async def test_an_idle_connection_ends_as_long_after_its_last_answer(tmp_path: Path, memory_seconds: float) -> None:
    limit = 0.3
    async with Pair(tmp_path, "gateway", memory_seconds=memory_seconds, keepalive=limit) as pair:
        script = Script((ONE, ONE, ONE))
        assert (await pair.answers(script)).are_same
        began = time.monotonic()
        await pair.play(script)
        assert limit <= time.monotonic() - began < limit + 1.5
        assert pair.sent >= 2


async def test_what_comes_while_a_region_is_asked_is_answered_after_it(tmp_path: Path) -> None:
    async with Pair(tmp_path, "gateway", memory_seconds=0.0) as pair:
        many = tuple(ONE.replace(b"/plain/1", b"/plain/%d" % number) for number in range(40))
        script = Script((*many, LAST))
        answers = await pair.answers(script)
        assert answers.are_same, script
        told = re.findall(rb"GET /plain/(\d+) ", answers.fast[0].octets)
        assert told == [b"%d" % number for number in range(40)]
        assert pair.sent > 2


async def test_another_aiohttp_than_expected_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "FINGERPRINT", "another")
    async with Pair(tmp_path, "gateway", memory_seconds=3600.0) as pair:
        assert pair.runner.gate is None
        assert b"200 OK" in (await pair.play(Script((LAST,)))).octets
    assert "for which the fast way of hits was made" in caplog.text


def test_this_is_the_aiohttp_that_the_fast_way_was_made_for() -> None:
    assert protocol.fingerprint() == protocol.FINGERPRINT, "look at what has changed, then name the new one"
