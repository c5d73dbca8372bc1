import pytest

from aiohttp_regioncache.semantics.cookies import cookies
from aiohttp_regioncache.semantics.fields import Headers


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], []),
        ([("Cookie", "a=1; b=2")], [("a", "1"), ("b", "2")]),
        ([("cookie", "a=1;b=2;a=3"), ("Cookie", "a=4")], [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]),
        ([("Cookie", ' ; a = "x y" ;; =v; name; c=d=e ;')], [("a", '"x y"'), ("", "v"), ("name", ""), ("c", "d=e")]),
        ([("X-Cookie", "a=1")], []),
    ],
)
def test_cookies(headers: Headers, found: list[tuple[str, str]]) -> None:
    assert cookies(headers) == found
