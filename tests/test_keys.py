"""Keys: normal forms, groups, partitions, and that what differs has another key."""

import uuid
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.keys import (
    Groups,
    SiteKey,
    Target,
    normalize_path,
    partition_of,
    record_key,
    resource_digest,
    uuid5,
)

SITE = SiteKey()
TARGET = Target.of("https", "a.example", "/items/1", "q=1")

raw_paths = st.text(st.sampled_from("/.%2fFeE9aA~?|é\udce9 *"), max_size=12).map(lambda text: "/" + text)
texts = st.text(st.characters(codec="utf-8"), max_size=6)
pairs = st.lists(st.tuples(st.sampled_from(["accept", "x"]), texts), max_size=3)


@given(st.binary(max_size=80))
def test_uuid5_is_that_of_the_standard_library(name: bytes) -> None:
    octets = name.decode("latin-1")
    assert uuid5(octets.encode()) == str(uuid.uuid5(uuid.NAMESPACE_URL, octets))


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("", "/"),
        ("/", "/"),
        ("*", "*"),
        ("/%7euser/%41", "/~user/A"),
        ("/a%2fb%3f", "/a%2Fb%3F"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/../../x", "/x"),
        ("/%2e%2e/x", "/x"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a//b", "/a//b"),
        ("//a", "//a"),
        ("/a/", "/a/"),
        ("/é", "/%C3%A9"),
        ("/\udce9", "/%E9"),
        ("/%c3%a9", "/%C3%A9"),
        ("/100%", "/100%25"),
        ("/%2%35", "/%2525"),
        ("/a|b c", "/a%7Cb%20c"),
        ("/a?b#c", "/a%3Fb%23c"),
        ("/a:b@c!$&'()*+,;=", "/a:b@c!$&'()*+,;="),
    ],
)
def test_normal_path(raw: str, normal: str) -> None:
    assert normalize_path(raw) == normal


@given(raw_paths)
def test_a_normal_path_is_ascii_and_its_own_normal_form(raw: str) -> None:
    normal = normalize_path(raw)
    assert normal.isascii()
    assert normal.startswith("/")
    assert not {".", ".."} & set(normal.split("/"))
    assert normalize_path(normal) == normal


@given(raw_paths)
def test_a_path_and_its_normal_form_stand_for_the_same_octets(raw: str) -> None:
    octets = unquote_to_bytes(raw.encode("utf-8", "surrogateescape"))
    if b"/." not in octets:
        assert unquote_to_bytes(normalize_path(raw)) == octets


def test_an_encoded_percent_sign_is_not_made_by_decoding() -> None:
    # "%2%35" decodes to the text "%25", "%25" to a percent sign: one must not answer for the other.
    assert normalize_path("/x%2%35") != normalize_path("/x%25")
    assert normalize_path("/x%2%66") != normalize_path("/x%2f")


def test_target() -> None:
    target = Target.of("https", "A.Example:8443", "/%61/../b", "x=é&y=%c3")
    assert target.url == "https://a.example:8443/b?x=%C3%A9&y=%c3"
    assert target.endpoint == "/b?x=%C3%A9&y=%c3"
    assert target.sibling("/c").url == "https://a.example:8443/c"
    assert Target.of("http", "h", "/x", "").endpoint == "/x"


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/items/1", "/items"),
        ("/items", "/items"),
        ("/", "/"),
        ("//x", "/"),
        ("*", "/*"),
        ("/api/v1/items/5", "/api/v1/items"),
        ("/api/v1/items", "/api/v1/items"),
        ("/api/v1/itemsets", "/api/v1"),
        ("/api/v2", "/api"),
        ("/k%C3%BCche/x/y", "/k%C3%BCche/x"),
    ],
)
def test_groups(path: str, group: str) -> None:
    groups = Groups(["/api/v1/", "/api/v1/items", "/küche/x"])
    assert groups.group(path) == group


def test_a_resource_has_the_group_of_its_path_in_its_site() -> None:
    groups = Groups()
    one, other = groups.resource("a", "/items/1"), groups.resource("b", "/items/1")
    assert one.group == "a:/items"
    assert one.digest == resource_digest("a", "/items/1")
    assert one.digest != other.digest
    assert one.group != other.group


def test_the_whole_site_can_be_one_group() -> None:
    groups = Groups(["/"])
    assert groups.group("/a/b") == groups.group("/c") == groups.group("/")


def test_partitions_are_the_same_on_every_machine() -> None:
    assert [partition_of(f"default:/g{n}", 16) for n in range(8)] == [15, 9, 3, 5, 6, 0, 10, 12]
    assert partition_of("default:/g0", 1) == 0
    assert {partition_of(f"default:/g{n}", 8) for n in range(200)} == set(range(8))


@given(st.lists(st.tuples(texts, st.integers(0, 3), st.lists(texts, max_size=2).map(tuple)), min_size=2, max_size=2))
def test_site_epoch_and_features_change_the_key(sites: list[tuple[str, int, tuple[str, ...]]]) -> None:
    one, other = (record_key(SiteKey(*site), TARGET, "GET", ()) for site in sites)
    assert (one == other) == (sites[0] == sites[1])


@given(pairs, pairs)
def test_header_lists_that_differ_have_different_keys(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    assert (record_key(SITE, TARGET, "GET", one) == record_key(SITE, TARGET, "GET", other)) == (one == other)


def test_every_part_counts_and_nothing_runs_into_the_next() -> None:
    other_query = Target.of("https", "a.example", "/items/1", "q=2")
    keys = [
        record_key(SITE, TARGET, "GET", ()),
        record_key(SITE, TARGET, "PUT", ()),
        record_key(SITE, other_query, "GET", ()),
        record_key(SITE, Target.of("https", "b.example", "/items/1", "q=1"), "GET", ()),
        record_key(SITE, Target.of("http", "a.example", "/items/1", "q=1"), "GET", ()),
        record_key(SITE, TARGET, "GET", (), body=b"x"),
        record_key(SITE, TARGET, "GET", (), principal="p"),
        record_key(SITE, TARGET, "GET", [("a", "b"), ("c", "d")]),
        record_key(SITE, TARGET, "GET", [("c", "d"), ("a", "b")]),
        record_key(SITE, TARGET, "GET", [("a", "d"), ("c", "b")]),
        record_key(SITE, TARGET, "GET", [("a", "b, d")]),
        record_key(SITE, TARGET, "GET", [("a", "b"), ("a", "d")]),
        record_key(SITE, TARGET, "GET", [("a", "é")]),
        record_key(SITE, TARGET, "GET", [("a", "\udce9")]),
    ]
    assert len(set(keys)) == len(keys)
    assert all(uuid.UUID(key).version == 5 for key in keys)


def test_the_case_of_a_header_name_does_not_count() -> None:
    assert record_key(SITE, TARGET, "GET", [("Accept", "x")]) == record_key(SITE, TARGET, "GET", [("accept", "x")])


def test_a_key_is_the_canonical_json_of_what_it_covers() -> None:
    described = '{"body":"","headers":[],"method":"GET","site":["default",0],"url":"https://a.example/items/1?q=1"}'
    assert record_key(SITE, TARGET, "GET", ()) == str(uuid.uuid5(uuid.NAMESPACE_URL, described))
