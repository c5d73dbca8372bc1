import pytest

from aiohttp_regioncache.semantics import fields

LINES = [("Vary", "a"), ("X", "1"), ("vary", ""), ("VARY", "b, c")]


def test_values_keep_lines_and_order() -> None:
    assert fields.values(LINES, "vary") == ["a", "", "b, c"]
    assert fields.values(LINES, "none") == []


def test_first_takes_any_case() -> None:
    assert fields.first(LINES, "VaRy") == "a"
    assert fields.first(LINES, "none") is None


def test_combined_tells_missing_from_empty() -> None:
    assert fields.combined(LINES, "Vary") == "a, , b, c"
    assert fields.combined([("A", "")], "a") == ""
    assert fields.combined(LINES, "none") is None


def test_remove_takes_any_case() -> None:
    assert fields.remove(LINES, ["vArY"]) == [("X", "1")]


def test_indexed_lines_say_the_same() -> None:
    indexed = fields.Indexed([*LINES, ("Connection", "x, close"), ("Age", "1"), ("age", "2")])
    plain = list(indexed)
    for name in ("vary", "VARY", "x", "age", "none"):
        assert fields.values(indexed, name) == fields.values(plain, name)
        assert fields.first(indexed, name) == fields.first(plain, name)
        assert fields.combined(indexed, name) == fields.combined(plain, name)
        assert fields.remove(indexed, [name]) == fields.remove(plain, [name])
        assert fields.names_any(indexed, {name.lower()}) is fields.names_any(plain, {name.lower()})
    assert fields.end_to_end(indexed) == fields.end_to_end(plain)
    fields.values(indexed, "vary").clear()
    assert fields.values(indexed, "vary") == ["a", "", "b, c"]


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        pytest.param("a,b", ["a", "b"], id="plain"),
        pytest.param(" a ,\t, b ,", ["a", "b"], id="9110-5.6.1.2-empty-elements"),
        pytest.param('a="x, y", b', ['a="x, y"', "b"], id="9110-5.6.4-quoted-comma"),
        pytest.param('a="x,y",b', ['a="x,y"', "b"], id="9110-5.6.4-quoted-comma-no-space"),
        pytest.param(r'a="x\", y", b', [r'a="x\", y"', "b"], id="9110-5.6.4-escaped-quote"),
        pytest.param(r'a="x\\", b', [r'a="x\\"', "b"], id="9110-5.6.4-escaped-backslash"),
        pytest.param('a="x, no-store', ['a="x', "no-store"], id="open-quote-hides-nothing"),
        pytest.param('a="x,y", b="z, c', ['a="x,y"', 'b="z', "c"], id="open-quote-after-a-closed-one"),
        pytest.param('a="x"y"z, b', ['a="x"y"z', "b"], id="open-quote-inside-an-element"),
        pytest.param("", [], id="empty"),
    ],
)
def test_split_list(value: str, elements: list[str]) -> None:
    assert fields.split_list(value) == elements


def test_split_outside_quotes_at_semicolons() -> None:
    assert fields.split_outside_quotes('a; b="x;y" ;; c', ";") == ["a", 'b="x;y"', "c"]


@pytest.mark.parametrize(
    ("value", "content"),
    [("token", "token"), ('"a b"', "a b"), (r'"a\"b\\"', 'a"b\\'), ('"', '"'), ('""', ""), ('"a', '"a')],
)
def test_unquote(value: str, content: str) -> None:
    assert fields.unquote(value) == content


HOP_BY_HOP = (
    "connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization proxy-connection "
    "te trailer transfer-encoding upgrade"
)


@pytest.mark.parametrize("name", HOP_BY_HOP.split())
def test_hop_by_hop_fields_stay_behind(name: str) -> None:
    assert fields.end_to_end([(name.title(), "x"), ("Date", "y")]) == [("Date", "y")]


def test_fields_named_in_connection_stay_behind() -> None:
    lines = [("Connection", "close, A"), ("a", "1"), ("connection", " b\t"), ("B", "2"), ("C", "3")]
    assert fields.end_to_end(lines) == [("C", "3")]


def test_end_to_end_keeps_duplicates() -> None:
    lines = [("Set-Cookie", "a=1"), ("Set-Cookie", "a=1")]
    assert fields.end_to_end(lines) == lines


@pytest.mark.parametrize(
    ("headers", "hides"),
    [
        ([], False),
        ([("Connection", "keep-alive"), ("Keep-Alive", "5")], False),
        ([("Connection", "close, TE"), ("TE", "trailers")], False),
        ([("Connection", "x-a")], False),
        ([("Connection", "x-a"), ("X-A", "1")], True),
        ([("X-A", "1"), ("Connection", "close"), ("connection", " , X-a ")], True),
    ],
)
def test_fields_that_connection_hides(headers: fields.Headers, hides: bool) -> None:
    assert fields.hides_fields(headers) is hides
