"""HEAD: answered from a stored GET, and what its own answer says of one (RFC 9111 section 4.3.5)."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from tests.reads.apps import serving
from tests.support.world import World

NO_MEMORY = Cache(memory_seconds=0)


class Page:
    """A handler whose answers are stale at once, unless to a HEAD; counts them by method."""

    def __init__(self) -> None:
        self.calls = {"GET": 0, "HEAD": 0}
        self.on_head: dict[str, str] = {}
        self.status_on_head = 200
        self.text = "text"

    async def handle(self, request: web.Request) -> web.Response:
        self.calls[request.method] += 1
        headers = {"ETag": '"1"', "X-Page": "get", "Cache-Control": "max-age=0"}
        if request.method == "HEAD":
            headers |= {"Cache-Control": "max-age=60", "X-Page": "head"} | self.on_head
            return web.Response(status=self.status_on_head, headers=headers, text=self.text)
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304, headers=headers)
        return web.Response(text=self.text, headers=headers)


async def test_a_head_renews_what_is_stored(tmp_path: Path) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=NO_MEMORY)
        await edge.get("/page")
        head = await edge.ask("HEAD", "/page")
        assert (head.status, head.headers["X-Page"], head.body) == (200, "head", b"")
        assert head.headers["Content-Length"] == "4"
        hit = await edge.get("/page")
        assert ("; hit" in hit.cache_status, hit.body, hit.headers["X-Page"]) == (True, b"text", "head")
        assert page.calls == {"GET": 1, "HEAD": 1}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        pytest.param({"ETag": '"2"'}, 200, "text", id="another-tag"),
        pytest.param({}, 200, "longer text", id="another-length"),
        pytest.param({"Content-Language": "de"}, 200, "text", id="another-language"),
        pytest.param({}, 410, "text", id="gone"),
        pytest.param({"Cache-Control": "no-store"}, 200, "text", id="not-to-be-stored-any-more"),
    ],
)
async def test_a_head_that_does_not_agree_makes_what_is_stored_stale(
    tmp_path: Path, fields: dict[str, str], status: int, text: str
) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=NO_MEMORY)
        await edge.get("/page")
        await edge.ask("HEAD", "/page")
        assert "; hit" in (await edge.get("/page")).cache_status
        page.on_head, page.status_on_head, page.text = fields, status, text
        head = await edge.ask("HEAD", "/page", headers={"Cache-Control": "no-cache"})
        assert head.status == status
        assert head.headers["Content-Length"] == str(len(text))
        assert "fwd=stale" in (await edge.get("/page")).cache_status


async def test_a_conditional_head_is_answered_by_what_it_renews(tmp_path: Path) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=NO_MEMORY)
        await edge.get("/page")
        head = await edge.ask("HEAD", "/page", headers={"If-None-Match": '"1"'})
        assert (head.status, head.headers["ETag"]) == (304, '"1"')
        assert page.calls["HEAD"] == 1


async def test_a_head_alone_stores_nothing(tmp_path: Path) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=NO_MEMORY)
        for calls in (1, 2):
            head = await edge.ask("HEAD", "/page")
            assert ("fwd=miss" in head.cache_status, page.calls["HEAD"]) == (True, calls)
        assert "fwd=miss" in (await edge.get("/page")).cache_status


async def test_a_head_with_a_range_is_about_the_whole(tmp_path: Path) -> None:
    page = Page()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=NO_MEMORY)
        await edge.get("/page")
        await edge.ask("HEAD", "/page")
        head = await edge.ask("HEAD", "/page", headers={"Range": "bytes=0-1"})
        assert (head.status, head.headers["Content-Length"], page.calls["HEAD"]) == (200, "4", 1)
