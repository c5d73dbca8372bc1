"""The tests that the documentation names are there, and its settings and examples are those of the package."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache.cli.main import make_parser
from aiohttp_regioncache.decorators import decorated_rules
from aiohttp_regioncache.sites.forms import import_sites

ROOT = Path(__file__).parent.parent
CACHING = (ROOT / "docs" / "caching.md").read_text("utf-8")
WRITE_BEHIND = (ROOT / "docs" / "write-behind.md").read_text("utf-8")


def test_every_row_about_a_failure_names_a_test_that_exists() -> None:
    table = WRITE_BEHIND.partition("## When something fails")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        file, name = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row)[-1]
        assert re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), row


def test_every_script_is_described() -> None:
    described = (ROOT / "docs" / "redis.md").read_text("utf-8").partition("## Scripts")[2]
    scripts = (ROOT / "aiohttp_regioncache" / "store" / "scripts").glob("[!_]*.lua")
    assert {path.stem for path in scripts} == set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", described, re.M)))
    )


def test_the_origin_example_is_accepted() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", WRITE_BEHIND, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "write-behind.md", "exec"), names)  # noqa: S102 - our own documentation
    assert names["regioncache"] is regioncache


def test_the_examples_of_caching_are_accepted_and_say_the_same() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", CACHING, re.MULTILINE | re.DOTALL)
    (example,) = re.findall(r"^```python\n(.*?)^```", CACHING, re.MULTILINE | re.DOTALL)
    (rule,) = regioncache.from_mapping(tomllib.loads(text)).rules
    names: dict[str, Any] = {}
    exec(compile(example, "caching.md", "exec"), names)  # noqa: S102 - our own documentation
    app = web.Application()
    app.router.add_get("/catalogue/{path:.*}", names["catalogue"])
    decorated, *_ = decorated_rules(app)  # HEAD has one too
    assert msgspec.structs.replace(decorated, path=rule.path, methods=()) == rule


def test_every_option_about_reads_is_explained() -> None:
    named = set(re.findall(r"`(?:cache\.)?(\w+)`", CACHING))
    options = {field for field in regioncache.Cache.__struct_fields__ if field in regioncache.Rule.__struct_fields__}
    assert {*options, "force_ttl", "key", "bypass_cookies", "bypass_headers", "flight_wait", "flight_age"} - {
        "dirty_wait"
    } <= named


@pytest.mark.parametrize("page", ["deployment.md", "features.md", "sites.md", "tour.md"])
def test_the_settings_of_a_page_are_accepted(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    for example in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        data = tomllib.loads(example)
        if isinstance(data.get("sites"), list):
            assert import_sites(example, "toml")
        else:
            assert regioncache.from_mapping(data).regions


def test_every_key_of_a_site_and_every_command_is_explained() -> None:
    sites = (ROOT / "docs" / "sites.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+)`", sites))
    assert {*regioncache.Site.__struct_fields__} - {"revision"} <= named
    commands = next(action for action in make_parser()._actions if action.dest == "run" or action.choices)
    shown = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert all(f"`{name}" in shown for name in commands.choices or ())


def test_the_feature_of_ones_own_is_accepted() -> None:
    features = (ROOT / "docs" / "features.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", features, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "features.md", "exec"), names)  # noqa: S102 - our own documentation
    made = names["Banner"]().apply("x", "<b>", b"<body></body>", "text/html")
    assert made.body == b"<body><b></body>"
