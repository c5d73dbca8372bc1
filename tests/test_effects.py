"""Effects: what a write does to a representation, and what it leaves unknown."""

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.effects import (
    UNKNOWN,
    Effects,
    Representation,
    Unknown,
    Write,
    effect_for,
    function_name,
    merge_patch,
)

JSON = "application/json"
MERGE = "application/merge-patch+json"
BASE = Representation(b'{"a": 1, "b": {"c": 2}}', JSON)


def upper(base: Representation | None, write: Write) -> Representation | Unknown | None:
    return UNKNOWN if base is None else Representation(base.body.upper(), base.content_type)


def failing(base: Representation | None, write: Write) -> Representation | Unknown | None:
    raise LookupError(write.url)


def text(base: Representation | None, write: Write) -> Any:
    return "no representation"


EFFECTS = Effects({function_name(each): each for each in (upper, failing, text)})


def write(body: bytes = b"{}", content_type: str = JSON, method: str = "PUT") -> Write:
    return Write(method, "https://a.example/x", body, content_type)


@pytest.mark.parametrize(
    ("name", "method", "content_type", "effect"),
    [
        ("auto", "PUT", JSON, "replace"),
        ("auto", "PUT", "Text/Plain; charset=utf-8", "replace"),
        ("auto", "PUT", "", "unknown"),
        ("auto", "PUT", "application/merge-patch+json", "unknown"),
        ("auto", "PUT", "application/json-patch+json", "unknown"),
        ("auto", "DELETE", "", "delete"),
        ("auto", "PATCH", "Application/Merge-Patch+JSON; charset=utf-8", "merge-patch"),
        ("auto", "PATCH", JSON, "unknown"),
        ("auto", "PATCH", "application/json-patch+json", "unknown"),
        ("auto", "POST", JSON, "unknown"),
        ("auto", "put", JSON, "unknown"),
        ("replace", "POST", JSON, "replace"),
        ("module:function", "PUT", JSON, "module:function"),
    ],
)
def test_the_effect_of_a_write(name: str, method: str, content_type: str, effect: str) -> None:
    assert effect_for(name, method, content_type) == effect


# RFC 7396, appendix A
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_merge_patches_of_the_rfc(target: str, patch: str, result: str) -> None:
    merged = EFFECTS.apply("merge-patch", Representation(target.encode(), JSON), write(patch.encode(), MERGE, "PATCH"))
    assert merged == Representation(result.encode(), JSON)


_json = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from("ab"),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(_json, st.lists(_json, min_size=1, max_size=4), st.integers(1, 4))
def test_merge_patches_over_what_already_contains_some_of_them_change_nothing(
    target: object, patches: list[object], contained: int
) -> None:
    def apply(value: object, chosen: list[object]) -> object:
        for patch in chosen:
            value = merge_patch(value, patch)
        return value

    before = json.dumps(target)
    expected = apply(target, patches)
    assert apply(apply(target, patches[:contained]), patches) == expected
    assert json.dumps(target) == before


@pytest.mark.parametrize("number", ["12345678901234567890123", "0.12345678901234567890123", "1.10", "-1E+400", "1e-7"])
def test_a_merge_keeps_every_digit_of_what_it_does_not_change(number: str) -> None:
    merged = EFFECTS.apply("merge-patch", Representation(f'{{"n":{number}}}'.encode(), JSON), write(b'{"a":1}', MERGE))
    assert isinstance(merged, Representation)
    assert merged.body.lower() == f'{{"n":{number},"a":1}}'.lower().encode()


@pytest.mark.parametrize(
    ("base", "patch"),
    [
        (None, b'{"a":1}'),
        (Representation(b"{}", "text/plain"), b"{}"),
        (Representation(b"no json", JSON), b"{}"),
        (Representation(b"", JSON), b"{}"),
        (BASE, b""),
        (BASE, b"{"),
        (BASE, b'{"a": "\xff"}'),
        (BASE, b"[" * 100_000 + b"]" * 100_000),
        (BASE, b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
        (Representation('{"a":"é"}'.encode("utf-16"), f"{JSON}; charset=utf-16"), b"{}"),
    ],
)
def test_a_merge_of_what_cannot_be_read_is_unknown(base: Representation | None, patch: bytes) -> None:
    assert EFFECTS.apply("merge-patch", base, write(patch, MERGE, "PATCH")) is UNKNOWN


def test_a_merge_keeps_the_media_type_of_the_base() -> None:
    base = Representation(b"{}", "Application/Vnd.Thing+JSON; charset=utf-8")
    merged = EFFECTS.apply("merge-patch", base, write(b'{"a":1}', MERGE, "PATCH"))
    assert merged == Representation(b'{"a":1}', base.content_type)


def test_replace_and_delete_need_no_base() -> None:
    assert EFFECTS.apply("replace", None, write(b"x", "text/plain")) == Representation(b"x", "text/plain")
    assert EFFECTS.apply("replace", BASE, write(b"x", "")) is UNKNOWN
    assert EFFECTS.apply("delete", BASE, write()) is None
    assert EFFECTS.apply("delete", None, write()) is None


def test_functions_by_name() -> None:
    assert EFFECTS.apply(f"{__name__}:upper", BASE, write()) == Representation(BASE.body.upper(), JSON)
    assert EFFECTS.apply("elsewhere:function", BASE, write()) is UNKNOWN
    assert EFFECTS.apply("unknown", BASE, write()) is UNKNOWN
    assert Effects().apply(f"{__name__}:upper", BASE, write()) is UNKNOWN


@pytest.mark.parametrize("name", ["failing", "text"])
def test_a_function_that_fails_or_answers_nonsense_is_unknown_and_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert EFFECTS.apply(f"{__name__}:{name}", BASE, write()) is UNKNOWN
    assert f"{__name__}:{name}" in caplog.text


def test_media_type_and_name() -> None:
    assert Representation(b"", " Text/HTML ; charset=utf-8").media_type == "text/html"
    assert repr(UNKNOWN) == "UNKNOWN"
