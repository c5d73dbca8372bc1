"""Features on real edges: what stands in the key, what goes out, and what happens when an option is switched."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from PIL import Image

from aiohttp_regioncache import Cache, Feature, Transformed, register_feature
from aiohttp_regioncache.sites.store import put_site
from tests.reads.apps import running
from tests.sites.world import SITES, Tenants, tenants
from tests.support import eventually
from tests.support.world import Reply, World

PAGE = (
    b"<!doctype html><html><head><title>x</title></head><body>"
    + b"<p>  hello   world  </p>\n" * 200
    + b"</body></html>"
)
WEBP = {"Accept": "image/webp,*/*"}
GZIP = {"Accept-Encoding": "gzip"}


def picture(kind: str = "PNG", size: tuple[int, int] = (400, 300)) -> bytes:
    """An image that WebP makes smaller."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    written = io.BytesIO()
    image.save(written, kind)
    return written.getvalue()


class Assets:
    """An origin of pages and images that honours conditions."""

    def __init__(self) -> None:
        self.bodies: dict[str, tuple[str, bytes]] = {
            "/": ("text/html; charset=utf-8", PAGE),
            "/a.png": ("image/png", picture()),
            "/a.jpg": ("image/jpeg", picture("JPEG")),
            "/data.json": ("application/json", b'{"a": [' + b"1, " * 2000 + b"1]}"),
        }
        self.headers = {"Cache-Control": "max-age=60"}
        self.tag = '"v1"'
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        kind, body = self.bodies[request.path]
        headers = {**self.headers, "ETag": self.tag, "Content-Type": kind}
        if request.headers.get("If-None-Match", "").removeprefix("W/") == self.tag:
            return web.Response(status=304, headers=headers)
        if request.headers.get("Range"):
            return web.Response(
                status=206, body=body[:10], headers={**headers, "Content-Range": f"bytes 0-9/{len(body)}"}
            )
        return web.Response(body=body, headers=headers)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.handle)
        return app


async def _get(place: Tenants, path: str = "/", **headers: str) -> Reply:
    options: dict[str, Any] = {"skip_auto_headers": ("Accept-Encoding", "Accept"), "headers": headers}
    return await place.ask("shop.example", path, auto_decompress=False, **options)


@pytest.fixture
def assets() -> Assets:
    return Assets()


async def _with_features(place: Tenants, url: str, **features: Any) -> None:
    await place.put("shop.example", origin=url, id="shop", features=features)


async def test_compress_makes_one_variant_for_each_coding_and_hits_do_nothing(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, compress=True)
        tags = set()
        for accepted, coding in (("gzip", "gzip"), ("br;q=1, gzip;q=0.5", "br"), ("zstd", "zstd"), ("identity", None)):
            first = await _get(place, **{"Accept-Encoding": accepted})
            again = await _get(place, **{"Accept-Encoding": accepted})
            assert "fwd=miss" in first.cache_status, accepted
            assert "; hit" in again.cache_status, accepted
            assert first.body == again.body
            assert first.headers.get("Content-Encoding") == again.headers.get("Content-Encoding") == coding
            assert again.headers["Vary"] == "Accept-Encoding"
            assert "Regioncache-Vary" not in {*first.headers, *again.headers}
            assert again.headers["ETag"].startswith('W/"v1~' if coding else '"v1"')
            tags.add(again.headers["ETag"])
        assert len(tags) == 4
        assert "; hit" in (await _get(place, **{"Accept-Encoding": "gzip, deflate"})).cache_status
        assert gzip.decompress((await _get(place, **GZIP)).body) == PAGE
        assert len(assets.asked) == 4


async def test_other_options_are_another_variant(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        seen = []
        for options in ({"least": 1}, {"least": 1_000_000}, {"levels": {"gzip": 1}}, {"least": 1}):
            await _with_features(place, url, compress=options)
            known = await place.edge.cache.sites.by_id("shop")

            async def is_taken(options: dict[str, Any] = options) -> bool:
                site = await place.edge.cache.sites.by_id("shop")
                return site is not None and site.features == {"compress": options}

            assert known is not None
            await eventually(is_taken)
            answer = await _get(place, **GZIP)
            seen.append((answer.headers.get("Content-Encoding"), "; hit" in answer.cache_status))
        assert seen == [("gzip", False), (None, False), ("gzip", False), ("gzip", True)]


async def test_a_304_of_the_origin_keeps_what_was_made(tmp_path: Path, assets: Assets) -> None:
    assets.headers = {"Cache-Control": "max-age=0"}
    async with running(assets.app()) as url, tenants(tmp_path, cache=Cache(memory_seconds=0)) as place:
        await _with_features(place, url, compress=True, minify=True)
        first = await _get(place, **GZIP)
        again = await _get(place, **GZIP)
        assert "fwd-status=304" in again.cache_status
        assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])
        assert first.headers["ETag"].startswith('W/"v1~')
        assert again.headers["Content-Encoding"] == "gzip"
        assert len(gzip.decompress(again.body)) < len(PAGE)
        third = await _get(place, **GZIP)
        assert third.body == first.body
        assets.tag = '"v2"'
        assert (await _get(place, **GZIP)).headers["ETag"].startswith('W/"v2~')


async def test_conditions_heads_and_ranges_are_about_what_was_made(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, minify=True)
        whole = await _get(place)
        assert 0 < len(whole.body) < len(PAGE)
        assert (await _get(place, **{"If-None-Match": whole.headers["ETag"]})).status == 304
        head = await place.ask("shop.example", "/", "HEAD")
        assert head.headers["Content-Length"] == str(len(whole.body))
        part = await _get(place, Range="bytes=0-9")
        assert (part.status, part.body) == (206, whole.body[:10])
        assert (await _get(place, **{"Range": "bytes=0-9", "If-Range": whole.headers["ETag"]})).status == 200


async def test_a_part_of_what_is_transformed_is_not_stored(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, minify=True)
        part = await _get(place, Range="bytes=0-9")
        assert (part.status, part.body) == (206, PAGE[:10])
        whole = await _get(place)
        assert (whole.status, "fwd=miss" in whole.cache_status) == (200, True)
        assert len(whole.body) < len(PAGE)


async def test_polish_sends_webp_to_who_accepts_it(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, polish="lossy")
        for path in ("/a.png", "/a.jpg"):
            polished = await _get(place, path, **WEBP)
            assert polished.headers["Content-Type"] == "image/webp"
            assert Image.open(io.BytesIO(polished.body)).format == "WEBP"
            assert len(polished.body) < len(assets.bodies[path][1])
            assert polished.headers["Vary"] == "Accept"
            plain = await _get(place, path, Accept="image/*")
            assert plain.body == assets.bodies[path][1]
            assert plain.headers["Vary"] == "Accept"
            assert "; hit" in (await _get(place, path, Accept="text/html,image/webp")).cache_status


async def test_a_switch_is_seen_at_once_and_leaves_the_rest_where_it_is(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, polish="lossy", compress=True)
        await place.put("other.example", origin=url, features={"polish": "lossy"})
        kinds = []
        for path in ("/", "/a.png", "/data.json"):
            await _get(place, path, **WEBP)
        await place.ask("other.example", "/a.png", headers=WEBP)
        for features in (
            {"compress": True},
            {"polish": "lossless", "compress": True},
            {"polish": "lossy", "compress": True},
        ):
            stores = list(place.edge.cache.stores.values())
            known = await place.edge.cache.sites.by_id("shop")
            assert known is not None
            put = await put_site(stores, msgspec.structs.replace(known, features=features))

            async def is_known(revision: int = put.revision) -> bool:
                site = await place.edge.cache.sites.by_id("shop")
                return site is not None and site.revision == revision

            await eventually(is_known)
            seen = await _get(place, "/a.png", **WEBP)
            kinds.append((seen.headers["Content-Type"], "; hit" in seen.cache_status))
            for path in ("/", "/data.json"):
                assert "; hit" in (await _get(place, path, **WEBP)).cache_status
            assert "; hit" in (await place.ask("other.example", "/a.png", headers=WEBP)).cache_status
        # What was made for the first setting is there still.
        assert kinds == [("image/png", False), ("image/webp", False), ("image/webp", True)]


async def test_a_switch_under_load_shows_nothing_stale_afterwards(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url)
        switched = asyncio.Event()
        wrong: list[str] = []

        async def load() -> None:
            for _ in range(60):
                was_switched = switched.is_set()
                seen = await _get(place, "/a.png", **WEBP)
                if was_switched and seen.headers["Content-Type"] != "image/webp":
                    wrong.append(seen.cache_status)

        loads = [asyncio.ensure_future(load()) for _ in range(8)]
        known = await place.edge.cache.sites.by_id("shop")
        assert known is not None
        put = await put_site(
            list(place.edge.cache.stores.values()), msgspec.structs.replace(known, features={"polish": "lossy"})
        )

        async def is_known() -> bool:
            site = await place.edge.cache.sites.by_id("shop")
            return site is not None and site.revision == put.revision

        await eventually(is_known)
        switched.set()
        await asyncio.gather(*loads)
        assert wrong == []


async def test_resize_has_only_the_widths_that_there_are_and_floods_store_nothing(
    tmp_path: Path, assets: Assets
) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, resize={"widths": [100, 200]}, polish="lossy")
        for width in (100, 200):
            seen = await _get(place, f"/a.png?w={width}", **WEBP)
            assert Image.open(io.BytesIO(seen.body)).width == width
        whole = await _get(place, "/a.png", **WEBP)
        assert Image.open(io.BytesIO(whole.body)).width == 400

        async def entries() -> int:
            count = 0
            for server in place.world.servers.values():
                async with server.client() as client:
                    count += len([key async for key in client.scan_iter("*:e:*")])
            return count

        before = await entries()
        for width in range(300, 340):
            assert "; hit" in (await _get(place, f"/a.png?w={width}", **WEBP)).cache_status
        for query in ("w=100&w=200", "w=0100", "w=%31%30%30", "w=", "w=-1", "w=1e2", "w=" + "9" * 5000):
            assert (await _get(place, f"/a.png?{query}", **WEBP)).status == 200
        assert await entries() == before
        assert {request.rel_url.raw_query_string for request in assets.asked} == {""}
        assert "fwd=miss" in (await _get(place, "/data.json?w=1")).cache_status
        assert assets.asked[-1].query_string == "w=1"


class _Failing(Feature):
    name = "failing"

    def validate(self, key: str, options: Any) -> Any:
        return options

    def affects(self, content_type: str) -> bool:
        return content_type == "application/json"

    def select(self, options: Any, asked: Any) -> str:
        return "on"

    def apply(self, options: Any, selected: str, body: bytes, content_type: str) -> Transformed | None:
        raise ValueError("it is broken")


async def test_what_fails_is_served_as_it_came_says_so_and_is_not_tried_again(
    tmp_path: Path, assets: Assets, caplog: pytest.LogCaptureFixture
) -> None:
    register_feature(_Failing())
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, failing=True, compress=True)
        first = await _get(place, "/data.json", **GZIP)
        assert "detail=failing-failed" in first.cache_status
        assert gzip.decompress(first.body) == assets.bodies["/data.json"][1]
        for _ in range(3):
            assert "; hit" in (await _get(place, "/data.json", **GZIP)).cache_status
        assert caplog.text.count("it is broken") == 1


async def test_a_page_that_ends_the_minifier_is_served_as_it_came(tmp_path: Path, assets: Assets) -> None:
    assets.bodies["/"] = ("text/html", b"<div>" * 100_000)
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, minify=True)
        first = await _get(place)
        assert "detail=minify-failed" in first.cache_status
        assert first.body == assets.bodies["/"][1]
        assert "; hit" in (await _get(place)).cache_status


@pytest.mark.parametrize("body", [b"no image at all", picture()[:200], b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b""])
async def test_what_is_no_image_stays_as_it_is(tmp_path: Path, assets: Assets, body: bytes) -> None:
    assets.bodies["/a.png"] = ("image/png", body)
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, polish="lossy", resize={"widths": [10]})
        seen = await _get(place, "/a.png?w=10", **WEBP)
        assert (seen.status, seen.body, seen.headers["Content-Type"]) == (200, body, "image/png")


async def test_a_bomb_of_pixels_is_not_decoded(tmp_path: Path, assets: Assets) -> None:
    written = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(written, "PNG", optimize=True)
    assets.bodies["/a.png"] = ("image/png", written.getvalue())
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, polish="lossy")
        seen = await _get(place, "/a.png", **WEBP)
        assert seen.body == written.getvalue()
        assert "detail=polish-failed" in seen.cache_status


async def test_nothing_is_done_that_the_origin_forbids_or_has_done(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, compress=True, minify=True)
        assets.headers = {"Cache-Control": "max-age=60, no-transform"}
        kept = await _get(place, **GZIP)
        assert (kept.body, kept.headers["ETag"]) == (PAGE, '"v1"')
        assets.headers = {"Cache-Control": "max-age=60", "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        assets.bodies["/data.json"] = ("application/json", gzip.compress(assets.bodies["/data.json"][1]))
        coded = await _get(place, "/data.json", **GZIP)
        assert coded.body == assets.bodies["/data.json"][1]
        assert coded.headers["Content-Encoding"] == "gzip"
        asked = await _get(place, "/data.json", **GZIP, **{"Cache-Control": "no-transform"})
        assert "detail=no-transform" in asked.cache_status
        assets.headers = {"Cache-Control": "private, max-age=60"}
        assets.bodies["/private"] = ("text/html", PAGE)
        assert (await _get(place, "/private", **GZIP)).body == PAGE


async def test_features_of_the_settings_go_for_an_application_of_ones_own(tmp_path: Path, assets: Assets) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(assets.app(), rules=[], features={"compress": {"codings": ["gzip"]}})
        seen = await edge.get("/", headers={"Accept-Encoding": "br, gzip"})
        assert seen.headers["Content-Encoding"] == "gzip"
        assert seen.body == PAGE  # the test's client decodes it


async def test_a_site_whose_features_there_are_not_is_served_without(
    tmp_path: Path, assets: Assets, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(assets.app()) as url, tenants(tmp_path, sites=SITES) as place:
        await _with_features(place, url, nonsense=True)
        assert (await _get(place)).body == PAGE
        assert "nonsense: is no feature" in caplog.text


async def _switch(place: Tenants, **features: Any) -> None:
    """Change the features of the site, and wait until the edge knows."""
    known = await place.edge.cache.sites.by_id("shop")
    assert known is not None
    put = await put_site(list(place.edge.cache.stores.values()), msgspec.structs.replace(known, features=features))

    async def is_known() -> bool:
        site = await place.edge.cache.sites.by_id("shop")
        return site is not None and site.revision == put.revision

    await eventually(is_known)


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ({"compress": {"levels": {"gzip": 1}}}, {"compress": {"levels": {"gzip": 9}}}, "/"),
        ({"compress": {"least": 100_000}}, {"compress": {"least": 10}}, "/"),
        ({"resize": {"widths": [100], "quality": 90}}, {"resize": {"widths": [100], "quality": 10}}, "/a.jpg?w=100"),
    ],
)
async def test_every_option_that_changes_what_is_made_is_in_the_key(
    tmp_path: Path, assets: Assets, before: dict[str, Any], after: dict[str, Any], path: str
) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, **before)
        old = await _get(place, path, **GZIP)
        await _switch(place, **after)
        new = await _get(place, path, **GZIP)
        assert "fwd=miss" in new.cache_status
        assert len(new.body) < len(old.body)


async def test_who_asks_after_a_switch_gets_nothing_that_was_begun_before(tmp_path: Path, assets: Assets) -> None:
    may_answer, is_asked = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        is_asked.set()
        await may_answer.wait()
        return await assets.handle(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", slow)
    async with running(app) as url, tenants(tmp_path) as place:
        await _with_features(place, url)
        before = asyncio.ensure_future(_get(place, **GZIP))
        await is_asked.wait()
        await _switch(place, compress=True)
        after = asyncio.ensure_future(_get(place, **GZIP))
        await asyncio.sleep(0.2)
        may_answer.set()
        assert "Content-Encoding" not in (await before).headers
        assert (await after).headers["Content-Encoding"] == "gzip"
        assert (await _get(place, **GZIP)).headers["Content-Encoding"] == "gzip"


async def test_what_the_origin_coded_stays_with_who_accepts_it_after_a_304(tmp_path: Path, assets: Assets) -> None:
    assets.headers = {"Cache-Control": "max-age=0", "Content-Encoding": "gzip"}
    assets.bodies["/"] = ("text/html", gzip.compress(PAGE))
    async with running(assets.app()) as url, tenants(tmp_path, cache=Cache(memory_seconds=0)) as place:
        await _with_features(place, url, minify=True)
        await _get(place, **GZIP)
        assets.headers["Cache-Control"] = "max-age=60"
        assert "fwd-status=304" in (await _get(place, **GZIP)).cache_status
        assert "; hit" in (await _get(place, **GZIP)).cache_status
        assert "; hit" not in (await _get(place, **{"Accept-Encoding": "identity"})).cache_status


async def test_a_304_that_forbids_changes_brings_the_origins_own(tmp_path: Path, assets: Assets) -> None:
    assets.headers = {"Cache-Control": "max-age=0"}
    async with running(assets.app()) as url, tenants(tmp_path, cache=Cache(memory_seconds=0)) as place:
        await _with_features(place, url, minify=True)
        assert len((await _get(place)).body) < len(PAGE)
        assets.headers = {"Cache-Control": "max-age=0, no-transform"}
        whole = await _get(place)
        assert (whole.body, whole.headers["ETag"]) == (PAGE, '"v1"')
        again = await _get(place)
        assert "fwd-status=304" in again.cache_status
        assert again.body == PAGE


async def test_a_head_that_forbids_changes_makes_what_was_made_outdated(tmp_path: Path, assets: Assets) -> None:
    assets.headers = {"Cache-Control": "max-age=0"}
    async with running(assets.app()) as url, tenants(tmp_path, cache=Cache(memory_seconds=0)) as place:
        await _with_features(place, url, minify=True)
        assert len((await _get(place)).body) < len(PAGE)
        assets.headers = {"Cache-Control": "max-age=60, no-transform"}
        assert (await place.ask("shop.example", "/", "HEAD")).status == 200
        assert (await _get(place)).body == PAGE


async def test_a_304_can_add_to_what_an_answer_varies_on(tmp_path: Path, assets: Assets) -> None:
    assets.headers = {"Cache-Control": "max-age=0"}
    async with running(assets.app()) as url, tenants(tmp_path, cache=Cache(memory_seconds=0)) as place:
        await _with_features(place, url, compress=True)
        await _get(place, **GZIP, **{"X-Shop": "1"})
        assets.headers = {"Cache-Control": "max-age=60", "Vary": "X-Shop"}
        renewed = await _get(place, **GZIP, **{"X-Shop": "1"})
        assert "fwd-status=304" in renewed.cache_status
        assert renewed.headers["Vary"] == "X-Shop, Accept-Encoding"
        assert "; hit" in (await _get(place, **GZIP, **{"X-Shop": "1"})).cache_status
        assert "; hit" not in (await _get(place, **GZIP, **{"X-Shop": "2"})).cache_status


async def test_a_tag_that_comes_with_a_304_is_weak(tmp_path: Path) -> None:
    modified = {"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT", "Cache-Control": "max-age=0"}

    async def handle(request: web.Request) -> web.Response:
        if "If-Modified-Since" in request.headers:
            return web.Response(status=304, headers={**modified, "ETag": '"late"'})
        return web.Response(body=PAGE, headers={**modified, "Content-Type": "text/html"})

    app = web.Application()
    app.router.add_get("/", handle)
    async with running(app) as url, tenants(tmp_path, cache=Cache(memory_seconds=0)) as place:
        await _with_features(place, url, compress=True)
        await _get(place, **GZIP)
        renewed = await _get(place, **GZIP)
        assert "fwd-status=304" in renewed.cache_status
        assert renewed.headers["ETag"] == 'W/"late"'


async def test_a_coding_that_is_none_is_not_added_to(tmp_path: Path, assets: Assets) -> None:
    assets.headers["Content-Encoding"] = "identity"
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, compress=True)
        assert (await _get(place, **GZIP)).headers.getall("Content-Encoding") == ["gzip"]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_date_names_no_bytes_of_which_a_part_could_be_sent(
    tmp_path: Path, assets: Assets, *, is_stored: bool
) -> None:
    date = "Wed, 01 Jan 2020 00:00:00 GMT"
    assets.headers["Last-Modified"] = date
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, minify=True)
        if is_stored:
            await _get(place)
        seen = await _get(place, **{"Range": "bytes=0-9", "If-Range": date})
        assert seen.status == 200
        assert len(seen.body) < len(PAGE)
        assert (await _get(place, Range="bytes=0-9")).status == 206


class _Written(Feature):
    name = "written"
    order = 10

    def validate(self, key: str, options: Any) -> Any:
        return options

    def affects(self, content_type: str) -> bool:
        return content_type in ("text/x-notes", "text/html")

    def select(self, options: Any, asked: Any) -> str:
        return "html"

    def apply(self, options: Any, selected: str, body: bytes, content_type: str) -> Transformed | None:
        return Transformed(b"<p>" + body, "text/html") if content_type == "text/x-notes" else None


async def test_what_becomes_of_a_type_that_other_features_change_is_a_hit(tmp_path: Path, assets: Assets) -> None:
    register_feature(_Written())
    assets.bodies["/"] = ("text/x-notes", b"note")
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, written=True, minify=True)
        assert (await _get(place)).body == b"<p>note"
        assert "; hit" in (await _get(place)).cache_status


async def test_a_browser_that_has_another_variant_gets_the_new_one(tmp_path: Path, assets: Assets) -> None:
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, minify=True)
        tags = []
        for features in ({"minify": True}, {"minify": {"comments": False}}, {}):
            await _switch(place, **features)
            tags.append((await _get(place)).headers["ETag"])
            for tag in tags:
                status = (await _get(place, **{"If-None-Match": tag})).status
                assert status == (304 if tag == tags[-1] else 200), (features, tag)
        assert len({*tags}) == 3


class _Slow(_Failing):
    name = "slow"

    def apply(self, options: Any, selected: str, body: bytes, content_type: str) -> Transformed | None:
        time.sleep(0.3)
        return Transformed(b"{}")


async def test_what_takes_too_long_is_served_as_it_came_and_tried_again_soon(
    tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_feature(_Slow())
    monkeypatch.setattr("aiohttp_regioncache.transforms.runner.SECONDS", 0.1)
    assets.headers["Cache-Control"] = "max-age=600"
    async with running(assets.app()) as url, tenants(tmp_path) as place:
        await _with_features(place, url, slow=True)
        first = await _get(place, "/data.json")
        assert "detail=slow-slow" in first.cache_status
        assert first.body == assets.bodies["/data.json"][1]
        hit = await _get(place, "/data.json")
        found = re.search(r"; hit; ttl=(\d+)", hit.cache_status)
        assert found is not None
        assert int(found[1]) <= 30
