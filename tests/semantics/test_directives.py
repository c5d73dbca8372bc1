import pytest

from aiohttp_regioncache.semantics.directives import (
    LIMIT,
    delta_seconds,
    parse_directives,
    request_directives,
    response_directives,
)
from aiohttp_regioncache.semantics.fields import Headers


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        pytest.param("max-age=3600", 3600, id="plain"),
        pytest.param("MaX-aGe=3600", 3600, id="9111-5.2-any-case"),
        pytest.param('max-age="3600"', 3600, id="9111-5.2-quoted-form"),
        pytest.param("max-age=003600", 3600, id="leading-zeros"),
        pytest.param("max-age=" + "0" * 5000 + "7", 7, id="many-leading-zeros"),
        pytest.param("max-age=2147483649", LIMIT, id="9111-1.2.2-clamped"),
        pytest.param("max-age=" + "9" * 5000, LIMIT, id="9111-1.2.2-far-too-large"),
        pytest.param("max-age=-1", 0, id="4.2.1-negative-is-stale"),
        pytest.param("max-age=3600.0", 0, id="4.2.1-decimal-is-stale"),
        pytest.param("max-age=a3600", 0, id="4.2.1-leading-letter-is-stale"),
        pytest.param("max-age=3600a", 0, id="4.2.1-trailing-letter-is-stale"),
        pytest.param("max-age= 3600", 0, id="4.2.1-space-after-equals-is-stale"),
        pytest.param("max-age='3600'", 0, id="4.2.1-single-quotes-are-stale"),
        pytest.param("max-age=", 0, id="4.2.1-no-argument-is-stale"),
        pytest.param("max-age", 0, id="4.2.1-no-equals-is-stale"),
        pytest.param("max-age=³", 0, id="4.2.1-other-digits-are-stale"),
        pytest.param("max-age=1, max-age=1800", 1, id="4.2.1-smallest-of-repeated"),
        pytest.param("max-age=1800, max-age=x", 0, id="4.2.1-invalid-among-repeated"),
        pytest.param('extension="max-age=3600", max-age=1', 1, id="5.2-inside-quotes-is-no-directive"),
        pytest.param('max-age=1, extension="max-age=3600"', 1, id="5.2-inside-quotes-behind"),
        pytest.param("s-maxage=5", None, id="absent"),
    ],
)
def test_seconds(line: str, seconds: int | None) -> None:
    assert parse_directives([line]).seconds("Max-Age") == seconds


def test_lines_are_one_list() -> None:
    directives = parse_directives(["max-age=1800, no-cache", "max-age=60,public"])
    assert directives.seconds("max-age") == 60
    assert set(directives) == {"max-age", "no-cache", "public"}
    assert directives.has("PUBLIC")
    assert not directives.has("private")


def test_the_mapping_gives_the_first_argument() -> None:
    directives = parse_directives(['a="x y", a=2, b'])
    assert directives["A"] == "x y"
    assert dict(directives) == {"a": "x y", "b": None}
    assert directives.get("c", "none") == "none"


@pytest.mark.parametrize(
    ("line", "names"),
    [
        pytest.param('private="A, b"', ("a", "b"), id="9111-5.2.2.7-qualified"),
        pytest.param("private=a", ("a",), id="5.2-token-form"),
        pytest.param('private="a", private="b,a"', ("a", "b"), id="several"),
        pytest.param('private="a", private', (), id="unqualified-covers-all"),
        pytest.param("private", (), id="unqualified"),
        pytest.param("no-cache", (), id="absent"),
    ],
)
def test_fields(line: str, names: tuple[str, ...]) -> None:
    assert parse_directives([line]).fields("private") == names


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 0), ("", None), ("-7", None), ("7;a", None), ("٣", None), (None, None)],
)
def test_delta_seconds(value: str | None, seconds: int | None) -> None:
    assert delta_seconds(value) == seconds


@pytest.mark.parametrize(
    ("headers", "max_age", "targeted"),
    [
        pytest.param([("Cache-Control", "max-age=1")], 1, False, id="none"),
        pytest.param([("Cache-Control", "max-age=1"), ("cdn-cache-control", "max-age=9")], 9, True, id="9213-2.2-wins"),
        pytest.param([("Cache-Control", "max-age=1"), ("CDN-Cache-Control", "")], 1, False, id="2.1-empty-ignored"),
        pytest.param(
            [("Cache-Control", "max-age=1"), ("CDN-Cache-Control", "max-age= 9")],
            1,
            False,
            id="2.1-malformed-ignored",
        ),
        pytest.param(
            [("Cache-Control", "max-age=1"), ("CDN-Cache-Control", 'max-age="9"')],
            1,
            False,
            id="2.1-string-for-integer-ignored",
        ),
        pytest.param(
            [("Cache-Control", "max-age=1"), ("CDN-Cache-Control", "max-age=9.5")],
            1,
            False,
            id="2.1-decimal-for-integer-ignored",
        ),
        pytest.param(
            [("Cache-Control", "max-age=1"), ("CDN-Cache-Control", "none")], None, True, id="3.1-unknown-wins"
        ),
        pytest.param(
            [("CDN-Cache-Control", "max-age=9;x=1"), ("CDN-Cache-Control", "public")],
            9,
            True,
            id="2.1-lines-and-parameters",
        ),
        pytest.param([("CDN-Cache-Control", "max-age=-9")], 0, True, id="negative-is-stale"),
        pytest.param([("CDN-Cache-Control", "max-age=2147483649")], LIMIT, True, id="clamped"),
    ],
)
def test_targeted_fields(headers: Headers, max_age: int | None, targeted: bool) -> None:
    directives = response_directives(headers)
    assert directives.seconds("max-age") == max_age
    assert directives.targeted is targeted


@pytest.mark.parametrize("name", ["max-age", "s-maxage", "stale-if-error", "stale-while-revalidate"])
def test_seconds_of_a_targeted_field_are_integers(name: str) -> None:
    assert response_directives([("CDN-Cache-Control", f"{name}=9")]).seconds(name) == 9
    assert not response_directives([("CDN-Cache-Control", f"{name}=a, public")]).targeted
    assert not response_directives([("CDN-Cache-Control", f"{name}, public")]).targeted


def test_the_first_targeted_field_wins() -> None:
    headers = [("B-Cache-Control", "max-age=2"), ("A-Cache-Control", "max-age=1")]
    found = response_directives(headers, targeted=("A-Cache-Control", "B-Cache-Control"))
    assert found.seconds("max-age") == 1


def test_targeted_arguments() -> None:
    directives = response_directives([("CDN-Cache-Control", 'private=("A" "b"), no-store=?0, no-cache="c"')])
    assert directives.fields("private") == ("a", "b")
    assert directives.fields("no-cache") == ("c",)
    assert not directives.has("no-store")


@pytest.mark.parametrize(
    ("headers", "no_cache"),
    [
        pytest.param([("Pragma", "no-cache")], True, id="9111-5.4-alone"),
        pytest.param([("Pragma", "foo, No-Cache")], True, id="5.4-in-a-list"),
        pytest.param([("Pragma", "foo")], False, id="5.4-other"),
        pytest.param([("Pragma", "no-cache"), ("Cache-Control", "max-age=5")], False, id="5.4-cache-control-wins"),
        pytest.param([("Cache-Control", "no-cache")], True, id="5.2.1.4"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_request_directives(headers: Headers, no_cache: bool) -> None:
    assert request_directives(headers).has("no-cache") is no_cache
