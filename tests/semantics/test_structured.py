import pytest

from aiohttp_regioncache.semantics import structured
from aiohttp_regioncache.semantics.structured import TRUE, Item, Kind, Member, parse_dictionary, parse_strings


@pytest.mark.parametrize(
    ("value", "members"),
    [
        pytest.param("", {}, id="8941-4.2-empty"),
        pytest.param("a", {"a": TRUE}, id="3.2-bare-key"),
        pytest.param("a=1, b=-2", {"a": Item(Kind.INTEGER, "1"), "b": Item(Kind.INTEGER, "-2")}, id="3.3.1-integer"),
        pytest.param("a=1.25", {"a": Item(Kind.DECIMAL, "1.25")}, id="3.3.2-decimal"),
        pytest.param(r'a="x\"\\y"', {"a": Item(Kind.STRING, 'x"\\y')}, id="3.3.3-string"),
        pytest.param("a=*tok/en:1", {"a": Item(Kind.TOKEN, "*tok/en:1")}, id="3.3.4-token"),
        pytest.param("a=:aGk=:", {"a": Item(Kind.BINARY, "aGk=")}, id="3.3.5-binary"),
        pytest.param("a=?0", {"a": Item(Kind.BOOLEAN, "?0")}, id="3.3.6-boolean"),
        pytest.param("a=@-12", {"a": Item(Kind.DATE, "-12")}, id="9651-3.3.7-date"),
        pytest.param('a=%"f%c3%bc"', {"a": Item(Kind.DISPLAY, "f%c3%bc")}, id="9651-3.3.8-display"),
        pytest.param(
            'a=( "x"  y;q=1 )',
            {"a": (Item(Kind.STRING, "x"), Item(Kind.TOKEN, "y"))},
            id="3.1.1-inner-list",
        ),
        pytest.param("a=(1)", {"a": (Item(Kind.INTEGER, "1"),)}, id="3.1.1-one-item"),
        pytest.param("a=()", {"a": ()}, id="3.1.1-empty-inner-list"),
        pytest.param('a=1;p;q="x"; r=?1 ,\tb', {"a": Item(Kind.INTEGER, "1"), "b": TRUE}, id="3.1.2-params"),
        pytest.param("a=1, a=2", {"a": Item(Kind.INTEGER, "2")}, id="3.2-last-key-counts"),
    ],
)
def test_dictionaries(value: str, members: dict[str, Member]) -> None:
    assert parse_dictionary(value) == members


@pytest.mark.parametrize(
    "value",
    [
        "A=1",
        "a= 1",
        "a =1",
        "a=",
        "a=1,",
        ",a=1",
        "a=1,,b",
        "a=1 b=2",
        "a=1.",
        "a=1.2345",
        "a=1.2.3",
        "a=1234567890123456",
        'a="x',
        r'a="\x"',
        'a="ü"',
        "a=?2",
        "a=:x",
        "a=(1",
        'a=("x""y")',
        "a;=1",
        "a=1; =2",
        "1=a",
    ],
)
def test_what_is_no_dictionary(value: str) -> None:
    assert parse_dictionary(value) is None


def test_integers_are_rounded_down_and_clamped() -> None:
    assert structured.write_integer(1.9) == "1"
    assert structured.write_integer(-1.1) == "-2"
    assert structured.write_integer(float("inf")) == "999999999999999"
    assert structured.write_integer(float("-inf")) == "-999999999999999"


def test_strings_escape_and_replace() -> None:
    assert structured.write_string('a"b\\c\nü') == '"a\\"b\\\\c??"'


@pytest.mark.parametrize(
    ("text", "written"),
    [("dirty", "dirty"), ("*a/b:c", "*a/b:c"), ("1a", '"1a"'), ("", '""'), ("a b", '"a b"')],
)
def test_tokens_where_possible(text: str, written: str) -> None:
    assert structured.write_token_or_string(text) == written


@pytest.mark.parametrize(
    ("text", "strings"),
    [
        pytest.param("", [], id="4.2-empty"),
        pytest.param(' "a" ', ["a"], id="one"),
        pytest.param('"a" ,\t"b,c";p="x";q, "\\"\\\\"', ["a", "b,c", '"\\'], id="3.1-list"),
        pytest.param('"a",', None, id="4.2.1-trailing-comma"),
        pytest.param('"a" "b"', None, id="4.2.1-no-comma"),
        pytest.param('"a', None, id="3.3.3-open"),
        pytest.param('"a", b', None, id="token"),
        pytest.param('("a")', None, id="inner-list"),
        pytest.param('"é"', None, id="3.3.3-ascii"),
    ],
)
def test_a_list_of_strings_is_read(text: str, strings: list[str] | None) -> None:
    assert parse_strings(text) == strings
