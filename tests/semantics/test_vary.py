import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.fields import Headers
from aiohttp_regioncache.semantics.vary import NOTHING_KNOWN, Known, learn, selecting, selecting_names, vary_names


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
    assert selecting([(name, "A, b;Q=1")], (name,)) == [(name, "a, b")]


def test_selecting_follows_the_order_of_the_names() -> None:
    assert selecting([("B", "2"), ("C", "3"), ("a", "1,1")], ("a", "b")) == [("a", "1, 1"), ("b", "2")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("en, de", "de, en", True, id="9110-12.5.4-equals"),
        pytest.param("en;q=0.9, de;q=0.1", "en, de;q=0.5", True, id="order-of-preference"),
        pytest.param("en, de;q=0.5", "de, en;q=0.5", False, id="another-preference"),
        pytest.param("en, de;q=0", "en", False, id="refused"),
    ],
)
def test_weighted_lists_select_by_their_meaning(one: str, other: str, same: bool) -> None:
    names = ("accept-language",)
    first, second = (selecting([("Accept-Language", value)], names) for value in (one, other))
    assert (first == second) is same


def test_a_coded_response_varies_by_what_is_accepted() -> None:
    assert selecting_names([("Content-Encoding", "gzip")]) == ("accept-encoding",)
    assert selecting_names([("Content-Encoding", "gzip"), ("Vary", "B")]) == ("accept-encoding", "b")
    assert selecting_names([("Content-Encoding", "identity"), ("Vary", "B")]) == ("b",)
    assert selecting_names([("Content-Encoding", "gzip"), ("Vary", "*")]) is None


ENCODING = ("accept-encoding",)
LANGUAGE = ("accept-language",)


def _seen(*exchanges: tuple[str, str]) -> Known:
    """What is known after responses of the second coding to requests that accept the first."""
    known = NOTHING_KNOWN
    for accepted, coding in exchanges:
        answer = [("Content-Encoding", coding)] if coding else []
        known = learn(known, ENCODING, [("Accept-Encoding", accepted)], answer)
    return known


def _key(known: Known, accepted: str) -> str:
    return selecting([("Accept-Encoding", accepted)], ENCODING, known)[0][1]


def test_codings_that_the_origin_did_not_use_make_no_difference() -> None:
    known = _seen(("gzip, deflate, br", "gzip"))
    assert _key(known, "br, gzip;q=0.5") == _key(known, "gzip") == "gzip"
    assert _key(known, "deflate") == _key(known, "") == ""


def test_a_coding_that_the_origin_has_not_been_offered_yet_may_make_one() -> None:
    known = _seen(("", ""))
    assert _key(known, "gzip") == "gzip"
    assert _key(_seen(("gzip", "gzip")), "zstd, gzip") == "gzip, zstd"


def test_who_accepts_a_coding_and_who_does_not_are_kept_apart() -> None:
    known = _seen(("gzip, br", "br"), ("gzip", "gzip"), ("", ""))
    assert len({_key(known, accepted) for accepted in ("gzip, br", "gzip", "br", "", "identity;q=0")}) == 5


def test_a_coding_that_nobody_has_registered_makes_a_difference_and_is_not_remembered() -> None:
    known = _seen(*((f"gzip, c{n}", "gzip") for n in range(100)))
    assert known.offered == ("gzip",)
    assert _key(known, "gzip, c1") == "c1, gzip"


_names = st.one_of(
    st.sampled_from(["br", "compress", "dcb", "deflate", "exi", "gzip", "zstd"]), st.integers(0, 20).map("c{}".format)
)
_codings = st.lists(_names, max_size=20, unique=True)


@given(st.lists(st.tuples(_codings, st.integers(0, 30)), max_size=8), _codings, st.data())
def test_the_key_of_a_coded_response_names_its_coding(
    before: list[tuple[list[str], int]], accepted: list[str], data: st.DataObject
) -> None:
    coding = data.draw(st.sampled_from(accepted)) if accepted else ""
    known = _seen(*((", ".join(each), each[n % len(each)] if each else "") for each, n in before))
    value = ", ".join(accepted)
    known = learn(known, ENCODING, [("Accept-Encoding", value)], [("Content-Encoding", coding)])
    assert not coding or coding in _key(known, value).split(", ")


def test_a_language_is_found_by_who_prefers_it() -> None:
    asked = [("Accept-Language", "en, de")]
    known = learn(NOTHING_KNOWN, LANGUAGE, asked, [("Content-Language", "DE")])
    key = selecting(asked, LANGUAGE, known)
    assert selecting([("Accept-Language", "fr;q=0.5, de")], LANGUAGE, known) == key
    assert selecting([("Accept-Language", "fr, de;q=0.5")], LANGUAGE, known) != key
    assert selecting([("Accept-Language", "fr, de")], LANGUAGE, known) != key


def test_a_language_that_the_origin_has_no_more_is_forgotten() -> None:
    known = learn(NOTHING_KNOWN, LANGUAGE, [("Accept-Language", "en, de")], [("Content-Language", "de")])
    asked = [("Accept-Language", "de, fr;q=0.5")]
    known = learn(known, LANGUAGE, asked, [("Content-Language", "fr")])
    assert selecting([("Accept-Language", "de")], LANGUAGE, known) == [("accept-language", "de")]
    assert dict(known.languages) == {"fr": "de, fr;q=0.999"}


def test_a_language_that_the_origin_has_by_now_takes_the_place_of_another() -> None:
    asked = [("Accept-Language", "de, en;q=0.5")]
    known = learn(NOTHING_KNOWN, LANGUAGE, asked, [("Content-Language", "en")])
    known = learn(known, LANGUAGE, asked, [("Content-Language", "de")])
    assert known.languages == (("de", "de, en;q=0.999"),)


def test_a_language_that_the_origin_names_no_more_is_forgotten() -> None:
    asked = [("Accept-Language", "de, en;q=0.5")]
    known = learn(NOTHING_KNOWN, LANGUAGE, asked, [("Content-Language", "en")])
    assert learn(known, LANGUAGE, asked, []) == NOTHING_KNOWN


def test_a_list_of_languages_without_end_is_not_remembered() -> None:
    asked = [("Accept-Language", ", ".join(["en", *(f"l{n};q=0.5" for n in range(100))]))]
    assert learn(NOTHING_KNOWN, LANGUAGE, asked, [("Content-Language", "en")]) == NOTHING_KNOWN


def test_what_is_known_is_bounded() -> None:
    known = NOTHING_KNOWN
    for n in range(100):
        asked = [("Accept-Language", f"l{n}"), ("Accept-Encoding", f"c{n}")]
        answer = [("Content-Language", f"l{n}"), ("Content-Encoding", f"c{n % 30}")]
        known = learn(known, (*ENCODING, *LANGUAGE), asked, answer)
    assert len(known.languages) == 16
    assert known.languages[-1][0] == "l99"
    assert max(len(known.offered), len(known.used)) <= 16
