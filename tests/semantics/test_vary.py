import pytest

from aiohttp_regioncache.semantics.fields import Headers
from aiohttp_regioncache.semantics.vary import selecting, vary_names


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        pytest.param([], (), id="none"),
        pytest.param([""], (), id="empty"),
        pytest.param(["Foo, bar ,FOO", "Baz"], ("bar", "baz", "foo"), id="sorted-unique-lower"),
        pytest.param(["*"], None, id="9110-12.5.5-star"),
        pytest.param(["*, *"], None, id="star-star"),
        pytest.param([", *"], None, id="empty-star"),
        pytest.param(["", "*"], None, id="empty-star-lines"),
        pytest.param(["*, Foo"], None, id="star-foo"),
        pytest.param(["Foo, *"], None, id="foo-star"),
    ],
)
def test_vary_names(lines: list[str], names: tuple[str, ...] | None) -> None:
    assert vary_names([("VARY", line) for line in lines]) == names


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param([("Foo", "a, b")], [("foo", " a ,\tb")], True, id="9111-4.1-white-space"),
        pytest.param([("Foo", "a, b")], [("Foo", "a"), ("Foo", "b")], True, id="4.1-lines"),
        pytest.param([("Foo", '"a, b"')], [("Foo", '"a,b"')], False, id="quoted-white-space-counts"),
        pytest.param([("Foo", "a")], [("Foo", "A")], False, id="case-counts"),
        pytest.param([("Foo", "a, b")], [("Foo", "b, a")], False, id="order-counts"),
        pytest.param([("Foo", "")], [], False, id="missing-is-not-empty"),
        pytest.param([("Foo", "a"), ("Other", "1")], [("Foo", "a"), ("Other", "2")], True, id="others"),
        pytest.param([("Accept-Language", "en, DE")], [("accept-language", "EN,de")], True, id="caseless"),
    ],
)
def test_requests_select_the_same(one: Headers, other: Headers, same: bool) -> None:
    names = ("accept-language", "foo")
    assert (selecting(one, names) == selecting(other, names)) is same


@pytest.mark.parametrize("name", ["accept-charset", "accept-encoding", "accept-language"])
def test_ranges_without_case(name: str) -> None:
    assert selecting([(name, "A, b;Q=1")], (name,)) == [(name, "a, b;q=1")]


def test_selecting_follows_the_order_of_the_names() -> None:
    assert selecting([("B", "2"), ("C", "3"), ("a", "1,1")], ("a", "b")) == [("a", "1, 1"), ("b", "2")]
