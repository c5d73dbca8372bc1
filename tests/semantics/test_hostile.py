"""Whatever a peer sends, nothing raises and nothing takes longer than its length warrants."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_regioncache.semantics import (
    conditional,
    dates,
    fields,
    freshness,
    groups,
    methods,
    prefer,
    requests,
    storing,
    structured,
    vary,
)

NAMES = (
    "Age",
    "Cache-Control",
    "Cache-Group-Invalidation",
    "Cache-Groups",
    "Cache-Tag",
    "CDN-Cache-Control",
    "Connection",
    "Content-Location",
    "Content-Range",
    "Date",
    "ETag",
    "Expires",
    "If-Modified-Since",
    "If-None-Match",
    "Last-Modified",
    "Location",
    "Pragma",
    "Prefer",
    "Set-Cookie",
    "Surrogate-Key",
    "Vary",
)
POLICY = freshness.Policy(default_ttl=5.0, stale_if_error=5.0)
NOW = 1_800_000_000.0


def ask_everything(headers: fields.Headers) -> None:
    """Put the same field lines through every decision, as request and as response."""
    asked = requests.request_terms(headers)
    found = freshness.terms(200, headers, POLICY, response_time=NOW)
    age = freshness.initial_age(headers, request_time=NOW, response_time=NOW)
    freshness.judge(asked, found, initial_age=age, response_time=NOW, now=NOW + 1)
    storing.may_store("GET", headers, 200, headers, POLICY, credentials=False)
    vary.selecting(headers, vary.vary_names(headers) or ())
    conditional.not_modified("GET", headers, 200, headers)
    conditional.validators(headers)
    conditional.headers_for_304(headers)
    conditional.update_stored(headers, headers)
    methods.invalidated_targets("https://a.example/x", headers)
    prefer.parse_prefer(headers)
    assert len(groups.response_tags(headers)) <= groups.MAX_TAGS
    assert len(groups.invalidated_groups("POST", 200, headers)) <= groups.MAX_TAGS
    " ".join(groups.response_tags(headers)).encode()
    fields.end_to_end(headers)


def from_the_wire(data: bytes) -> tuple[str, str]:
    return data.decode("latin-1"), data.decode("utf-8", "surrogateescape")


RAW = st.binary(max_size=60) | st.lists(
    st.sampled_from(
        [
            b'"',
            b",",
            b";",
            b"=",
            b"\\",
            b" ",
            b"W/",
            b"*",
            b"max-age",
            b"no-cache",
            b"wait",
            b"9",
            b"(",
            b":",
            b"\xff",
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(NAMES), RAW), max_size=6))
def test_nothing_raises(lines: list[tuple[str, bytes]]) -> None:
    for reading in (0, 1):
        ask_everything([(name, from_the_wire(data)[reading]) for name, data in lines])


@settings(max_examples=100)
@given(RAW)
def test_values_alone_raise_nothing(data: bytes) -> None:
    for text in from_the_wire(data):
        dates.parse_date(text)
        structured.parse_dictionary(text)
        structured.parse_strings(text)
        structured.write_token_or_string(text)
        conditional.etag_matches(text, text, weak=False)


FRAGMENTS = (
    ",",
    '"',
    '","',
    ',"',
    '\\"',
    "\\",
    ";",
    "=",
    ", ",
    " ",
    "a,",
    "a=b,",
    'a="b",',
    'W/"a",',
    'W/"',
    "(",
    "a=(",
    "a;b;",
    "?",
    "9",
    "9.",
    "0,",
    "/../",
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("fragment", FRAGMENTS)
@pytest.mark.parametrize("prefix", ["", 'a="', "a=("])
def test_long_values_cost_no_more_than_their_length(prefix: str, fragment: str) -> None:
    value = prefix + fragment * (65536 // len(fragment))
    ask_everything([(name, value) for name in NAMES])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", NAMES)
def test_many_lines_cost_no_more_than_their_number(name: str) -> None:
    ask_everything([(name, f"a{number}") for number in range(8000)])


Splitter = Callable[[str], object]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "read",
    [
        fields.split_list,
        fields.unquote,
        structured.parse_dictionary,
        structured.parse_strings,
        dates.parse_date,
    ],
)
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_megabyte_is_read_at_once(read: Splitter, fragment: str) -> None:
    read('"' + fragment * (2**20 // len(fragment)) + '"')
