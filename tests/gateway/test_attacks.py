"""Attacks by octets: nobody's request becomes another one, and nobody gets what is meant for somebody else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.wire import Head, Received
from tests.gateway.octets import Connection, RawOrigin, connection, request, response
from tests.support.world import Edge, World

SMUGGLED = request("/smuggled", "X-Smuggled: 1")
CHUNKED = b"Transfer-Encoding: chunked"


@contextlib.asynccontextmanager
async def attacked(directory: Path, origin: RawOrigin | None = None, **changes: Any) -> AsyncIterator[Place]:
    """An edge before a raw origin, whose clients are not trusted."""
    origin = origin or RawOrigin()
    async with origin, World(directory) as world:
        options: dict[str, Any] = {"origin": origin.url, "rules": [], "trusted_proxies": []}
        yield Place(await world.edge(**(options | changes)), origin)


class Place:
    """The edge and its origin."""

    def __init__(self, edge: Edge, origin: RawOrigin) -> None:
        self.edge = edge
        self.origin = origin

    async def ask(self, target: str, *lines: str | bytes, **options: Any) -> Received:
        """Send one request on a connection of its own."""
        async with connection(self.edge) as client:
            return await asked(client, target, *lines, **options)

    async def is_sound(self) -> None:
        """Check that the origin understood everything, and that others get their own answers."""
        for number in range(4):  # more than there are connections to the origin
            assert (await self.ask(f"/own/{number}")).body == f"GET /own/{number}".encode()
            answer = await self.ask("/own", method="POST")
            assert answer.body == b"POST /own"
        assert self.origin.broken == []


async def asked(client: Connection, target: str, *lines: str | bytes, **options: Any) -> Received:
    """Send one request on a connection, and get its answer."""
    client.send(request(target, *lines, **options))
    answer = await client.answer(options.get("method", "GET"))
    assert answer is not None
    return answer


# --- Where a message ends ---

_ZERO = b"0\r\n\r\n"


def _post(*lines: str | bytes, body: bytes = _ZERO + SMUGGLED) -> bytes:
    return request("/a", *lines, body=body)


_LENGTH = "Content-Length: 5"
AMBIGUOUS: dict[str, bytes] = {
    "CL.TE": _post(_LENGTH, CHUNKED),
    "CL.TE short": _post(f"Content-Length: {5 + len(SMUGGLED)}", CHUNKED),
    "TE.CL": _post(CHUNKED, "Content-Length: 4", body=b"4\r\nabcd\r\n" + _ZERO + SMUGGLED),
    "TE.CL of GET": request("/a", CHUNKED, "Content-Length: 0", body=_ZERO + SMUGGLED),
    "TE folded": _post("Transfer-Encoding:\r\n chunked", _LENGTH),
    "TE folded name": _post("X: y\r\n Transfer-Encoding: chunked", _LENGTH),
    "TE with space": _post("Transfer-Encoding : chunked", _LENGTH),
    "TE with tab": _post("Transfer-Encoding\t: chunked", _LENGTH),
    "TE with vertical tab": _post(b"Transfer-Encoding:\x0bchunked", _LENGTH),
    "TE twice": _post(CHUNKED, "Transfer-Encoding: identity"),
    "TE twice chunked": _post(CHUNKED, CHUNKED),
    "TE chunked twice": _post("Transfer-Encoding: chunked, chunked"),
    "TE chunked first": _post("Transfer-Encoding: chunked, identity"),
    "TE unknown": _post("Transfer-Encoding: xchunked", _LENGTH),
    "TE quoted": _post('Transfer-Encoding: "chunked"', _LENGTH),
    "TE of HTTP/1.0": _post(CHUNKED, _LENGTH).replace(b"1.1", b"1.0", 1),
    "CL twice": _post("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED),
    "CL twice the same": _post(_LENGTH, _LENGTH, body=b"hello" + SMUGGLED),
    "CL listed": _post(f"Content-Length: 0, {len(SMUGGLED)}", body=SMUGGLED),
    "CL signed": _post("Content-Length: +5", body=b"hello" + SMUGGLED),
    "CL negative": _post("Content-Length: -1", body=SMUGGLED),
    "CL hexadecimal": _post("Content-Length: 0x5", body=b"hello" + SMUGGLED),
    "CL underscored": _post("Content-Length: 1_0", body=b"hello" + SMUGGLED),
    "CL of other digits": _post(b"Content-Length: \xb2", body=b"hello" + SMUGGLED),
    "CL empty": _post("Content-Length:", body=SMUGGLED),
    "CL with space": _post("Content-Length : 5", body=b"hello" + SMUGGLED),
    "CL huge": _post("Content-Length: " + "9" * 40, body=SMUGGLED),
    "chunk size signed": _post(CHUNKED, body=b"+0\r\n\r\n" + SMUGGLED),
    "chunk size 0x": _post(CHUNKED, body=b"0x0\r\n\r\n" + SMUGGLED),
    "chunk size huge": _post(CHUNKED, body=b"1" + b"0" * 16 + b"\r\n\r\n" + SMUGGLED),
    "chunk without its end": _post(CHUNKED, body=b"1\r\nab" + _ZERO + SMUGGLED),
    "chunk ended by LF": _post(CHUNKED, body=b"1\na\n0\n\n" + SMUGGLED),
    "chunk extension with LF": _post(CHUNKED, body=b"0;a\n\r\n\r\n" + SMUGGLED),
    "chunk extension with CR": _post(CHUNKED, body=b"0;a\rb\r\n\r\n" + SMUGGLED),
}  # fmt: skip
"""Requests whose end depends on who reads them, with another one behind."""


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_ends_here_for_one_and_there_for_another_is_refused(tmp_path: Path, name: str) -> None:
    async with attacked(tmp_path) as place:
        async with connection(place.edge) as client:
            client.send(AMBIGUOUS[name])
            answers = await client.rest()
        assert [answer.head.status for answer in answers] == [400]
        assert "/smuggled" not in place.origin.targets
        await place.is_sound()


CLEAR: dict[str, tuple[bytes, bytes]] = {
    "length": (_post(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED), SMUGGLED),
    "chunks": (_post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), SMUGGLED),
    "chunked in odd case": (_post("tRANSFER-eNCODING: ChUnKeD", body=b"2\r\nab\r\n0\r\n\r\n"), b"ab"),
    "extensions": (_post(CHUNKED, body=b'2;a=b;c="d"\r\nab\r\n0;e\r\n\r\n'), b"ab"),
    "trailers": (_post(CHUNKED, "Trailer: X-T", body=b"2\r\nab\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\n"), b"ab"),
    "a body of a GET": (request("/a", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED), SMUGGLED),
    "hidden length": (_post("Content-Length: 5", "Connection: Content-Length", body=b"hello"), b"hello"),
    "hidden coding": (_post(CHUNKED, "Connection: Transfer-Encoding", body=b"2\r\nab\r\n0\r\n\r\n"), b"ab"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAR)
async def test_a_body_stays_a_body_whatever_is_in_it(tmp_path: Path, name: str) -> None:
    octets, body = CLEAR[name]
    async with attacked(tmp_path) as place, connection(place.edge) as client:
        client.send(octets)
        answer = await client.answer()
        assert answer is not None
        assert answer.head.status == 200
        (head, found), *others = place.origin.seen
        assert others == []
        assert found == body
        assert head.values("X-T") == []
        assert len(head.values("Host")) == 1
        client.send(request("/next"))
        following = await client.answer()
        if b"chunked" in octets.lower():  # see responses.on_response_prepare
            assert following is None
        else:
            assert following is not None
            assert following.body == b"GET /next"
        await place.is_sound()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_trailer_is_no_field_of_the_next_request(tmp_path: Path, method: str) -> None:
    """A proxy may send somebody else's over the same connection; it must not be answered with that in it."""
    async with attacked(tmp_path) as place:
        await place.ask("/a")  # stored: the answer to the GET is no handler's
        async with connection(place.edge) as client:
            evil = request("/a", CHUNKED, method=method, body=b"0\r\nX-T: 1\r\nCookie: session=evil\r\n\r\n")
            client.send(evil + request("/next"))
            assert len(await client.rest()) == 1
        assert [value for head, _ in place.origin.seen for value in head.values("Cookie")] == []
        await place.is_sound()


async def test_pipelined_requests_get_their_own_answers_in_order(tmp_path: Path) -> None:
    async with attacked(tmp_path) as place, connection(place.edge) as client:
        await place.ask("/1")  # one of them is stored
        client.send(b"".join(request(f"/{number}") for number in range(10)))
        bodies = [answer.body for _ in range(10) if (answer := await client.answer()) is not None]
        assert bodies == [f"GET /{number}".encode() for number in range(10)]


@pytest.mark.parametrize("octets", [b"a\rb", b"a\nX-Evil: 1", b"a\x00b", b"a\r\n\r\nGET /smuggled HTTP/1.1"])
async def test_a_line_that_breaks_where_it_must_not_makes_no_other_one(tmp_path: Path, octets: bytes) -> None:
    async with attacked(tmp_path) as place:
        async with connection(place.edge) as client:
            client.send(request("/a", b"X-A: " + octets, "Connection: close"))
            answers = await client.rest()
        assert answers
        assert all(answer.head.status in (200, 400) for answer in answers)
        for head, _ in place.origin.seen:
            assert head.values("X-Evil") == []
            assert not any("\r" in value or "\n" in value or "\0" in value for _, value in head.lines)
        await place.is_sound()


async def test_the_origin_sees_no_break_that_is_encoded_in_a_target(tmp_path: Path) -> None:
    async with attacked(tmp_path) as place:
        target = "/a%0dX-Evil:%201%0d%0dGET%20/smuggled%20HTTP/1.1"
        assert (await place.ask(target)).head.status == 200
        assert place.origin.targets == [target]
        both = target.replace("%0d", "%0d%0a")
        assert (await place.ask(both)).head.status == 200
        assert place.origin.targets == [target, both]
        await place.is_sound()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f"X-A: {'a' * 100_000}"], id="a long value"),
        pytest.param([f"{'a' * 100_000}: x"], id="a long name"),
        pytest.param([f"X-{number}: a" for number in range(20_000)], id="many"),
        pytest.param([f"Cookie: a{number}=b" for number in range(5_000)], id="many cookies"),
    ],
)
async def test_a_head_that_is_too_large_is_refused_and_nothing_of_it_stored(tmp_path: Path, lines: list[str]) -> None:
    async with attacked(tmp_path) as place:
        async with connection(place.edge) as client:
            with contextlib.suppress(ConnectionError):
                client.send(request("/page", *lines))
                answer = await client.answer()
                assert answer is None or answer.head.status in (200, 400, 431)
        assert (await place.ask("/page")).body == b"GET /page"
        await place.is_sound()


async def test_a_target_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with attacked(tmp_path) as place:
        async with connection(place.edge) as client:
            client.send(request("/" + "a" * 100_000))
            answer = await client.answer()
            assert answer is None or answer.head.status in (400, 414)
        await place.is_sound()


# --- The origin's answers ---

EVIL = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil"
ANSWERS: dict[str, bytes] = {
    "CL.TE": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL,
    "CL twice": b"Content-Length: 0\r\nContent-Length: 4\r\n\r\nevil",
    "too long": b"Content-Length: 2\r\n\r\nok" + EVIL,
    "of a 204": b"\r\n" + EVIL,
    "bare LF": b"X-A: a\nX-B: b\r\nContent-Length: 2\r\n\r\nok",
    "NUL": b"X-A: a\x00b\r\nContent-Length: 2\r\n\r\nok",
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_comes_after_an_answer_is_nobodys(tmp_path: Path, name: str) -> None:
    def answer(head: Head) -> bytes:
        target = head.start.split(" ")[1]
        status = 204 if name == "of a 204" else 200
        return (
            b"HTTP/1.1 %d X\r\nCache-Control: max-age=60\r\n%b" % (status, ANSWERS[name])
            if target == "/a"
            else own(head)
        )

    own = RawOrigin().answer
    async with attacked(tmp_path, RawOrigin(answer)) as place:
        for _ in range(3):
            found = await place.ask("/a")
            assert found.head.status in (200, 204, 502)
            assert b"evil" not in found.body
            for number in range(3):
                assert (await place.ask(f"/next/{number}")).body == f"GET /next/{number}".encode()
        await place.is_sound()


# --- Whose request it is ---


@pytest.mark.parametrize(
    "host",
    ["user@edge.example", "edge.example/path", "edge.example?x", "edge.example#x", "edge.example\\@evil.example", "a b",
     "edge.example:port", "[::1", "edge.example, evil.example", "edge.example\t"],
)  # fmt: skip
async def test_a_host_that_is_none_is_refused_or_the_same(tmp_path: Path, host: str) -> None:
    async with attacked(tmp_path) as place:
        answer = await place.ask("/page", host=host)
        # A list and a trailing tab are names of some kind, which have a key of their own.
        assert answer.head.status == 400 or host in ("edge.example, evil.example", "edge.example\t")
        assert (await place.ask("/page")).body == b"GET /page"
        await place.is_sound()


@pytest.mark.parametrize("second", ["Host: evil.example", "Host: edge.example", " evil.example", ""])
async def test_a_request_has_one_host(tmp_path: Path, second: str) -> None:
    lines = ("Host: edge.example", second) if second else ()
    async with attacked(tmp_path) as place:
        async with connection(place.edge) as client:
            client.send(request("/page", *lines, host=""))
            answer = await client.answer()
        assert answer is None or answer.head.status == 400
        assert place.origin.seen == []
        await place.is_sound()


ODD_TARGETS = [
    "http://user@edge.example/page", "http:///page", "http://edge.example:99999/", "http://[::1/", "ftp://edge.example/",
    "*", "edge.example:443", "page", "//edge.example/page", "http://edge.example", "?", "#",
]  # fmt: skip


async def test_an_absolute_target_is_of_its_own_host(tmp_path: Path) -> None:
    """RFC 9112 section 3.2.2: what Host says does not count then."""

    def answer(head: Head) -> bytes:
        return response(f"{head.get('X-Forwarded-Host')} {head.start.split(' ')[1]}")

    async with attacked(tmp_path, RawOrigin(answer)) as place:
        found = await place.ask("http://evil.example/page")
        assert found.body == b"evil.example /page"
        for _ in range(2):
            assert (await place.ask("/page")).body == b"edge.example /page"
        assert (await place.ask("/page", host="evil.example")).body == b"evil.example /page"
        for target in ODD_TARGETS:
            async with connection(place.edge) as client:
                client.send(request(target))
                refused = await client.answer()
                assert refused is None or refused.head.status in (200, 400, 404, 502), target
        assert (await place.ask("/page")).body == b"edge.example /page"
        assert place.origin.broken == []


# --- What no key knows ---

POISON = [
    "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Scheme: https", "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil", "X-Forwarded-Server: evil.example", "X-Forwarded-Ssl: on", "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Path: /evil", "X-Forwarded-Uri: /evil", "X-Forwarded-Protocol: https", "X-Host: evil.example",
    "Forwarded: for=6.6.6.6;host=evil.example;proto=https", "X-Original-Host: evil.example", "X-Original-URL: /evil",
    "X-Original-Uri: /evil", "X-Rewrite-URL: /evil", "X-Real-IP: 6.6.6.6", "X-Url-Scheme: https", "X-Scheme: https",
    "Front-End-Https: on", "X-HTTP-Method: DELETE", "X-HTTP-Method-Override: POST", "X-Method-Override: PUT",
    "X-HTTP-Host-Override: evil.example", "X-Real-Host: evil.example", "X-Envoy-Original-Path: /evil",
    "X_Forwarded_Host: evil.example", "X_Original_URL: /evil", "X-Forwarded_Proto: https",
    "X_HTTP_Method_Override: POST", "Proxy: http://evil.example",
]  # fmt: skip
"""Fields that servers and frameworks take for another request than the one that was sent."""


def reflecting(head: Head) -> bytes:
    """An answer made of all that a request says, and stored for all."""
    lines = (line for line in sorted(head.lines) if line[0].lower() not in ("via", "cdn-loop"))
    told = "\n".join(f"{name}: {value}" for name, value in lines)
    return response(f"{head.start}\n{told}")


@pytest.mark.parametrize("line", POISON)
async def test_what_misleads_an_origin_does_not_reach_it(tmp_path: Path, line: str) -> None:
    async with attacked(tmp_path, RawOrigin(reflecting)) as place:
        clean = (await place.ask("/page?clean")).body.replace(b"?clean", b"")
        for target in ("/page", "/page?other"):
            poisoned = (await place.ask(target, line)).body.replace(b"?other", b"")
            assert poisoned == clean
        assert (await place.ask("/page")).body == clean
        await _own_answers(place)


async def _own_answers(place: Place) -> None:
    for number in range(3):
        assert (await place.ask(f"/own/{number}")).body.startswith(f"GET /own/{number} ".encode())
    assert place.origin.broken == []


@pytest.mark.parametrize("line", POISON)
async def test_a_trusted_peer_that_passes_it_on_poisons_nothing(tmp_path: Path, line: str) -> None:
    async with attacked(tmp_path, RawOrigin(reflecting), trusted_proxies=["127.0.0.1"]) as place:
        await place.ask("/page", line)
        found = (await place.ask("/page")).body.decode()
        assert "evil" not in found
        assert "https" not in found
        assert "Override" not in found
        await _own_answers(place)


@pytest.mark.parametrize(
    "line",
    ["Range: bytes=0-0", "If-Match: \"x\"", "If-None-Match: *", "If-Modified-Since: Sun, 06 Nov 2044 08:49:37 GMT",
     "If-Range: \"x\"", "Accept: text/html", "TE: trailers", "Upgrade: h2c", "Upgrade: websocket",
     "Expect: 100-continue", "Expect: nonsense", "Max-Forwards: 0", "Prefer: return=minimal", "Connection: Host",
     "Connection: X-Forwarded-Host", "Accept_Encoding: br", "Content-Type: application/x-www-form-urlencoded",
     "Cache-Control: only-if-cached", "Cookie: evil=1",
     "Authorization: Basic ZXZpbDpldmls", "X-Evil: \xff\xfe"],
)  # fmt: skip
async def test_what_one_user_adds_to_a_request_changes_nothing_for_another(tmp_path: Path, line: str) -> None:
    """An origin that obeys what it is asked: parts, conditions, another protocol."""

    def answer(head: Head) -> bytes:
        if head.get("Range"):
            return response("G", "Content-Range: bytes 0-0/9", 'ETag: "1"', status=206)
        if head.get("If-Match"):
            return response("", status=412)
        if head.get("If-None-Match") or head.get("If-Modified-Since"):
            return b'HTTP/1.1 304 X\r\nETag: "1"\r\nCache-Control: max-age=60\r\n\r\n'
        if head.get("Upgrade"):
            return response("", status=426)
        if head.get("Cookie") or head.get("Authorization"):
            return response("of somebody")
        return response("GET /page", 'ETag: "1"')

    async with attacked(tmp_path, RawOrigin(answer)) as place:
        hop = [] if not line.startswith(("Upgrade", "TE")) else [f"Connection: {line.partition(':')[0]}"]
        for _ in range(2):
            assert (await place.ask("/page", line, *hop)).head.status != 500
            found = await place.ask("/page")
            assert (found.head.status, found.body) == (200, b"GET /page")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_method_cannot_be_overridden_where_that_is_safe(tmp_path: Path, method: str) -> None:
    async with attacked(tmp_path, RawOrigin(reflecting)) as place:
        for name in ("X-HTTP-Method-Override", "X-Http-Method", "X-METHOD-OVERRIDE", "X_Method_Override"):
            await place.ask("/page", f"{name}: DELETE", method=method)
        for head, _ in place.origin.seen:
            assert not [name for name, value in head.lines if value == "DELETE"]


# --- Cache deception ---

DECEIVING = [
    "/account/x.css", "/account%2fx.css", "/account;x.css", "/account.css", "/account%00.css", "/account%3fx.css",
    "/account%23x.css", "/account/..%2fx.css", "/static/..%2faccount", "/static/%2e%2e/account", "/account?x.css",
]  # fmt: skip
CREDENTIALS = ["Cookie: session={}", "Authorization: Bearer {}"]


def account(head: Head) -> bytes:
    """The account of who asks, stored by an origin that says too much of its lifetime."""
    user = head.get("Cookie") or head.get("Authorization") or "nobody"
    return response(f"account of {user}", "Content-Type: text/css")


@pytest.mark.parametrize("target", DECEIVING)
@pytest.mark.parametrize("credentials", CREDENTIALS)
async def test_an_account_under_a_misleading_path_is_its_users_alone(
    tmp_path: Path, target: str, credentials: str
) -> None:
    async with attacked(tmp_path, RawOrigin(account)) as place:
        victim, attacker = (credentials.format(user) for user in ("victim", "attacker"))
        for _ in range(2):
            # What is for nobody in particular may be stored, and given to anybody.
            own = f"account of {victim.partition(': ')[2]}".encode()
            assert (await place.ask(target, victim)).body in (own, b"account of nobody")
            for lines in ([], [attacker], ["Range: bytes=0-99"], ["Cache-Control: only-if-cached"]):
                assert b"victim" not in (await place.ask(target, *lines)).body


@pytest.mark.parametrize("other", ["https://shop.example", "http://shop.example:1234"])
async def test_schemes_and_ports_have_answers_of_their_own(tmp_path: Path, other: str) -> None:
    scheme, _, host = other.partition("://")
    async with World(tmp_path) as world, RawOrigin(_who) as origin:
        edge = await world.edge(origin=origin.url, rules=[])  # a proxy at 127.0.0.1 is trusted
        first = await edge.get("/page", headers={"Host": host, "X-Forwarded-Proto": scheme})
        assert first.body == other.encode()
        plain = await edge.get("/page", headers={"Host": "shop.example"})
        assert plain.body == b"http://shop.example"
        again = await edge.get("/page", headers={"Host": host, "X-Forwarded-Proto": scheme})
        assert (again.body, "; hit" in again.cache_status) == (first.body, True)


def _who(head: Head) -> bytes:
    return response(f"{head.get('X-Forwarded-Proto')}://{head.get('X-Forwarded-Host')}")
