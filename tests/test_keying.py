"""What of a request counts in the keys, where a rule says so."""

import pytest

from aiohttp_regioncache.keying import MAX_VALUE, Keying, Parts, country_part
from aiohttp_regioncache.keys import Target
from aiohttp_regioncache.regions import UNKNOWN, Location
from aiohttp_regioncache.semantics.fields import Headers

HEADERS = [("X-Kind", "a"), ("x-kind", "b"), ("Cookie", "lang=de; theme=dark; lang=fr"), ("X-Empty", "")]


def keying(*parts: str, ignore: tuple[str, ...] = (), sort: bool = False) -> Keying:
    return Keying(parts, ignore_query=ignore, sort_query=sort)


def asked_for_nothing() -> str:
    raise AssertionError("the country does not count here")


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("header:x-kind", (("header:x-kind", "a"), ("header:x-kind", "b"))),
        ("header:x-empty", (("header:x-empty", ""),)),
        ("header:x-missing", ()),
        ("cookie:lang", (("cookie:lang", "de"), ("cookie:lang", "fr"))),
        ("cookie:LANG", ()),
        ("query:page", ()),
    ],
)
def test_parts(part: str, found: Parts) -> None:
    assert keying(part).parts(HEADERS, asked_for_nothing) == found


def test_the_country_is_a_part_also_when_it_is_unknown() -> None:
    assert keying("country").parts([], lambda: "JP") == (("country", "JP"),)
    assert keying("country").parts([], lambda: "") == (("country", ""),)


@pytest.mark.parametrize(
    ("location", "headers", "part"),
    [
        (Location("JP"), [("CF-IPCountry", "JP")], "JP"),
        (UNKNOWN, [], ""),
        (UNKNOWN, [("CF-IPCountry", "JP")], "?JP"),
        (UNKNOWN, [("cf-ipcountry", "")], "?"),
        (UNKNOWN, [("X-Other", "JP")], ""),
    ],
)
def test_a_claim_that_is_not_believed_is_no_country(location: Location, headers: Headers, part: str) -> None:
    assert country_part(location, headers, ("CF-IPCountry",)) == part


def test_a_long_value_is_hashed_and_reads_like_no_other() -> None:
    part = keying("header:x")
    values = ["a" * MAX_VALUE, "a" * (MAX_VALUE + 1), "b" * 9000, "\udce9" * 300]
    found = [part.parts([("X", value)], asked_for_nothing) for value in values]
    assert found[0] == (("header:x", "a" * MAX_VALUE),)
    hashed = found[2][0][1]
    found.append(part.parts([("X", hashed)], asked_for_nothing))
    assert len(set(found)) == len(found)
    assert all(len(value) <= MAX_VALUE for parts in found for _, value in parts)


def test_the_target_as_keys_see_it() -> None:
    target = Target.of("https", "h", "/items/1", "b=1&utm_x=2&a=3")
    assert keying().target(target) is target
    assert keying(ignore=("utm_*",)).target(target).url == "https://h/items/1?b=1&a=3"
    assert keying(sort=True).target(target).url == "https://h/items/1?a=3&b=1&utm_x=2"
    assert keying("query:a", ignore=("*",)).target(target).url == "https://h/items/1?a=3"
    assert keying(ignore=("*",)).target(target) == target.sibling("/items/1")
