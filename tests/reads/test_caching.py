"""What a read is answered with: misses, hits, what is never stored, what a hit keeps."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from aiohttp_regioncache.semantics.dates import parse_date
from tests.reads.apps import Counted, Handler, fresh, running, serving, until_hit
from tests.support import eventually
from tests.support.world import World, one_edge


async def test_a_miss_is_stored_and_then_hit_with_its_age(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        first = await edge.get("/pages/1")
        assert first.cache_status == "regioncache/ap-northeast-1; fwd=miss; stored"
        assert "Age" not in first.headers
        hit = await until_hit(edge, "/pages/1")
        assert hit.status == 200
        assert hit.body == first.body
        date = parse_date(hit.headers["Date"])  # of whole seconds: the answer is older by a part of one
        assert date is not None
        assert 0 <= int(hit.headers["Age"]) <= time.time() - date
        assert "ttl=" in hit.cache_status
        assert hit.headers["Content-Type"] == first.headers["Content-Type"]
        assert world.origin.reads["/pages/1"] == 1


async def test_a_head_is_answered_from_the_stored_get(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        miss = await edge.ask("HEAD", "/pages/1")
        assert "fwd=miss" in miss.cache_status
        stored = await until_hit(edge, "/pages/1")
        head = await edge.ask("HEAD", "/pages/1")
        assert "; hit" in head.cache_status
        assert head.body == b""
        assert head.headers["Content-Length"] == str(len(stored.body))


async def test_a_not_found_is_stored_like_any_other_answer(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        assert (await edge.get("/pages/none")).status == 404
        assert (await until_hit(edge, "/pages/none")).status == 404
        assert world.origin.reads["/pages/none"] == 1


@pytest.mark.parametrize("raises", [True, False])
async def test_a_raised_http_exception_is_a_response_and_is_stored(tmp_path: Path, raises: bool) -> None:
    async def gone(_request: web.Request) -> web.Response:
        answer = web.HTTPGone(text="gone for good", headers={"Cache-Control": "max-age=60"})
        if raises:
            raise answer
        return answer

    async with World(tmp_path) as world:
        edge = await world.edge(serving(gone=gone))
        first = await edge.get("/gone")
        assert (first.status, first.body) == (410, b"gone for good")
        assert "fwd=miss" in first.cache_status
        hit = await until_hit(edge, "/gone")
        assert (hit.status, hit.body) == (410, b"gone for good")


async def test_a_raised_redirect_keeps_its_location_on_a_hit(tmp_path: Path) -> None:
    async def moved(_request: web.Request) -> web.Response:
        raise web.HTTPMovedPermanently("/elsewhere", headers={"Cache-Control": "max-age=60"})

    async with World(tmp_path) as world:
        edge = await world.edge(serving(moved=moved))
        await edge.get("/moved")
        hit = await until_hit(edge, "/moved")
        assert (hit.status, hit.headers["Location"]) == (301, "/elsewhere")


async def test_a_hit_keeps_every_header_line_and_the_coding(tmp_path: Path) -> None:
    async def page(_request: web.Request) -> web.Response:
        response = web.Response(
            body=gzip.compress(b"packed"),
            headers={"Content-Encoding": "gzip", "Cache-Control": "max-age=60", "Content-Type": "text/x-special"},
        )
        response.headers.add("Link", "</a>; rel=preload")
        response.headers.add("Link", "</b>; rel=preload")
        return response

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        await edge.get("/page")
        hit = await until_hit(edge, "/page")
        assert hit.headers.getall("Link") == ["</a>; rel=preload", "</b>; rel=preload"]
        assert hit.headers["Content-Encoding"] == "gzip"
        assert hit.headers["Content-Type"] == "text/x-special"
        assert hit.body == b"packed"


async def test_a_hit_carries_the_date_of_the_stored_answer(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=Counted(lambda _n: fresh("x")).handle))
        await edge.get("/page")
        hit = await until_hit(edge, "/page")
        assert len(hit.headers.getall("Date")) == 1
        async with world.servers["ap-northeast-1"].client() as client:
            entries = [await client.get(key) for key in await client.keys("*:e:*")]
        assert all(b"Date" in entry for entry in entries if entry)


@pytest.mark.parametrize(("lifetime", "allowed"), [("max-age=60", False), ("x", True)])
async def test_cookies_set_by_the_handler_all_arrive_and_are_not_stored_without_leave(
    tmp_path: Path, lifetime: str, allowed: bool
) -> None:
    def welcome(number: int) -> web.Response:
        response = web.Response(text=str(number), headers={"Cache-Control": lifetime, "ETag": '"1"'})
        response.set_cookie("first", "1")
        response.headers.add("Set-Cookie", "second=2")
        return response

    handler = Counted(welcome)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(welcome=handler.handle), cache=Cache(store_set_cookie=allowed))
        for number in ("1", "2"):
            answer = await edge.get("/welcome")
            assert answer.body == number.encode()
            assert len(answer.headers.getall("Set-Cookie")) == 2
            assert "stored" not in answer.cache_status
        assert handler.calls == 2


async def test_cookies_are_stored_with_an_answer_that_was_given_a_lifetime(tmp_path: Path) -> None:
    def welcome(number: int) -> web.Response:
        response = fresh(str(number))
        response.set_cookie("first", "1", path="/p")
        response.headers.add("Set-Cookie", "second=2")
        return response

    async with World(tmp_path) as world:
        edge = await world.edge(serving(welcome=Counted(welcome).handle))
        await edge.get("/welcome")
        hit = await until_hit(edge, "/welcome")
        assert hit.headers.getall("Set-Cookie") == ["second=2", "first=1; Path=/p"]


@pytest.mark.parametrize("directive", ["no-store", "private", 'no-cache="x", no-store'])
async def test_what_the_origin_forbids_is_not_stored(tmp_path: Path, directive: str) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.cache_control = directive
        for _ in range(3):
            assert "fwd=miss" in (await edge.get("/pages/1")).cache_status
        assert world.origin.reads["/pages/1"] == 3


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"Cache-Control": "no-store"}, "no-store"),
        ({"If-Match": '"x"'}, "precondition"),
        ({"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}, "precondition"),
    ],
)
async def test_some_requests_are_left_to_the_origin(tmp_path: Path, headers: dict[str, str], detail: str) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        answer = await edge.get("/pages/1", headers=headers)
        assert f"fwd=bypass; detail={detail}" in answer.cache_status
        assert world.origin.reads["/pages/1"] == 2


async def test_queries_have_entries_of_their_own_and_writes_invalidate_them_all(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        for query in ("?a=1", "?a=2"):
            assert "fwd=miss" in (await edge.get(f"/pages/1{query}")).cache_status
            await until_hit(edge, f"/pages/1{query}")
        assert world.origin.reads["/pages/1"] == 2
        assert (await edge.put("/pages/1", {"n": 2})).status == 200
        for query in ("?a=1", "?a=2"):
            assert (await edge.get(f"/pages/1{query}")).body == b'{"n": 2}'


async def test_no_cache_asks_the_origin_and_renews_what_is_stored(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        world.origin.documents["/pages/1"] = {"n": 2}
        assert (await edge.get("/pages/1")).body == b'{"n": 1}'
        for headers in ({"Cache-Control": "no-cache"}, {"Pragma": "no-cache"}, {"Cache-Control": "max-age=0"}):
            answer = await edge.get("/pages/1", headers=headers)
            assert answer.body == b'{"n": 2}'
            assert "fwd=request" in answer.cache_status


async def test_only_if_cached_never_reaches_the_origin(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        only = {"Cache-Control": "only-if-cached"}
        refused = await edge.get("/pages/1", headers=only)
        assert refused.status == 504
        assert refused.cache_status
        assert world.origin.reads["/pages/1"] == 0
        await edge.get("/pages/1")
        await until_hit(edge, "/pages/1")
        assert (await edge.get("/pages/1", headers=only)).status == 200
        assert world.origin.reads["/pages/1"] == 1


async def test_rules_and_exclusions_keep_paths_out_of_the_cache(tmp_path: Path) -> None:
    from aiohttp_regioncache import Cache, Rule

    async with World(tmp_path) as world:
        edge = await world.edge(rules=[Rule("/live/**", read="pass")], cache=Cache(exclude=("/secret/**",)))
        for path, detail in (("/live/x", "rule"), ("/secret/x", "excluded")):
            world.origin.documents[path] = {}
            for _ in range(2):
                assert f"fwd=bypass; detail={detail}" in (await edge.get(path)).cache_status
            assert world.origin.reads[path] == 2


async def test_a_rule_gives_freshness_to_answers_that_do_not_say(tmp_path: Path) -> None:
    from aiohttp_regioncache import Rule

    def page(number: int) -> web.Response:
        return web.Response(text=str(number))

    async with World(tmp_path) as world:
        app = serving(warm=Counted(page).handle, cold=Counted(page).handle)
        edge = await world.edge(app, rules=[Rule("/warm", ttl=60)])
        await edge.get("/warm")
        assert (await until_hit(edge, "/warm")).body == b"1"
        for number in (b"1", b"2"):
            assert (await edge.get("/cold")).body == number


async def test_an_entry_that_cannot_be_read_is_a_miss(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        async with world.servers["ap-northeast-1"].client() as client:
            for key in await client.keys("*:e:*"):
                await client.set(key, b"\xc1 no record")
        answer = await edge.get("/items/1")
        assert (answer.status, answer.body) == (200, b'{"n": 1}')
        assert "fwd=miss" in answer.cache_status
        await until_hit(edge, "/items/1")


@pytest.mark.parametrize("named", ["X-Who", "close, x-who", "Cookie"])
@pytest.mark.parametrize("behind", [True, False])
async def test_what_connection_hides_poisons_no_entry(tmp_path: Path, named: str, behind: bool) -> None:
    """A handler of the edge's own sees a field that Connection names, an origin behind it does not."""

    async def page(request: web.Request) -> web.Response:
        said = f"{request.headers.get('X-Who')} {request.headers.get('Cookie')}"
        return fresh(said, Cache_Control="public, max-age=60", Vary="X-Who, Cookie")

    hiding = {"X-Who": "a", "Cookie": "a=b", "Connection": named}
    async with World(tmp_path) as world, running(serving(page=page)) as origin:
        edge = await (world.edge(origin=origin) if behind else world.edge(serving(page=page)))
        await edge.get("/page", headers=hiding)
        await eventually(lambda: not edge.cache._tasks)
        asked: list[dict[str, str]] = [{}, {"X-Who": "a"}, {"X-Who": "a", "Cookie": "a=b"}]
        for headers in asked:
            reply = await edge.get("/page", headers=headers)
            assert reply.body.decode() == f"{headers.get('X-Who')} {headers.get('Cookie')}"
        assert "fwd=bypass; detail=connection" in (await edge.get("/page", headers=hiding)).cache_status


@pytest.mark.parametrize("connection", ["keep-alive", "close", "Keep-Alive, TE", "X-Absent"])
async def test_an_ordinary_connection_hides_nothing(tmp_path: Path, connection: str) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=Counted(lambda _: fresh("x")).handle))
        await until_hit(edge, "/page", headers={"Connection": connection, "TE": "trailers"})


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_request_with_a_body_passes_also_when_an_outer_middleware_has_read_it(
    tmp_path: Path, is_read: bool
) -> None:
    async def echo(request: web.Request) -> web.Response:
        return fresh(await request.text(), ETag='"1"')

    @web.middleware
    async def reading(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_read:
            await request.read()
        return await handler(request)

    app = serving(echo=echo)
    app.middlewares.append(reading)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        for body in ("one", "two"):
            answer = await edge.get("/echo", data=body, headers={"If-None-Match": '"0"'})
            assert (answer.status, answer.body) == (200, body.encode())
            assert "fwd=bypass; detail=body" in answer.cache_status
