"""Ranges: cut from what is stored, asked of the origin where nothing is, combined and completed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import Counted, Handler, fresh, running, serving, until_hit
from tests.support import eventually
from tests.support.world import Edge, Reply, World, forwarding_app

TEXT = b"0123456789"
NO_MEMORY = Cache(memory_seconds=0)


class Library:
    """A handler that serves one representation, whole or in parts, and notes what it was asked for."""

    def __init__(self, etag: str = '"1"', body: bytes = TEXT) -> None:
        self.etag, self.body = etag, body
        self.asked: list[tuple[str | None, str | None, str | None]] = []
        self.ignores_ranges = False

    async def handle(self, request: web.Request) -> web.Response:
        names = ("Range", "If-Range", "If-None-Match")
        self.asked.append((request.headers.get(names[0]), request.headers.get(names[1]), request.headers.get(names[2])))
        headers = {"Cache-Control": "max-age=60", "ETag": self.etag, "Content-Type": "text/plain", "X-Kept": "1"}
        condition = request.headers.get("If-Range", self.etag)
        asked = request.http_range
        if "Range" not in request.headers or self.ignores_ranges or condition != self.etag:
            return web.Response(body=self.body, headers=headers)
        start, end, _ = slice(asked.start, asked.stop).indices(len(self.body))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(self.body)}"
        return web.Response(status=206, body=self.body[start:end], headers=headers)


async def part(edge: Edge, ranges: str) -> Reply:
    return await edge.get("/book", headers={"Range": f"bytes={ranges}"})


async def _stored(edge: Edge, **options: Any) -> Reply:
    await edge.get("/book", **options)
    return await until_hit(edge, "/book", **options)


@pytest.mark.parametrize("memory", [Cache(), NO_MEMORY])
async def test_ranges_are_cut_from_what_is_stored(tmp_path: Path, memory: Cache) -> None:
    async with World(tmp_path) as world:
        book = Library()
        edge = await world.edge(serving(book=book.handle), cache=memory)
        await _stored(edge)
        for ranges, body, field in (("0-1", b"01", "0-1"), ("8-", b"89", "8-9"), ("-3", b"789", "7-9")):
            answer = await part(edge, ranges)
            assert (answer.status, answer.body) == (206, body)
            assert answer.headers["Content-Range"] == f"bytes {field}/10"
            assert (answer.headers["X-Kept"], answer.headers["ETag"]) == ("1", '"1"')
            assert "; hit" in answer.cache_status
        assert len(book.asked) == 1


async def test_several_ranges_come_as_a_multipart_body(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=Library().handle))
        await _stored(edge)
        answer = await part(edge, "0-1, -2")
        kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
        assert (answer.status, kind) == (206, "multipart/byteranges")
        assert answer.headers.getall("Content-Type") == [answer.headers["Content-Type"]]
        pieces = answer.body.split(f"--{boundary}".encode())
        assert pieces[1] == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
        assert pieces[2] == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n"
        assert pieces[3] == b"--\r\n"


@pytest.mark.parametrize(
    ("ranges", "headers", "status", "body"),
    [
        pytest.param("10-", {}, 416, b"", id="unsatisfiable"),
        pytest.param("5-1", {}, 200, TEXT, id="invalid"),
        pytest.param("0-5,3-9", {}, 200, TEXT, id="overlapping"),
        pytest.param("0-1", {"If-Range": '"1"'}, 206, b"01", id="if-range-holds"),
        pytest.param("0-1", {"If-Range": '"2"'}, 200, TEXT, id="if-range-does-not"),
        pytest.param("0-1", {"If-None-Match": '"1"'}, 304, b"", id="13.2.2-precedence"),
        pytest.param("0-1", {"If-None-Match": '"2"'}, 206, b"01", id="precondition-holds"),
    ],
)
async def test_what_else_a_range_may_come_to(
    tmp_path: Path, ranges: str, headers: dict[str, str], status: int, body: bytes
) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=Library().handle))
        await _stored(edge)
        answer = await edge.get("/book", headers={"Range": f"bytes={ranges}"} | headers)
        assert (answer.status, answer.body) == (status, body)
        if status == 416:
            assert answer.headers["Content-Range"] == "bytes */10"


async def test_a_range_of_nothing_stored_is_asked_of_the_origin_and_stored(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        book = Library()
        edge = await world.edge(serving(book=book.handle), cache=NO_MEMORY)
        answer = await part(edge, "2-5")
        assert (answer.status, answer.body) == (206, b"2345")
        assert "fwd=miss; stored" in answer.cache_status
        inside = await part(edge, "3-4")
        assert (inside.status, inside.body, inside.headers["Content-Range"]) == (206, b"34", "bytes 3-4/10")
        assert "; hit" in inside.cache_status
        assert book.asked == [("bytes=2-5", None, None)]
        outside = await part(edge, "5-6")
        assert (outside.status, outside.body) == (206, b"56")
        together = await part(edge, "2-6")
        assert ("; hit" in together.cache_status, together.body) == (True, b"23456")


async def test_conditions_are_answered_from_a_stored_part(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        book = Library()
        edge = await world.edge(serving(book=book.handle), cache=NO_MEMORY)
        await part(edge, "0-3")
        for tag, status, body in (('"1"', 304, b""), ('"2"', 206, b"12")):
            answer = await edge.get("/book", headers={"Range": "bytes=1-2", "If-None-Match": tag})
            assert (answer.status, answer.body, "; hit" in answer.cache_status) == (status, body, True)
            assert ("Content-Range" in answer.headers) is (status == 206)
        assert len(book.asked) == 1


async def test_a_part_is_completed_for_who_wants_the_whole(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        book = Library()
        edge = await world.edge(serving(book=book.handle), cache=NO_MEMORY)
        await part(edge, "0-3")
        whole = await edge.get("/book")
        assert (whole.status, whole.body, "Content-Range" in whole.headers) == (200, TEXT, False)
        assert whole.headers["Content-Length"] == "10"
        assert book.asked[1:] == [("bytes=4-9", '"1"', None)]
        assert (await until_hit(edge, "/book")).body == TEXT
        assert len(book.asked) == 2


@pytest.mark.parametrize("ignores_if_range", [True, False])
async def test_a_part_of_another_representation_is_never_combined(tmp_path: Path, ignores_if_range: bool) -> None:
    async with World(tmp_path) as world:
        book = Library()
        edge = await world.edge(serving(book=book.handle), cache=NO_MEMORY)
        await part(edge, "0-3")
        book.body = b"abcdefghij"
        if not ignores_if_range:
            book.etag = '"2"'
        else:
            book.etag = 'W/"1"'
        whole = await edge.get("/book")
        assert (whole.status, whole.body) == (200, b"abcdefghij")
        assert (await part(edge, "0-1")).body == b"ab"


async def test_parts_without_a_strong_validator_stay_apart(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        book = Library(etag='W/"1"')
        edge = await world.edge(serving(book=book.handle), cache=NO_MEMORY)
        await part(edge, "0-3")
        assert (await edge.get("/book")).body == TEXT
        assert book.asked[1] == (None, None, None)


async def test_a_part_that_is_not_what_it_says_is_passed_on_and_not_stored(tmp_path: Path) -> None:
    def broken(_number: int) -> web.Response:
        headers = {"Cache-Control": "max-age=60", "Content-Range": "bytes 0-4/10"}
        return web.Response(status=206, body=b"012", headers=headers)

    handler = Counted(broken)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=handler.handle))
        for _ in range(2):
            answer = await part(edge, "0-4")
            assert (answer.status, answer.body, "stored" in answer.cache_status) == (206, b"012", False)
        assert handler.calls == 2


async def test_an_origin_that_gives_the_whole_has_it_cut(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        book = Library()
        book.ignores_ranges = True
        edge = await world.edge(serving(book=book.handle), cache=NO_MEMORY)
        assert (await part(edge, "0-1")).body == b"01"
        assert (await until_hit(edge, "/book")).body == TEXT
        assert len(book.asked) == 1


async def test_who_wants_the_same_part_shares_a_fetch_and_others_do_not(tmp_path: Path) -> None:
    book, go = Library(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        answer = await book.handle(request)
        await go.wait()
        return answer

    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=slow))
        asking = [asyncio.create_task(part(edge, ranges)) for ranges in ("0-1", "0-1", "0-1", "4-5")]
        await eventually(lambda: len(book.asked) == 2)
        go.set()
        assert [(answer.status, answer.body) for answer in await asyncio.gather(*asking)] == [
            (206, b"01"), (206, b"01"), (206, b"01"), (206, b"45"),
        ]  # fmt: skip
        assert len(book.asked) == 2


async def test_a_stale_part_is_validated(tmp_path: Path) -> None:
    asked: list[Mapping[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers)
        headers = {"Cache-Control": "max-age=0", "ETag": '"1"'}
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304, headers=headers | {"X-New": "1"})
        return web.Response(status=206, body=b"0123", headers=headers | {"Content-Range": "bytes 0-3/10"})

    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=handler))
        await part(edge, "0-3")
        answer = await part(edge, "1-2")
        assert (answer.status, answer.body, answer.headers["X-New"]) == (206, b"12", "1")
        assert answer.headers["Content-Range"] == "bytes 1-2/10"
        assert (asked[1]["Range"], asked[1]["If-None-Match"]) == ("bytes=1-2", '"1"')


async def test_ranges_of_what_is_no_success_are_not_cut(tmp_path: Path) -> None:
    async def missing(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="nothing here", headers={"Cache-Control": "max-age=60"})

    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=missing))
        await _stored(edge)
        answer = await part(edge, "0-1")
        assert (answer.status, answer.body) == (404, b"nothing here")


async def test_a_renewal_in_the_background_fetches_the_whole(tmp_path: Path) -> None:
    book = Library()

    async def handler(request: web.Request) -> web.Response:
        answer = await book.handle(request)
        answer.headers["Cache-Control"] = "max-age=0, stale-while-revalidate=60"
        del answer.headers["ETag"]
        return answer

    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=handler))
        await _stored(edge)
        answer = await part(edge, "0-1")
        assert (answer.status, answer.body) == (206, b"01")
        await eventually(lambda: len(book.asked) == 3)
        assert all(asked[0] is None for asked in book.asked)


async def test_an_empty_representation_has_no_part(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=Counted(lambda _n: fresh("")).handle))
        await _stored(edge)
        answer = await part(edge, "0-")
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */0")


SMALL = Cache(memory_seconds=0, max_body=20)


async def test_a_part_of_what_is_too_large_to_store_is_not_completed(tmp_path: Path) -> None:
    book = Library(body=TEXT * 10)
    async with running(serving(book=book.handle)) as url, World(tmp_path) as world:
        edge = await world.edge(origin=url, rules=[], cache=SMALL)
        assert "stored" in (await part(edge, "0-1")).cache_status
        whole = await edge.get("/book")
        assert (whole.status, whole.body) == (200, book.body)
        assert book.asked[1:] == [(None, None, None)]


async def test_parts_do_not_grow_together_beyond_what_may_be_stored(tmp_path: Path) -> None:
    book = Library(body=TEXT * 10)
    async with running(serving(book=book.handle)) as url, World(tmp_path) as world:
        edge = await world.edge(origin=url, rules=[], cache=SMALL)
        for ranges in ("0-9", "10-19", "20-29"):
            assert "stored" in (await part(edge, ranges)).cache_status
        assert "; hit" in (await part(edge, "20-29")).cache_status
        assert "; hit" not in (await part(edge, "10-29")).cache_status


async def test_a_whole_that_streams_takes_the_place_of_a_completion(tmp_path: Path) -> None:
    book = Library()
    async with running(serving(book=book.handle)) as url, World(tmp_path) as world:
        edge = await world.edge(origin=url, rules=[], cache=SMALL)
        await part(edge, "0-1")
        book.etag, book.body = '"2"', TEXT * 10
        whole = await edge.get("/book")
        assert (whole.status, whole.body) == (200, book.body)
        assert book.asked[1:] == [("bytes=2-9", '"1"', None)]


async def test_a_piece_that_streams_is_no_answer_for_who_wants_the_whole(tmp_path: Path) -> None:
    book = Library()

    async def streamed(request: web.Request) -> web.StreamResponse:
        answer = await book.handle(request)
        if "If-Range" not in request.headers:
            return answer
        stream = web.StreamResponse(status=answer.status, headers=answer.headers)
        await stream.prepare(request)
        assert isinstance(answer.body, bytes)
        await stream.write(answer.body)
        return stream

    async with World(tmp_path) as world:
        edge = await world.edge(serving(book=streamed), cache=NO_MEMORY)
        await part(edge, "0-3")
        whole = await edge.get("/book")
        assert (whole.status, whole.body, "Content-Range" in whole.headers) == (200, TEXT, False)
        assert book.asked[1:] == [("bytes=4-9", '"1"', None), (None, None, None)]


async def test_who_wants_the_same_large_part_gets_a_part_each(tmp_path: Path) -> None:
    book, go, came = Library(body=TEXT * 10), asyncio.Event(), 0

    async def slow(request: web.Request) -> web.Response:
        answer = await book.handle(request)
        await go.wait()
        return answer

    @web.middleware
    async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal came
        came += 1
        return await handler(request)

    app = forwarding_app()
    app.middlewares.append(counting)
    origin = serving(book=slow, other=book.handle)
    async with running(origin) as url, World(tmp_path) as world:
        edge = await world.edge(app, origin=url, rules=[], cache=SMALL)
        go.set()
        await part(edge, "98-99")
        book.asked.clear()
        go.clear()
        asking = [asyncio.create_task(part(edge, "0-39")) for _ in range(2)]
        await eventually(lambda: came == 3 and len(book.asked) == 1)
        await edge.get("/other")  # by now they wait together
        go.set()
        assert [(answer.status, len(answer.body)) for answer in await asyncio.gather(*asking)] == [(206, 40)] * 2
        assert [asked[0] for asked in book.asked] == ["bytes=0-39", None, "bytes=0-39"]


async def test_a_part_is_renewed_as_a_part_in_the_background(tmp_path: Path) -> None:
    book = Library(body=TEXT * 10)

    async def handler(request: web.Request) -> web.Response:
        answer = await book.handle(request)
        answer.headers["Cache-Control"] = "max-age=0, stale-while-revalidate=60"
        return answer

    async with running(serving(book=handler)) as url, World(tmp_path) as world:
        edge = await world.edge(origin=url, rules=[], cache=SMALL)
        await part(edge, "0-3")
        answer = await part(edge, "1-2")
        assert (answer.status, answer.body, "; hit" in answer.cache_status) == (206, b"12", True)
        await eventually(lambda: len(book.asked) == 2)
        assert book.asked[1] == ("bytes=1-2", None, '"1"')


async def test_a_part_whose_validator_cannot_be_sent_is_not_completed(tmp_path: Path) -> None:
    head = b'HTTP/1.1 %s\r\nETag: "\xff"\r\nCache-Control: max-age=60\r\nConnection: close\r\n'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"Range: bytes=0-3" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(head % b"206 Partial Content" + b"Content-Range: bytes 0-3/10\r\n\r\n0123")
        else:
            writer.write(head % b"200 OK" + b"\r\n" + TEXT)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, World(tmp_path) as world:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        edge = await world.edge(origin=url, rules=[], cache=NO_MEMORY)
        assert "stored" in (await part(edge, "0-3")).cache_status
        whole = await edge.get("/book")
        assert (whole.status, whole.body, "stored" in whole.cache_status) == (200, TEXT, True)
