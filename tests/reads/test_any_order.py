"""Everything that reads can ask for, in any order and at once: an answer is always of one representation."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Purge
from tests.reads.apps import running
from tests.support.world import REGIONS, Edge, World, forwarding_app

PATHS = ("/plain", "/untagged", "/weak", "/large", "/varied", "/varied-untagged", "/varied-large")
LIFETIMES = ("max-age=60", "max-age=60", "max-age=0", "max-age=0, stale-while-revalidate=30", "no-cache", "no-store")
LANGUAGES = ("en", "de", "fr", "de, en;q=0.5", "fr, de;q=0.5", "en, de")
CODINGS = ("identity", "gzip", "br, gzip", "deflate, br", "gzip;q=0, *", "")
REQUESTS = ("no-cache", "max-age=0", "max-stale", "only-if-cached", "no-store", "min-fresh=100")
PART = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def representation(path: str, version: int, language: str, coding: str) -> bytes:
    """What the origin holds: long enough for a few parts, each version of a length of its own."""
    line = f"{path}|{version}|{language}|".encode()
    whole = (line * 40)[: 40 + version * 7 % 30 + (300 if "large" in path else 0)]
    return gzip.compress(whole, mtime=0) if coding else whole


def tag(path: str, version: int, language: str, coding: str) -> str:
    return f'{"W/" if "weak" in path else ""}"{version}-{language}-{coding}"'


class Shelf:
    """An origin with versions that POST and PUT advance; it changes its mind about languages, and often fails."""

    def __init__(self, chances: random.Random) -> None:
        self.versions: Counter[str] = Counter()
        self.spoken = {"en"}
        self._chances = chances

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self._chances.random() / 200)
        if request.method not in ("GET", "HEAD"):
            self.versions[request.path] += 1
            return web.Response(headers={"X-Version": str(self.versions[request.path])})
        if self._chances.random() < 0.05:
            return web.Response(status=503)
        response = self._answer(request)
        has_body = request.method == "GET" and response.status != 304
        return await _streamed(request, response) if has_body and self._chances.random() < 0.2 else response

    def _answer(self, request: web.Request) -> web.Response:
        path, varies = request.path, "varied" in request.path
        wanted = [each.split(";")[0].strip() for each in request.headers["Accept-Language"].split(",")]
        language = next((each for each in wanted if each in self.spoken), "en") if varies else "en"
        coding = "gzip" if varies and re.search(r"gzip(?!;q=0)", request.headers["Accept-Encoding"]) else ""
        named = (path, self.versions[path], language, coding)
        headers = {"Cache-Control": self._chances.choice(LIFETIMES), "X-Version": str(named[1]), "ETag": tag(*named)}
        if "untagged" in path:
            del headers["ETag"]
        if varies:
            headers |= {"Vary": "Accept-Language, Accept-Encoding", "Content-Language": language}
        if request.headers.get("If-None-Match", "-") == headers.get("ETag"):
            return web.Response(status=304, headers=headers)
        return _cut(request, representation(*named), headers | ({"Content-Encoding": coding} if coding else {}))


def _cut(request: web.Request, whole: bytes, headers: dict[str, str]) -> web.Response:
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    condition = request.headers.get("If-Range", headers.get("ETag"))
    if match is None or request.method == "HEAD" or condition != headers.get("ETag") or int(match[1]) >= len(whole):
        return web.Response(body=whole, headers=headers)
    start, end = int(match[1]), min(int(match[2]), len(whole) - 1)
    part = {"Content-Range": f"bytes {start}-{end}/{len(whole)}"}
    return web.Response(status=206, body=whole[start : end + 1], headers=headers | part)


async def _streamed(request: web.Request, response: web.Response) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    await stream.prepare(request)
    assert response.body is None or isinstance(response.body, bytes)
    await stream.write(response.body or b"")
    return stream


class Reader:
    """A client that asks for anything, and judges each answer by itself and by the newest version it knows of."""

    def __init__(self, edge: Edge, session: aiohttp.ClientSession, shelf: Shelf, seed: str) -> None:
        self._edge = edge
        self._session = session
        self._shelf = shelf
        self._chances = random.Random(seed)
        self._tags: defaultdict[str, list[str]] = defaultdict(list)

    async def go_on(self, times: int, newest: Counter[str]) -> None:
        for _ in range(times):
            path, lot = self._chances.choice(PATHS), self._chances.random()
            if lot < 0.06:
                answer = await self._edge.ask(self._chances.choice(("POST", "PUT")), path)
                newest[path] = max(newest[path], int(answer.headers["X-Version"]))
            elif lot < 0.08:
                await self._edge.cache.purge(Purge(url=path, soft=self._chances.random() < 0.5))
            elif lot < 0.1:
                self._shelf.spoken = {"en", *self._chances.sample(("de", "fr"), self._chances.randrange(3))}
            else:
                await self._read(path, newest[path])

    def _asked(self, path: str) -> dict[str, str]:
        choose, tags = self._chances.choice, self._tags[path][-4:]
        asked = {"Accept-Language": choose(LANGUAGES), "Accept-Encoding": choose(CODINGS)}
        if self._chances.random() < 0.1:
            asked["Cache-Control"] = choose(REQUESTS)
        if self._chances.random() < 0.4:
            start = self._chances.randrange(40)
            asked["Range"] = f"bytes={start}-{start + self._chances.randrange(40)}"
        for condition in ("If-None-Match", "If-Range"):
            if tags and self._chances.random() < 0.15:
                asked[condition] = choose(tags)
        return asked

    async def _read(self, path: str, newest: int) -> None:
        asked, method = self._asked(path), self._chances.choice(("GET", "GET", "GET", "GET", "HEAD"))
        async with self._session.request(method, self._edge.url + path, headers=asked) as answer:
            body = await answer.read()
        told = (method, path, asked, answer.status, dict(answer.headers), body)
        assert answer.status in (200, 206, 304, 416, 503, 504), told
        if answer.status in (416, 503, 504):
            return
        headers = answer.headers
        assert int(headers["X-Version"]) >= newest, told
        if "ETag" in headers:
            self._tags[path].append(headers["ETag"])
        if answer.status == 304:
            assert headers["ETag"].removeprefix("W/") == asked["If-None-Match"].removeprefix("W/"), told
            return
        self._judge(path, asked, answer, body if method == "GET" else None, told)

    def _judge(
        self, path: str, asked: dict[str, str], answer: aiohttp.ClientResponse, body: bytes | None, told: object
    ) -> None:
        headers = answer.headers
        language, coding = headers.get("Content-Language", "en"), headers.get("Content-Encoding", "")
        named = (path, int(headers["X-Version"]), language, coding)
        assert headers.get("ETag", tag(*named)) == tag(*named), told
        assert not coding or asked["Accept-Encoding"] in ("gzip", "br, gzip"), told
        assert asked["Accept-Language"] not in ("en", "de", "fr") or language in ("en", asked["Accept-Language"]), told
        whole = representation(*named)
        if answer.status == 206:
            match = PART.fullmatch(headers["Content-Range"])
            assert match is not None, told
            assert asked["Range"].startswith(f"bytes={match[1]}-"), told
            assert asked.get("If-Range", headers.get("ETag")) == headers.get("ETag"), told
            assert int(match[3]) == len(whole), told
            whole = whole[int(match[1]) : int(match[2]) + 1]
        assert body is None or body == whole, told


@pytest.mark.parametrize("forwarded", [True, False])
@pytest.mark.parametrize("memory", [0.0, 60.0])
async def test_answers_are_of_one_representation_and_never_older_than_a_write(
    tmp_path: Path, forwarded: bool, memory: float
) -> None:
    shelf = Shelf(random.Random(f"{forwarded} {memory}"))
    origin, app = web.Application(), forwarding_app() if forwarded else web.Application()
    for each in (origin, app)[: 1 if forwarded else 2]:
        each.router.add_route("*", "/{path}", shelf.handle)
    cache = Cache(max_body=120, memory_seconds=memory)
    async with running(origin) as url, World(tmp_path, regions=REGIONS[:1]) as world:
        edge = await world.edge(app, origin=url, rules=[], cache=cache)
        newest: Counter[str] = Counter()
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            readers = [Reader(edge, session, shelf, f"{forwarded} {memory} {n}") for n in range(6)]
            await asyncio.gather(*(reader.go_on(250, newest) for reader in readers))
