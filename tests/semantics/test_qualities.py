import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.qualities import preferred, qualities, ranked, weight_of


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param("", {}, id="9110-12.4.2-empty"),
        pytest.param("a, B;q=0.5", {"a": 1.0, "b": 0.5}, id="weights"),
        pytest.param("a ; Q=0.5", {"a": 0.5}, id="white-space-and-case"),
        pytest.param("a;q=0, *;q=0.001", {"a": 0.0, "*": 0.001}, id="not-acceptable"),
        pytest.param("a;q=2, b;q=x, c;q=, d;q=0.1234", dict.fromkeys("abcd", 1.0), id="invalid"),
        pytest.param("a;q=0.5, a", {"a": 0.5}, id="repeated"),
        pytest.param("x-gzip;q=0.5", {"gzip": 0.5}, id="8.4.1.3-alias"),
        pytest.param("a;level=1;q=0.5", {"a": 0.5}, id="other-parameters"),
    ],
)
def test_qualities(value: str, found: dict[str, float]) -> None:
    assert qualities([value]) == found


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("b, a", "a, b", id="equals-have-no-order"),
        pytest.param("a;q=0.1, b;q=0.9", "b, a;q=0.999", id="only-the-order-counts"),
        pytest.param("b;q=0.9, a;q=0.1, c;q=0", "b, a;q=0.999, c;q=0", id="refused"),
        pytest.param("a;q=0.2, b;q=0.2", "a, b", id="equal-weights"),
        pytest.param("", "", id="empty"),
    ],
)
def test_ranked(value: str, written: str) -> None:
    assert ranked(qualities([value])) == written


_names = st.text("abcd*", min_size=1, max_size=3)
_weights = st.sampled_from(["", ";q=1", ";q=0.7", ";q=0.3", ";q=0"])


@given(st.lists(st.tuples(_names, _weights), max_size=6), st.randoms())
def test_what_is_written_means_the_same_and_does_not_depend_on_the_order(
    members: list[tuple[str, str]], random: "st.DataObject"
) -> None:
    unique = dict(members)
    lines = [f"{name}{weight}" for name, weight in unique.items()]
    written = ranked(qualities([", ".join(lines)]))
    random.shuffle(lines)  # type: ignore[attr-defined]
    assert ranked(qualities(lines)) == written
    assert ranked(qualities([written])) == written


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("de, en;q=0.5", "de"),
        ("de;q=0.4", "de"),
        ("de, en", None),
        ("*", None),
        ("de;q=0", None),
        ("", None),
    ],
)
def test_preferred(value: str, name: str | None) -> None:
    assert preferred(qualities([value])) == name


@pytest.mark.parametrize(
    ("accepted", "coding", "is_acceptable"),
    [
        pytest.param("", "gzip", False, id="empty"),
        pytest.param("", "identity", True, id="identity"),
        pytest.param("gzip, br", "gzip", True, id="listed"),
        pytest.param("gzip, br", "zstd", False, id="not-listed"),
        pytest.param("gzip;q=0", "gzip", False, id="refused"),
        pytest.param("*", "zstd", True, id="any"),
        pytest.param("br, *;q=0", "gzip", False, id="no-other"),
        pytest.param("identity;q=0", "identity", False, id="no-identity"),
        pytest.param("gzip", "x-gzip", True, id="alias"),
    ],
)
def test_acceptable_codings(accepted: str, coding: str, is_acceptable: bool) -> None:
    assert (weight_of(qualities([accepted]), coding) > 0) is is_acceptable
