"""What a purge describes, and which stored responses a list of purges covers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aiohttp_regioncache import Purge, PurgeError
from aiohttp_regioncache.purges import EVERYTHING, HARD, MAX_PATH, UNPURGED, Kind, Line, Lines, Purged, read_line
from aiohttp_regioncache.semantics.groups import MAX_TAG, MORE_TAGS

SITE = "default"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        pytest.param({"url": "/items/1"}, Line("path", False, SITE, "/items/1"), id="path"),
        pytest.param({"url": "/items/1?a=1"}, Line("path", False, SITE, "/items/1"), id="query"),
        pytest.param({"url": "/a/../%69tems/1#x"}, Line("path", False, SITE, "/items/1"), id="normal-form"),
        pytest.param({"url": "//a/b"}, Line("path", False, SITE, "//a/b"), id="empty-segment"),
        pytest.param({"url": "https://app.example:8443/items/é"}, Line("path", False, SITE, "/items/%C3%A9"), id="url"),
        pytest.param({"url": "http://app.example"}, Line("path", False, SITE, "/"), id="no-path"),
        pytest.param({"prefix": "/items/"}, Line("prefix", False, SITE, "/items/"), id="prefix"),
        pytest.param({"prefix": "/%7euser"}, Line("prefix", False, SITE, "/~user"), id="prefix-normal-form"),
        pytest.param({"tag": "A b"}, Line("tag", False, SITE, "A b"), id="tag"),
        pytest.param({"everything": True}, Line("site", False, SITE), id="everything"),
        pytest.param({"tag": "a", "soft": True, "site": "shop"}, Line("tag", True, "shop", "a"), id="soft"),
    ],
)
def test_a_purge_is_one_line(options: dict[str, Any], line: Line) -> None:
    assert Purge(**options).line == line
    assert read_line(line.octets) == line


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        pytest.param({}, "there is none", id="nothing"),
        pytest.param({"url": "/a", "tag": "b"}, "there is url, tag", id="two"),
        pytest.param({"everything": False}, "there is none", id="not-everything"),
        pytest.param({"url": "items/1"}, "no path like", id="relative"),
        pytest.param({"url": "ftp://app.example/"}, "no URL like", id="scheme"),
        pytest.param({"url": "http://[::1/"}, "no URL like", id="no-url"),
        pytest.param({"url": "https:///items"}, "no URL like", id="no-host"),
        pytest.param({"url": ""}, "url: has 0 characters", id="empty"),
        pytest.param({"url": "/" + "x" * MAX_PATH}, "url: has 8193 characters", id="long"),
        pytest.param({"url": "/\ud800"}, "url: ", id="surrogate"),
        pytest.param({"url": b"/a"}, "url: b'/a' is no text", id="bytes"),
        pytest.param({"prefix": "items"}, "no beginning of a path", id="prefix"),
        pytest.param({"prefix": "/items?a="}, "no beginning of a path", id="prefix-query"),
        pytest.param({"prefix": ""}, "prefix: has 0 characters", id="empty-prefix"),
        pytest.param({"tag": ""}, "tag: has 0 characters", id="empty-tag"),
        pytest.param({"tag": "x" * (MAX_TAG + 1)}, "tag: has 129 characters", id="long-tag"),
        pytest.param({"tag": "\udce9"}, "tag: ", id="surrogate-tag"),
        pytest.param({"tag": "a", "site": ""}, "site: has 0 characters", id="no-site"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_cause(options: dict[str, Any], cause: str) -> None:
    with pytest.raises(PurgeError, match=cause) as raised:
        Purge(**options)
    assert isinstance(raised.value, ValueError)


def _lines(*lines: Line, start: int = 1000) -> Lines:
    """A list in which every line has one number more than the one before it."""
    numbered = [(line.octets, start + n) for n, line in enumerate(lines)]
    return Lines(numbered, start + len(lines) - 1)


@pytest.mark.parametrize(
    ("kind", "value", "is_covered"),
    [
        ("all", "", True),
        ("site", "", True),
        ("path", "/items/1", True),
        ("path", "/items", False),
        ("path", "/items/12", False),
        ("prefix", "/", True),
        ("prefix", "/items/1", True),
        ("prefix", "/it", True),
        ("prefix", "/items/12", False),
        ("prefix", "/other", False),
        ("tag", "a", True),
        ("tag", "A", False),
        ("tag", "/items/1", False),
    ],
)
def test_a_line_covers_what_it_is_about_and_nothing_else(kind: Kind, value: str, is_covered: bool) -> None:
    site = "" if kind == "all" else SITE
    hard, soft = _lines(Line(kind, False, site, value)), _lines(Line(kind, True, site, value))
    assert hard.purged(SITE, "/items/1", ("b", "a"), 999) == (HARD if is_covered else UNPURGED)
    assert soft.purged(SITE, "/items/1", ("b", "a"), 999) == (Purged(since=1.0) if is_covered else UNPURGED)
    for known in (1000, 1001):  # it was asked for later
        assert hard.purged(SITE, "/items/1", ("b", "a"), known) == UNPURGED
        assert soft.purged(SITE, "/items/1", ("b", "a"), known) == UNPURGED
    assert hard.purged("another", "/items/1", ("b", "a"), 999) == (HARD if kind == "all" else UNPURGED)


def test_the_hard_purge_counts_before_the_soft_and_of_soft_ones_the_first() -> None:
    soft, later, hard = Line("tag", True, SITE, "a"), Line("prefix", True, SITE, "/items"), Line("site", False, SITE)
    assert _lines(soft, later).purged(SITE, "/items/1", ("a",), 5) == Purged(since=1.0)
    assert _lines(soft, later).purged(SITE, "/items/1", ("a",), 1000) == Purged(since=1.001)
    assert _lines(soft, hard).purged(SITE, "/items/1", ("a",), 5) == HARD
    assert _lines(hard, soft).purged(SITE, "/items/1", ("a",), 5) == HARD
    assert _lines(hard, soft).purged(SITE, "/items/1", ("a",), 1000) == Purged(since=1.001)


def test_a_response_with_more_tags_than_are_kept_is_covered_by_any() -> None:
    lines = _lines(Line("tag", False, SITE, "x"), Line("tag", False, "another", "y"))
    assert lines.purged(SITE, "/", ("a", MORE_TAGS), 999) == HARD
    assert lines.purged(SITE, "/", ("a", MORE_TAGS), 1000) == UNPURGED
    assert lines.purged(SITE, "/", ("a",), 999) == UNPURGED


@pytest.mark.parametrize(
    "octets", [b"", b"*", b"\xc1", msgspec.msgpack.encode(("new", 1)), b"\x94\xa4path\xc2\xa1\xff\xa1a"]
)
def test_a_line_that_cannot_be_read_covers_everything(octets: bytes) -> None:
    assert read_line(octets) == EVERYTHING


def test_a_list_that_lacks_its_newest_line_covers_everything_until_then() -> None:
    lost = Lines([(Line("tag", False, SITE, "a").octets, 1000)], 1001)
    assert lost.purged(SITE, "/", (), 1000) == HARD
    assert lost.purged(SITE, "/", (), 1001) == UNPURGED
    assert Lines([], 1).purged(SITE, "/", (), 0) == HARD
