"""Keys: normal forms, groups, partitions, and that what differs has another key."""

import time
import uuid
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.keys import (
    Groups,
    QueryForm,
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


@given(st.lists(st.tuples(texts, st.integers(0, 3)), min_size=2, max_size=2))
def test_site_and_epoch_change_the_key(sites: list[tuple[str, int]]) -> None:
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


QUERIES = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["a", "b", "%61", "utm_x", "UTM_x", "utm%5Fy", "", "a[]", "%", "%zz", "%C3%A9"]),
        st.sampled_from(["", "=", "=1", "=2", "=%26", "=1=2", "=1;b=2", "=+", "=%2B"]),
        st.sampled_from(["", "&"]),
    ),
    max_size=8,
).map("&".join)


@pytest.mark.parametrize(
    ("ignored", "query", "counting"),
    [
        (["utm_*"], "a=1&utm_source=x&b=2", "a=1&b=2"),
        (["utm_*"], "utm_source=x", ""),
        (["utm_*"], "utm_=x&utm_&utm&xutm_=1", "utm&xutm_=1"),
        (["fbclid"], "fbclid&fbclid=1&fbclid=2&fbclids=3&FBCLID=4", "fbclids=3&FBCLID=4"),
        (["fbclid"], "%66bclid=1&fbcli%64=2", ""),
        (["é"], "%C3%A9=1&%c3%a9=2&%E9=3", "%E9=3"),
        (["*"], "a=1&&b", ""),
        (["a*b*c"], "abc&aXbXc&aXcXb&abXc&ab&ac", "aXcXb&ab&ac"),
        (["a*a"], "a&aa&aXa", "a"),
        (["x"], "a=%41&a=A&&b==&=c&", "a=%41&a=A&b==&=c"),
        (["x"], "x=1;a=2&x=3%3Ba", "x=1;a=2"),
        (["a[]"], "a[]=1&a%5B%5D=2&a=3", "a=3"),
        (["a[b]"], "a=1&ab=2", "a=1&ab=2"),
        (["x"], "%&%zz=1&%7=2", "%&%zz=1&%7=2"),
        (["x"], "", ""),
    ],
)
def test_parameters_that_do_not_count(ignored: list[str], query: str, counting: str) -> None:
    assert QueryForm(ignored).of(query) == counting


def test_a_kept_parameter_counts_all_the_same() -> None:
    assert QueryForm(["*"], ["page", "q*"]).of("a=1&page=2&p%61ge=3&q1=4&pages=5") == "page=2&p%61ge=3"


@pytest.mark.parametrize(
    ("query", "sorted_query"),
    [
        ("b=1&a=2", "a=2&b=1"),
        ("a=2&b=0&a=1", "a=2&a=1&b=0"),
        ("b=0&%61=2&a=1", "%61=2&a=1&b=0"),
        ("b&a=&a&b=", "a=&a&b&b="),
        ("&&b=1&&a=1&", "a=1&b=1"),
        ("b=%61&a=%2b", "a=%2b&b=%61"),
        ("a-b=1&a=2", "a=2&a-b=1"),
    ],
)
def test_a_sorted_query(query: str, sorted_query: str) -> None:
    assert QueryForm(sort=True).of(query) == sorted_query


@given(QUERIES)
def test_a_form_is_its_own_form_and_keeps_the_pieces_that_count(query: str) -> None:
    assert QueryForm().of(query) == query
    for form in (QueryForm(["utm_*", "a"]), QueryForm(sort=True), QueryForm(["b"], sort=True)):
        found = form.of(query)
        assert form.of(found) == found
        pieces = query.split("&")
        assert all(pieces.count(piece) >= found.split("&").count(piece) for piece in found.split("&") if piece)


@given(QUERIES, st.randoms(use_true_random=False))
def test_the_order_of_different_names_does_not_count_and_that_of_equal_ones_does(query: str, chance: Any) -> None:
    form = QueryForm(sort=True)
    pieces = [piece for piece in query.split("&") if piece]
    chance.shuffle(pieces)
    shuffled = "&".join(pieces)
    names = {unquote_to_bytes(piece.partition("=")[0]) for piece in pieces}
    same_order = all(_of_name(query, name) == _of_name(shuffled, name) for name in names)
    assert (form.of(query) == form.of(shuffled)) is same_order


def _of_name(query: str, name: bytes) -> list[str]:
    return [p for p in query.split("&") if p and unquote_to_bytes(p.partition("=")[0]) == name]


def test_a_hostile_query_takes_no_more_time_for_each_character() -> None:
    form = QueryForm(["a*a*a*a*a*a*b", "*" * 50 + "x"], sort=True)
    begun = time.process_time()
    for query in ("a" * 200_000, "a&" * 100_000, "%61" * 70_000, "=" * 200_000):
        form.of(query)
    assert time.process_time() - begun < 5  # seconds; a quadratic search takes minutes


def test_the_parts_that_a_rule_adds_are_in_the_key() -> None:
    keys = [
        record_key(SITE, TARGET, "GET", (), parts=parts)
        for parts in (
            (),
            (("header:a", ""),),
            (("header:a", "b"),),
            (("header:a", "b"), ("header:a", "c")),
            (("header:a", "c"), ("header:a", "b")),
            (("cookie:a", "b"),),
            (("header:a", "\udce9"),),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == record_key(SITE, TARGET, "GET", ())
    assert record_key(SITE, TARGET, "GET", (("a", "b"),)) != record_key(SITE, TARGET, "GET", (), parts=(("a", "b"),))
