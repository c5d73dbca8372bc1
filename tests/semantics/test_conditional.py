import pytest

from aiohttp_regioncache.semantics import conditional
from aiohttp_regioncache.semantics.fields import Headers

OLD = "Sat, 01 Jan 2022 00:00:00 GMT"
NEW = "Sun, 01 Jan 2023 00:00:00 GMT"
NEW_SECONDS = 1672531200.0
STORED = [("ETag", '"a"'), ("Last-Modified", OLD), ("Date", NEW)]


@pytest.mark.parametrize(
    ("request_headers", "stored", "expected"),
    [
        pytest.param([], STORED, False, id="unconditional"),
        pytest.param([("If-None-Match", '"a"')], STORED, True, id="13.1.2-match"),
        pytest.param([("If-None-Match", '"b"')], STORED, False, id="13.1.2-other"),
        pytest.param([("If-None-Match", "*")], STORED, True, id="13.1.2-star"),
        pytest.param([("If-None-Match", "*")], [], True, id="13.1.2-star-without-etag"),
        pytest.param([("If-None-Match", '"a"')], [("Date", NEW)], False, id="13.1.2-no-etag"),
        pytest.param([("If-None-Match", '"x"'), ("if-none-match", '"a"')], STORED, True, id="lines"),
        pytest.param(
            [("If-None-Match", '"b"'), ("If-Modified-Since", NEW)], STORED, False, id="13.2.2-etag-decides-no"
        ),
        pytest.param(
            [("If-None-Match", '"a"'), ("If-Modified-Since", "foo")],
            STORED,
            True,
            id="13.2.2-etag-decides-yes",
        ),
        pytest.param([("If-Modified-Since", OLD)], STORED, True, id="13.1.3-equal"),
        pytest.param([("If-Modified-Since", NEW)], STORED, True, id="13.1.3-later"),
        pytest.param([("If-Modified-Since", OLD)], [("Last-Modified", NEW)], False, id="13.1.3-modified"),
        pytest.param([("If-Modified-Since", "2023-01-01")], STORED, False, id="13.1.3-no-date"),
        pytest.param([("If-Modified-Since", NEW)] * 2, STORED, False, id="13.1.3-several"),
        pytest.param([("If-Modified-Since", NEW)], [("Last-Modified", "x"), ("Date", OLD)], False, id="bad-lm"),
        pytest.param([("If-Modified-Since", NEW)], [("Date", NEW)], True, id="9111-4.3.2-date"),
        pytest.param([("If-Modified-Since", OLD)], [("Date", NEW)], False, id="9111-4.3.2-date-later"),
        pytest.param([("If-Modified-Since", NEW)], [], False, id="9111-4.3.2-nothing"),
    ],
)
def test_not_modified(request_headers: Headers, stored: Headers, expected: bool) -> None:
    for method in ("GET", "HEAD"):
        for status in (200, 206):
            assert conditional.not_modified(method, request_headers, status, stored) is expected
    assert not conditional.not_modified("POST", request_headers, 200, stored)
    assert not conditional.not_modified("GET", request_headers, 404, stored)


def test_the_time_of_arrival_stands_in_for_a_missing_date() -> None:
    asked = [("If-Modified-Since", NEW)]
    assert conditional.not_modified("GET", asked, 200, [], response_time=NEW_SECONDS)
    assert not conditional.not_modified("GET", asked, 200, [], response_time=NEW_SECONDS + 1)


@pytest.mark.parametrize(
    ("condition", "etag", "weakly", "strongly"),
    [
        pytest.param('"a"', '"a"', True, True, id="8.8.3.2-strong-strong"),
        pytest.param('W/"a"', '"a"', True, False, id="8.8.3.2-weak-strong"),
        pytest.param('"a"', 'W/"a"', True, False, id="8.8.3.2-strong-weak"),
        pytest.param('W/"a"', 'W/"a"', True, False, id="8.8.3.2-weak-weak"),
        pytest.param('"x", "a"', '"a"', True, True, id="last"),
        pytest.param('"a","x"', '"a"', True, True, id="first"),
        pytest.param(' , "x" ,, "a" ', '"a"', True, True, id="empty-elements"),
        pytest.param('"x,a"', '"x,a"', True, True, id="comma-inside"),
        pytest.param('"x,", "a", ",y"', '", "', False, False, id="between-tags"),
        pytest.param('"a\\"', '"a\\"', True, True, id="backslash-is-no-escape"),
        pytest.param('"\udcfc\u00fc"', '"\udcfc\u00fc"', True, True, id="obs-text"),
        pytest.param('""', '""', True, True, id="empty-tag"),
        pytest.param('w/"a"', '"a"', False, False, id="lower-case-mark"),
        pytest.param("a", "a", False, False, id="unquoted"),
        pytest.param('"a', '"a"', False, False, id="open"),
        pytest.param('"a"b', '"a"', False, False, id="more-behind"),
        pytest.param('"A"', '"a"', False, False, id="case-counts"),
        pytest.param("*", None, True, True, id="star"),
        pytest.param('"a", *', '"b"', False, False, id="star-not-alone"),
        pytest.param('"a"', None, False, False, id="no-etag"),
    ],
)
def test_etag_matches(condition: str, etag: str | None, weakly: bool, strongly: bool) -> None:
    assert conditional.etag_matches(condition, etag) is weakly
    assert conditional.etag_matches(condition, etag, weak=False) is strongly


@pytest.mark.parametrize(
    ("condition", "listed"),
    [
        ('"a"', ['"a"']),
        (' "a,b" ,, W/"c", ""', ['"a,b"', 'W/"c"', '""']),
        ("*", []),
        ('"a", *', []),
        ('"a" "b"', []),
        ("a", []),
        ("", []),
        ('"a', []),
    ],
)
def test_listed_etags(condition: str, listed: list[str]) -> None:
    assert conditional.listed_etags(condition) == listed


def test_is_strong_etag() -> None:
    assert conditional.is_strong_etag(' "a" ')
    assert not any(map(conditional.is_strong_etag, ('W/"a"', "a", '"a", "b"', "*", "")))


def test_validators() -> None:
    both = [("If-None-Match", '"a"'), ("If-Modified-Since", OLD)]
    assert conditional.validators(STORED) == both
    assert conditional.validators([("etag", "")]) == []


def test_names_of_the_preconditions() -> None:
    of_the_origin = {"if-match", "if-unmodified-since"}
    others = {"if-none-match", "if-modified-since", "if-range"}
    assert of_the_origin == conditional.ORIGIN_PRECONDITIONS
    assert of_the_origin | others == conditional.precondition_fields


def test_headers_for_304() -> None:
    kept = [
        ("Cache-Control", "max-age=5"),
        ("Content-Location", "/a"),
        ("Date", NEW),
        ("ETag", '"a"'),
        ("Expires", NEW),
        ("Vary", "Foo"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Other", "x"),
    ]
    dropped = [(f"Content-{name}", "x") for name in ("Length", "Type", "Encoding", "Language", "Range")]
    assert conditional.headers_for_304([*dropped, *kept, ("Last-Modified", OLD)]) == kept


def test_headers_for_304_keep_last_modified_without_etag() -> None:
    stored = [("Last-Modified", OLD), ("Date", NEW)]
    assert conditional.headers_for_304(stored) == stored


def test_update_stored_replaces_every_line_of_a_name() -> None:
    stored = [("A", "1"), ("Link", "x"), ("link", "y"), ("Cache-Control", "max-age=1")]
    fresh = [("Link", "z"), ("Link", "w"), ("cache-control", "max-age=9"), ("New", "n")]
    assert conditional.update_stored(stored, fresh) == [("A", "1"), *fresh]


def test_update_stored_keeps_what_describes_the_stored_bytes() -> None:
    stored = [("Content-Length", "36"), ("Content-Encoding", "gzip"), ("Content-Range", "r")]
    fresh = [("Content-Length", "0"), ("Content-Encoding", "br"), ("Content-Range", "s")]
    assert conditional.update_stored(stored, fresh) == stored


def test_update_stored_takes_no_cookie_and_no_hop_by_hop_field() -> None:
    fresh = [("Set-Cookie", "a=b"), ("Connection", "x-hop"), ("X-Hop", "1"), ("Keep-Alive", "5")]
    assert conditional.update_stored([("A", "1")], fresh) == [("A", "1")]


def test_update_stored_never_keeps_the_old_age_and_date() -> None:
    stored = [("Age", "500"), ("Date", OLD), ("A", "1")]
    assert conditional.update_stored(stored, []) == [("A", "1")]
    assert conditional.update_stored(stored, [("Date", NEW)]) == [("A", "1"), ("Date", NEW)]
