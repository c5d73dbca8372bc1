import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.cookies import cookie_values
from aiohttp_regioncache.semantics.fields import Headers


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lang=de", ["de"]),
        ("a=1;lang=de;b=2", ["de"]),
        ("lang=de; lang=fr", ["de", "fr"]),
        (" ;; lang = de en ;", ["de en"]),
        ("lang", [""]),
        ("a; lang; b", [""]),
        ("lang=", [""]),
        ("lang=a=b", ["a=b"]),
        ('lang="a;b"; c=d', ['"a;b"']),
        (r'lang="a\";b"c; d', [r'"a\";b"c']),
        ('lang="a; b=c"', ['"a; b=c"']),
        ('lang="a; b=c', ['"a']),
        ("x lang=de", ["de"]),
        ('"lang=de', ["de"]),
        ("x=1, lang=de", ["de"]),
        ('a="; lang=de', ["de"]),
        ("slang=de; lang2=de; lang-x=de; LANG=de; a=slang", []),
        ("", []),
    ],
)
def test_cookies(line: str, found: list[str]) -> None:
    assert cookie_values([("Cookie", line)], "lang") == found


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], []),
        ([("X-Cookie", "a=1")], []),
        ([("cookie", "a=1"), ("Cookie", "b=2; a=3")], ["1", "3"]),
    ],
)
def test_cookie_fields(headers: Headers, found: list[str]) -> None:
    assert cookie_values(headers, "a") == found


@given(st.lists(st.tuples(st.sampled_from(["a", "ab", "b"]), st.text("xyz=", max_size=4)), max_size=5))
def test_well_formed_cookies_are_all_found(sent: list[tuple[str, str]]) -> None:
    line = "; ".join(f"{name}={value}" for name, value in sent)
    assert cookie_values([("Cookie", line)], "a") == [value for name, value in sent if name == "a"]


def test_a_hostile_line_takes_no_more_time_for_each_character() -> None:
    begun = time.process_time()
    for line in ("a" * 200_000, 'a="' * 60_000, 'a="' + "\\" * 200_000, "a=" * 100_000, "a " * 100_000):
        cookie_values([("Cookie", line)], "a")
    assert time.process_time() - begun < 5  # seconds; a quadratic search takes minutes
