"""Requests that are written out once for all that say the same: an origin gets what aiohttp's client would send."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from aiohttp_regioncache.exchange import ASKER, Asker
from aiohttp_regioncache.gateway import forward
from aiohttp_regioncache.gateway.forward import Forwarder
from aiohttp_regioncache.origins import letters
from aiohttp_regioncache.origins.letters import is_sendable
from aiohttp_regioncache.origins.origins import Origins
from aiohttp_regioncache.regions import Region, TrustedProxies
from aiohttp_regioncache.rules import Rules
from aiohttp_regioncache.served import default_site
from aiohttp_regioncache.settings import Settings
from aiohttp_regioncache.upstream import OriginAddress, Upstream
from tests.gateway.octets import RawOrigin, connection, request, response
from tests.support.world import Edge, World

TARGETS = ("/", "/a", "/a?b=c&d", "//a", "/%7Ea/../b", "/a;b?c?d", "/[a]|^`{}\\", "/a?b='\"", "/%C3%A9", "/a#b", "*")
FIELDS: Sequence[Sequence[str | bytes]] = (
    (),
    ("Accept: */*", "User-Agent: a", "Accept-Encoding: gzip", "Accept-Language: de"),
    ("Cookie: a=b", "Cookie: c=d", "X-A: 1", "x-a: 2", "X-B:"),
    ("Authorization: Basic YTpi", "Content-Type: text/plain", "Content-Length: 0"),
    ("Via: 1.0 before", "CDN-Loop: another", "Connection: x-hidden, keep-alive", "X-Hidden: a", "TE: trailers"),
    (b"X-Octets: \xfc\xe9", "X-Text: \u00fc"),
    ("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "Forwarded: for=1.1.1.1", "X-Real-IP: 1.1.1.1"),
    ("Regioncache-Pin: a", "Cookie: regioncache_pin=b; c=d", "X-HTTP-Method-Override: PUT"),
    ("Range: bytes=0-1", "If-None-Match: \"a\"", "Cache-Control: no-cache", "Accept: text/event-stream"),
)  # fmt: skip


async def seen(origin: RawOrigin, edge: Edge, octets: bytes, method: str) -> Any:
    """What the origin gets of a request; None for nothing."""
    origin.seen.clear()
    async with connection(edge) as client:
        client.send(octets)
        answer = await client.answer(method)
    return answer is not None and answer.head.status, list(origin.seen)


@pytest.mark.parametrize("trusted", [["127.0.0.1"], []])
async def test_an_origin_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: list[str]) -> None:
    options: dict[str, Any] = {"rules": [], "trusted_proxies": trusted}
    uncacheable = response("ok", "Cache-Control: no-store")
    async with RawOrigin(lambda _: uncacheable) as origin, World(tmp_path) as world:
        by_letter = await world.edge(origin=f"{origin.url}/base", **options)
        monkeypatch.setattr(forward, "FINGERPRINT", "another")
        by_session = await world.edge(origin=f"{origin.url}/base", **options)
        assert by_letter.cache.forwarder._letters is not None
        assert by_session.cache.forwarder._letters is None
        asked = [(target, FIELDS[0]) for target in TARGETS] + [("/a", fields) for fields in FIELDS]
        hosts, versions = ("edge.example", "Other.example:80"), (b"HTTP/1.1", b"HTTP/1.0")
        for method, (target, fields), host, version in itertools.product(("GET", "HEAD"), asked, hosts, versions):
            octets = request(target, *fields, method=method, host=host).replace(b"HTTP/1.1", version, 1)
            first, again = [await seen(origin, by_letter, octets, method) for _ in range(2)]
            assert first == again == await seen(origin, by_session, octets, method), octets
        assert len(by_letter.cache.forwarder._letters) > len(FIELDS)


def test_what_cannot_stand_in_a_request_line_is_left_to_the_client() -> None:
    assert [path for path in TARGETS if not is_sendable(path)] == ["/a#b", "*"]
    assert not any(map(is_sendable, ("", "a", "/a b", "/a\r\n", "/a\r\nX: b", "/\x7f", "/\u00e9", "/\n")))


class _Asked:
    """One request of many that differ from it in one respect each."""

    def __init__(self, **changes: Any) -> None:
        self.method = changes.get("method", "GET")
        self.fields = changes.get("fields", {"Host": "a.example", "X-A": "1"})
        self.version = changes.get("version", HttpVersion11)
        self.asker = changes.get("asker", Asker("1.1.1.1", False, "http"))
        self.base = changes.get("base", "http://origin.example")
        self.origin_host = changes.get("origin_host")
        self.is_guarded = changes.get("is_guarded", False)

    def request(self) -> web.Request:
        made = make_mocked_request(self.method, "/a", headers=CIMultiDict(self.fields), version=self.version)
        made[ASKER] = self.asker
        return made


async def test_a_letter_goes_by_everything_that_it_depends_on() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"method": "HEAD"},
        {"fields": {"Host": "b.example", "X-A": "1"}},
        {"fields": {"Host": "a.example", "X-A": "2"}},
        {"fields": {"Host": "a.example", "x-a": "1"}},
        {"version": HttpVersion10},
        {"asker": Asker("2.2.2.2", False, "http")},
        {
            "asker": Asker("1.1.1.1", True, "http"),
            "fields": {"Host": "a.example", "X-A": "1", "True-Client-IP": "3.3.3.3"},
        },
        {"fields": {"Host": "a.example", "X-A": "1", "True-Client-IP": "3.3.3.3"}},
        {"asker": Asker("1.1.1.1", False, "https")},
        {"base": "http://another.example"},
        {"base": "http://origin.example/base"},
        {"origin_host": "other.example"},
        {"is_guarded": True},
        {"base": "https://origin.example"},
        {"base": "https://origin.example", "origin_host": "other.example"},
    ]
    settings = Settings(
        regions=[Region("eu", redis="redis://127.0.0.1:1", latitude=0.0, longitude=0.0)], origin="http://a.example"
    )
    async with Origins() as origins:
        default = default_site(settings, Rules(()))

        def forwarder() -> Forwarder:
            return Forwarder(
                origins, settings.gateway, TrustedProxies(), default, "name", max_body=1, table_bytes=1_000_000
            )

        def letter(by: Forwarder, asked: _Asked) -> Any:
            addresses = (OriginAddress(url=asked.base),)
            upstream = Upstream(addresses=addresses, host=asked.origin_host, is_guarded=asked.is_guarded)
            (way,) = origins.ways(upstream, "a.example")
            assert by._letters is not None
            found = by._letter(by._letters, asked.request(), way)
            request = found._request
            return (
                found._prefix, found._fields, found._has_body, found._session, request.url, request.server_hostname,
            )  # fmt: skip

        shared = forwarder()
        for _ in range(2):
            for changes in kinds:
                assert letter(shared, _Asked(**changes)) == letter(forwarder(), _Asked(**changes)), changes
        assert (
            len({str(letter(shared, _Asked(**changes))) for changes in kinds}) == len(kinds) - 1
        )  # who says it is not trusted
        assert shared._letters is not None
        assert len(shared._letters) == len(kinds)


async def test_letters_keep_to_their_octets() -> None:
    settings = Settings(
        regions=[Region("eu", redis="redis://127.0.0.1:1", latitude=0.0, longitude=0.0)], origin="http://a.example"
    )
    async with Origins() as origins:
        default = default_site(settings, Rules(()))
        forwarder = Forwarder(
            origins, settings.gateway, TrustedProxies(), default, "name", max_body=1, table_bytes=50_000
        )
        (way,) = origins.ways(Upstream(addresses=(OriginAddress(url="http://a.example"),)))
        assert forwarder._letters is not None
        for number in range(100):
            asked = _Asked(fields={"Host": "a.example", "X-A": f"{number}" * 100})
            forwarder._letter(forwarder._letters, asked.request(), way)
            assert forwarder._letters.size <= 50_000
        assert 2 < len(forwarder._letters) < 12


async def test_a_kept_connection_that_the_origin_has_ended_is_not_noticed(tmp_path: Path) -> None:
    async with RawOrigin(lambda _: response("ok", "Cache-Control: no-store")) as origin, World(tmp_path) as world:
        edge = await world.edge(origin=origin.url, rules=[])
        for _ in range(3):
            assert (await edge.get("/a")).status == 200
            for writer in tuple(origin._writers):
                writer.transport.abort()
        assert len(origin.seen) == 3


def test_this_is_the_aiohttp_that_letters_were_made_for() -> None:
    assert letters.fingerprint() == letters.FINGERPRINT, "look at what has changed, then name the new one"
