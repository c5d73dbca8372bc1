"""What a write does to an item, as pure decisions."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_app.documents import RefusedError, Write, decide, entity_tag, merge_patch

CURRENT = b'{"name":"tea","stock":3}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=10,
)


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_of_the_rfc(target: object, patch: object, expected: object) -> None:
    assert merge_patch(target, patch) == expected


@settings(max_examples=100)
@given(JSON, JSON)
def test_merge_patch_twice_is_merge_patch_once(target: object, patch: object) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def test_what_writes_answer() -> None:
    assert decide(Write(method="PUT", item_id="1", body=b"{}"), CURRENT).status == 200
    assert decide(Write(method="PUT", item_id="1", body=b'{ "a":1}'), None).body == b'{ "a":1}'
    assert decide(Write(method="PUT", item_id="1", body=b"{}"), None).status == 201
    assert decide(Write(method="POST", item_id="x", body=b"{}"), None).location == "/items/x"
    assert decide(Write(method="DELETE", item_id="1"), CURRENT).body is None
    patched = decide(Write(method="PATCH", item_id="1", body=b'{"stock":4}'), CURRENT).body
    assert patched is not None
    assert json.loads(patched) == {"name": "tea", "stock": 4}


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("PUT", b"", 400),
        ("PUT", b"{", 400),
        ("PUT", b"\xff", 400),
        ("PUT", b'{"a":NaN}', 400),
        ("PUT", b"[" * 100_000, 400),
        ("PUT", b"[]", 422),
        ("PATCH", b"1", 422),
        ("PATCH", b'{"a":1e999}', 422),
        ("PATCH", b'{"a":' + b"9" * 5000 + b"}", 400),
        ("TRACE", b"", 405),
    ],
)
def test_bad_bodies_are_refused(method: str, body: bytes, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        decide(Write(method=method, item_id="1", body=body), CURRENT)
    assert refused.value.status == status


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_missing_item_is_404(method: str) -> None:
    with pytest.raises(RefusedError) as refused:
        decide(Write(method=method, item_id="1", body=b"{}"), None)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("current", "if_match", "if_none_match", "passes"),
    [
        (CURRENT, (entity_tag(CURRENT),), None, True),
        (CURRENT, ("other", entity_tag(CURRENT)), None, True),
        (CURRENT, ("*",), None, True),
        (CURRENT, ("other",), None, False),
        (None, ("*",), None, False),
        (CURRENT, None, ("*",), False),
        (CURRENT, None, (entity_tag(CURRENT),), False),
        (CURRENT, None, ("other",), True),
        (None, None, ("*",), True),
    ],
)
def test_preconditions(
    current: bytes | None,
    if_match: tuple[str, ...] | None,
    if_none_match: tuple[str, ...] | None,
    passes: bool,
) -> None:
    write = Write(method="PUT", item_id="1", body=b"{}", if_match=if_match, if_none_match=if_none_match)
    if passes:
        decide(write, current)
        return
    with pytest.raises(RefusedError) as refused:
        decide(write, current)
    assert refused.value.status == 412
