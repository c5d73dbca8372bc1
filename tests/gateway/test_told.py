"""Who asks, as an origin is told: by peers that are trusted and by those that are not."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conformance.wire import Head
from tests.gateway.octets import RawOrigin
from tests.support.world import World

NAMES = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded")
SAID = {
    "X-Forwarded-For": "6.6.6.6, 10.0.0.1", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
    "Forwarded": 'for=6.6.6.6;host=evil.example;proto=https, for="[2001:db8::1]:80";by=_x',
}  # fmt: skip


def told(head: Head) -> dict[str, list[str]]:
    """What a request says of who asks."""
    return {name: head.values(name) for name in NAMES}


async def ask(origin: RawOrigin, world: World, said: dict[str, str], **changes: Any) -> dict[str, list[str]]:
    """What the origin is told of a request that says this."""
    edge = await world.edge(origin=origin.url, rules=[], **changes)
    await edge.get("/page", headers={"Host": "Edge.example:8080", **said})
    return told(origin.seen[-1][0])


async def test_what_an_untrusted_peer_says_is_left_out(tmp_path: Path) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        assert await ask(origin, world, SAID, trusted_proxies=[]) == {
            "X-Forwarded-For": ["127.0.0.1"],
            "X-Forwarded-Host": ["Edge.example:8080"],
            "X-Forwarded-Proto": ["http"],
            "Forwarded": ['for=127.0.0.1;host="Edge.example:8080";proto=http'],
        }


async def test_what_a_trusted_peer_says_of_those_before_it_is_kept(tmp_path: Path) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        own = 'for=127.0.0.1;host="Edge.example:8080";proto=https'
        assert await ask(origin, world, SAID, trusted_proxies=["127.0.0.0/8"]) == {
            "X-Forwarded-For": ["6.6.6.6, 10.0.0.1, 127.0.0.1"],
            "X-Forwarded-Host": ["Edge.example:8080"],
            "X-Forwarded-Proto": ["https"],
            "Forwarded": [f'for=6.6.6.6, for="[2001:db8::1]:80";by=_x, {own}'],
        }


@pytest.mark.parametrize("scheme", ["javascript", "", 'https"', "ws", "HTTPS"])
async def test_a_scheme_is_http_or_https(tmp_path: Path, scheme: str) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        found = await ask(origin, world, {"X-Forwarded-Proto": scheme})
        assert found["X-Forwarded-Proto"] == ["https" if scheme == "HTTPS" else "http"]


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
async def test_an_ipv6_address_is_written_as_each_field_has_it(tmp_path: Path) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        edge = await world.edge(origin=origin.url, rules=[], trusted_proxies=[])
        try:
            await (site := web.TCPSite(edge.runner, "::1", 0)).start()
        except OSError:
            pytest.skip("there is no ::1 here")
        url = f"http://[::1]:{edge.runner.addresses[-1][1]}"
        async with world.session.get(f"{url}/page") as answer:
            assert answer.status == 200
        host = url.removeprefix("http://")
        assert site.name.startswith("http://")
        assert told(origin.seen[-1][0]) == {
            "X-Forwarded-For": ["::1"],
            "X-Forwarded-Host": [host],
            "X-Forwarded-Proto": ["http"],
            "Forwarded": [f'for="[::1]";host="{host}";proto=http'],
        }


@pytest.mark.parametrize("is_trusted", [False, True])
async def test_a_unix_socket_has_no_address(tmp_path: Path, is_trusted: bool) -> None:
    async with RawOrigin() as origin, World(tmp_path) as world:
        trusted = ["127.0.0.1", *(["unix"] if is_trusted else [])]
        edge = await world.edge(origin=origin.url, rules=[], trusted_proxies=trusted)
        path = str(tmp_path / "edge.sock")
        await web.UnixSite(edge.runner, path).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
            headers = {"X-Forwarded-For": "6.6.6.6"}
            async with session.get("http://edge.example/page", headers=headers) as answer:
                assert answer.status == 200
        assert told(origin.seen[-1][0]) == {
            "X-Forwarded-For": ["6.6.6.6"] if is_trusted else [],
            "X-Forwarded-Host": ["edge.example"],
            "X-Forwarded-Proto": ["http"],
            "Forwarded": ['for=unknown;host="edge.example";proto=http'],
        }
