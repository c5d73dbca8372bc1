import pytest

from aiohttp_regioncache.exclusions import Exclusions
from aiohttp_regioncache.keys import Target

EXCLUSIONS = Exclusions(
    paths=["/cart/**", "/items/{id}/stock"],
    prefixes=["/wp-admin", "/päge/"],
    extensions=["php", "tar.gz"],
    cookies=["wordpress_logged_in"],
    headers=["x-preview"],
    query=["preview", "nocache_*"],
)


def _covers(endpoint: str, *headers: tuple[str, str]) -> bool:
    path, _, query = endpoint.partition("?")
    return EXCLUSIONS.cover(Target.of("https", "a.example", path, query), headers)


@pytest.mark.parametrize(
    "endpoint",
    [
        "/cart/1/2",
        "/items/7/stock",
        "/wp-admin",
        "/wp-admin/x",
        "/wp%2Dadmin/x",
        "/x/../wp-admin/",
        "/p%C3%A4ge/1",
        "/index.php",
        "/INDEX.PHP",
        "/a/b.tar.gz",
        "/?preview",
        "/?a=1&preview=true",
        "/?%70review=1",
        "/?a=1;preview=2",
        "/?nocache_7=1",
    ],
)
def test_requests_are_excluded_by_their_target(endpoint: str) -> None:
    assert _covers(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["/", "/cart", "/items/7", "/x/wp-admin", "/index.php/x", "/php", "/?a=preview", "/?previews=1", "/?"]
)
def test_other_targets_are_not(endpoint: str) -> None:
    assert not _covers(endpoint)


@pytest.mark.parametrize(
    "field",
    [
        ("Cookie", "a=b; wordpress_logged_in=x"),
        ("cookie", "wordpress_logged_in"),
        ("X-Preview", ""),
    ],
)
def test_requests_are_excluded_by_their_fields(field: tuple[str, str]) -> None:
    assert _covers("/", field)
    assert not _covers("/", ("X-Other", field[1]))


def test_nothing_is_excluded_where_nothing_is_said() -> None:
    nothing = Exclusions()
    assert not nothing.cover(Target.of("https", "a.example", "/a.php", "preview=1"), [("Cookie", "a=b")])


def test_a_pattern_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="does not begin with a slash"):
        Exclusions(paths=["cart"])
