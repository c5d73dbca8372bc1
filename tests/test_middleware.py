"""The way of a request: which region, which principal, and that nothing a client sends makes a 500 (S2, S3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Rule, Webhook
from aiohttp_regioncache.exchange import Asker
from aiohttp_regioncache.keys import Target
from tests.reads.apps import running
from tests.support import eventually
from tests.support.world import SAO_PAULO, SECRET, TOKYO, Edge, World, one_edge

# --- regions ---


@pytest.mark.parametrize(
    ("headers", "region"),
    [
        (TOKYO, "ap-northeast-1"),
        (SAO_PAULO, "sa-east-1"),
        ({"CF-IPCountry": "AR"}, "sa-east-1"),
        ({"CF-IPCountry": "jp"}, "ap-northeast-1"),
        ({"CF-IPCountry": "XX"}, "sa-east-1"),
        ({"CF-IPCountry": "garbage"}, "sa-east-1"),
        ({}, "sa-east-1"),
        ({"CF-IPCountry": "JP", "CF-IPLatitude": "-23.5", "CF-IPLongitude": "-46.6"}, "sa-east-1"),
    ],
)
async def test_a_trusted_proxy_says_where_a_user_is(tmp_path: Path, headers: dict[str, str], region: str) -> None:
    async with one_edge(tmp_path, default_region="sa-east-1") as (_, edge):
        assert (await edge.get("/pages/1", headers=headers)).cache_status.startswith(f"regioncache/{region};")


async def test_a_peer_that_is_not_trusted_chooses_nothing(tmp_path: Path) -> None:
    async with one_edge(tmp_path, trusted_proxies=["10.0.0.0/8"]) as (_, edge):
        forged = SAO_PAULO | {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
        assert (await edge.get("/pages/1", headers=forged)).cache_status.startswith("regioncache/ap-northeast-1;")


async def test_a_connection_that_is_gone_moves_nobody_with_the_same_fields(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        way: Any = edge.cache.edge
        request: Any = make_mocked_request("GET", "/pages/1", SAO_PAULO, transport=Mock())
        request.transport.get_extra_info = {"peername": ("127.0.0.1", 0)}.get
        target = Target.of("http", "edge.example", "/pages/1", "")
        asker = Asker.of(request, way._exchanges.trusted)
        request.protocol.transport = None  # it ends while its site is looked up
        for _ in range(2):
            exchange = way._exchanges.make(request, asker, way._default, target)
            assert exchange.stores[0].name == "sa-east-1"


async def test_a_home_region_is_everybodys(tmp_path: Path) -> None:
    async with one_edge(tmp_path, home_region="sa-east-1") as (_, edge):
        for headers in (TOKYO, SAO_PAULO, {}):
            assert (await edge.get("/pages/1", headers=headers)).cache_status.startswith("regioncache/sa-east-1;")


async def test_a_write_goes_to_the_users_region(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        for headers, region in ((TOKYO, "ap-northeast-1"), (SAO_PAULO, "sa-east-1")):
            answer = await edge.put("/items/1", {}, headers=headers)
            assert answer.headers["Location"].startswith(f"/_regioncache/writes/{region}-0-")


# --- other methods and odd targets ---


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_safe_methods_that_do_not_read_are_left_alone(tmp_path: Path, method: str) -> None:
    async with one_edge(tmp_path) as (world, edge):
        answer = await edge.ask(method, "/items/1")
        assert "fwd=bypass; detail=method" in answer.cache_status
        assert world.origin.requests[-1].method == method


async def test_a_raised_answer_to_an_options_request_is_marked_too(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(web.Application())
        answer = await edge.ask("OPTIONS", "/nowhere")
        assert answer.status == 404
        assert "fwd=bypass" in answer.cache_status


async def talk(edge: Edge, request: bytes) -> bytes:
    """Send octets over a connection of their own; the answer, until it is closed."""
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def status_of(answer: bytes) -> int:
    """The status of the first response in an answer."""
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    assert match, answer
    return int(match[1])


TARGETS = [
    b"*", b"http://elsewhere/items/1", b"//items//1", b"/items/%zz", b"/items/%00", b"/items/\xff", b"?",
    b"/items/../items/./1", b"/items/1?%ff=\xfe", b"/_regioncache/writes/%2e%2e", b"/_regioncache/",
    b"/_regioncache/writes/" + b"a-" * 2000, b"/" + b"x" * 9000, b"/items/1#fragment",
    b"/%5Fregioncache/writes/x", b"/items/" + b"\xc3\xa9" * 500,
]  # fmt: skip


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"OPTIONS", b"PROPFIND", b"DELETE"])
async def test_no_target_makes_a_server_error(hostile: Edge, method: bytes) -> None:
    for target in TARGETS:
        answer = await talk(hostile, method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert status_of(answer) < 500, target


@pytest.mark.parametrize("dots", [b"..", b"%2e%2e", b".%2E"])
async def test_dot_segments_are_neither_stored_nor_queued_but_do_invalidate(tmp_path: Path, dots: bytes) -> None:
    async with one_edge(tmp_path, rules=[]) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await edge.get("/pages/1")

        async def is_hit() -> bool:
            return "; hit" in (await edge.get("/pages/1")).cache_status

        await eventually(is_hit)
        read = await talk(edge, b"GET /pages/x/" + dots + b"/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"detail=dot-segments" in read
        assert status_of(await talk(edge, putting(b"/pages/x/" + dots + b"/1"))) == 200
        assert "; hit" not in (await edge.get("/pages/1")).cache_status


def putting(path: bytes) -> bytes:
    """A PUT of an empty document."""
    return b"PUT " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


async def test_encoded_dot_segments_lead_past_no_guard_into_the_queue(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        assert status_of(await talk(edge, putting(b"/admin/%2e%2e/items/1"))) == 200  # the origin's own answer
        assert status_of(await talk(edge, putting(b"/items/1"))) == 202


# --- S3: whatever octets the header fields hold ---

FIELDS = [
    "Cookie", "Authorization", "Accept", "Accept-Language", "Prefer", "CDN-Loop", "Idempotency-Key",
    "Cache-Control", "Pragma", "If-None-Match", "If-Modified-Since", "If-Match", "Range", "Content-Type",
    "Regioncache-Replay", "CF-IPCountry", "CF-IPLatitude", "X-User", "Origin", "Vary", "Cache-Status",
    "Content-Encoding", "Upgrade", "Content-Range", "Regioncache-Pin", "Webhook-Signature", "Webhook-Id",
    "Webhook-Timestamp", "Momento-Signature",
]  # fmt: skip
_octets = st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0"))
_words = st.sampled_from(
    [b"respond-async, wait=1", b"wait=9999999999999999999", b'"', b'W/"', b"max-age=99999999999999999999", b"nan",
     b"only-if-cached", b"no-cache", b"bytes=0-", b"\xff\xfe", b"text/html", b"1;2;3;4;" + b"0" * 32, b"=;==;", b"JP",
     b'"rc-' + b"0" * 32 + b"-1-" + b"0" * 32 + b'"', b"sa-east-1:9999999999:" + b"0" * 32, b"a:\xff:b", b"v1,\xff"]
)  # fmt: skip
_lines = st.lists(st.tuples(st.sampled_from(FIELDS), st.one_of(_octets, _words)), max_size=6)
_requests = st.tuples(st.sampled_from(["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]), _lines)


async def _anything(request: web.Request) -> web.Response:
    """An origin that takes every write, and whose answers vary and like to be asked for again."""
    if request.method not in ("GET", "HEAD"):
        return web.Response(status=204)
    headers = {"Vary": "Accept-Language, Cookie, X-User", "ETag": '"1"'}
    return web.json_response({"n": 1}, headers=headers | {"Cache-Control": "max-age=0, stale-while-revalidate=60"})


@pytest_asyncio.fixture
async def hostile(tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge with every kind of rule."""
    rules = [
        Rule("/items/{id}", write="behind", dirty_wait=0, principal="header:X-User"),
        Rule("/mine/**", per_user=True),
        Rule("/varied", ttl=60),
    ]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _anything)
    async with World(tmp_path) as world, running(app) as origin:
        yield await world.edge(
            origin=origin, rules=rules, webhook=Webhook(secrets=["whsec_" + 4 * "c2VjcmV0"], momento_secrets=[SECRET])
        )


PATHS = ["/items/1", "/mine/1", "/varied", "/_regioncache/writes/x-0-1", "/_regioncache/sync"]


@given(_requests, st.sampled_from(PATHS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(("GET", [("Accept-Language", b"\xff")]), "/varied")
@example(("PUT", [("Idempotency-Key", b"\xff"), ("Content-Type", b"\xff"), ("X-User", b"\xff")]), "/items/1")
@example(("GET", [("Regioncache-Replay", b"a;b;c;d;e")]), "/items/1")
@example(("PUT", [("Regioncache-Replay", b"\xff;;;;")]), "/items/1")
async def test_no_header_octets_make_a_server_error(
    hostile: Edge, request_: tuple[str, list[tuple[str, bytes]]], path: str
) -> None:
    method, lines = request_
    fields = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in lines)
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n".encode()
    assert status_of(await talk(hostile, head + fields + b"\r\n{}")) != 500


@pytest.mark.parametrize(
    "host", [b"a/items", b"a?b", b"a#b", b"a b", b"a@b", b"[", b"[::1", b"[1.2.3.4]", b"a:b", b"a\\b"]
)
async def test_what_is_no_host_is_refused_before_it_stores_or_changes_anything(hostile: Edge, host: bytes) -> None:
    for method, path in ((b"GET", b"/1"), (b"PUT", b"/items/1"), (b"POST", b"/other")):
        head = method + b" " + path + b" HTTP/1.1\r\nHost: " + host
        answer = await talk(hostile, head + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        assert status_of(answer) == 400


@pytest.mark.parametrize(
    "host", [b"a", b"A.example:8080", b"", b"[::1]:80", b"my_service", b"b\xc3\xbccher.example", b"a:"]
)
async def test_hosts_are_taken_as_they_come(hostile: Edge, host: bytes) -> None:
    head = b"GET /varied HTTP/1.1\r\nHost: " + host
    assert status_of(await talk(hostile, head + b"\r\nConnection: close\r\n\r\n")) == 200


async def test_no_host_reaches_what_is_stored_of_another_path(tmp_path: Path) -> None:
    """The URL of another path on another host must not read like this one's."""
    async with one_edge(tmp_path, rules=[]) as (world, edge):
        world.origin.documents |= {"/items/1": {"n": "right"}, "/1": {"n": "wrong"}}
        world.origin.extra_headers = {"ETag": '"1"'}
        await talk(edge, b"GET /1 HTTP/1.1\r\nHost: a/items\r\nConnection: close\r\n\r\n")
        keys = await edge.cache.stores["ap-northeast-1"].queue.command("KEYS", "*:e:*")
        assert keys == []


# --- principals ---


async def test_writer_and_reader_are_one_also_where_only_the_read_names_the_identity(tmp_path: Path) -> None:
    rules = [
        Rule("/items/{id}", methods=("GET",), principal="header:X-User"),
        Rule("/items/{id}", write="behind"),
    ]
    async with one_edge(tmp_path, rules=rules) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        ann, bob = ({"X-User": name, "Authorization": f"Bearer {name}"} for name in ("ann", "bob"))
        assert (await edge.put("/items/1", {"n": 2}, headers=ann)).status == 202
        assert (await edge.get("/items/1", headers=ann)).body == b'{"n": 2}'
        assert (await edge.get("/items/1", headers=bob)).body == b'{"n": 1}'


async def test_writer_and_reader_are_one_also_where_only_the_write_has_a_rule(tmp_path: Path) -> None:
    """The rule that names the identity covers PUT alone; a GET has none of its own."""
    rule = Rule("/items/{id}", methods=("PUT",), write="behind", principal="header:X-User")
    async with one_edge(tmp_path, rules=[rule]) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        world.origin.gate.clear()
        ann, bob = {"X-User": "ann"}, {"X-User": "bob"}
        assert (await edge.put("/items/1", {"n": 2}, headers=ann)).status == 202
        assert (await edge.get("/items/1", headers=ann)).body == b'{"n": 2}'
        assert (await edge.get("/items/1", headers=bob)).body == b'{"n": 1}'
        assert (await edge.get("/items/1")).body == b'{"n": 1}'


async def test_a_request_without_a_set_up_application_says_so(tmp_path: Path) -> None:
    app = web.Application()

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(regioncache.NotSetUpError, match="setup"):
            regioncache.region_cache(request)
        return web.Response()

    app.router.add_get("/", handler)
    async with World(tmp_path) as world, running(app) as url, world.session.get(url) as answer:
        assert answer.status == 200
