"""The README's examples run, and its table of settings names every setting."""

import re
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from tests.support import eventually

README = Path(__file__).parent.parent / "README.md"
TOML = re.findall(r"^```toml\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(example: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own README
    return names


async def test_the_smallest_app_answers_and_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = run(EXAMPLES[0])["app"]
    assert isinstance(app, web.Application)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/items/1"
        async with aiohttp.ClientSession() as session:

            async def is_hit() -> bool:
                async with session.get(url) as answer:
                    assert await answer.json() == {"id": "1"}
                    return answer.headers["Cache-Status"].startswith("regioncache/home; hit")

            assert not await is_hit()
            await eventually(is_hit)
    finally:
        await runner.cleanup()


def test_the_edge_example_is_accepted() -> None:
    app = run(EXAMPLES[1])["app"]
    assert [rule.path for rule in app[regioncache.REGION_CACHE].settings.rules] == ["/items/{id}", "/me"]


def test_the_toml_example_is_accepted() -> None:
    settings = regioncache.from_mapping(tomllib.loads(TOML[0]))
    assert [region.name for region in settings.regions] == ["ap-northeast-1", "home"]


def test_the_effect_example_does_what_it_says() -> None:
    names = run(EXAMPLES[2])
    assert names["rule"].affects[0].effect is names["rename"]
    base = regioncache.Representation(b'{"id": 1, "name": "old"}', "application/json")
    write = regioncache.Write("PUT", "http://h/items/1/name", b'{"name": "new"}')
    assert names["rename"](base, write).body == b'{"id": 1, "name": "new"}'


def test_the_hooks_and_the_origin_example_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regioncache.toml").write_text(TOML[0])
    names = run(EXAMPLES[3])
    assert list(names["cache"].on_dead) == list(names["cache"].on_rejected) == [names["tell"]]
    assert len(run(EXAMPLES[4])["origin"].middlewares) == 1


async def test_the_purging_example_purges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = run(EXAMPLES[0])["app"]
    app.add_routes(run(EXAMPLES[5])["routes"])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks/published/7"
        async with aiohttp.ClientSession() as session, session.post(url) as answer:
            assert await answer.json() == {"done": ["home"], "told": []}
    finally:
        await runner.cleanup()


def test_there_are_no_examples_that_nothing_runs() -> None:
    assert (len(EXAMPLES), len(TOML)) == (6, 1)


def test_every_setting_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| (`.*?) \| (.*) \|$", README.read_text("utf-8"), re.MULTILINE))
    text = " ".join(f"{keys} {meaning}" for keys, meaning in rows.items())
    named = set(re.findall(r"`(\w+)`", text))
    structs: list[type[msgspec.Struct]] = [
        regioncache.Settings,
        regioncache.Cache,
        regioncache.Queue,
        regioncache.Sync,
        regioncache.Connections,
        regioncache.Webhook,
        regioncache.Gateway,
        regioncache.Serve,
        regioncache.Sites,
        regioncache.Rule,
    ]
    missing = {field for struct in structs for field in struct.__struct_fields__} - named
    assert not missing
