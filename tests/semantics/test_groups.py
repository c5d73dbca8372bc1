"""Groups of responses (RFC 9875), and the tags of other caches."""

from __future__ import annotations

import pytest

from aiohttp_regioncache.semantics.groups import MAX_TAG, MAX_TAGS, MORE_TAGS, invalidated_groups, response_tags


@pytest.mark.parametrize(
    ("headers", "tags"),
    [
        pytest.param([], (), id="none"),
        pytest.param([("Cache-Groups", '"scripts", "a b";x=1')], ("scripts", "a b"), id="9875-2"),
        pytest.param([("cache-groups", '"a"'), ("Cache-Groups", '"b", "a"')], ("a", "b"), id="9875-2-lines"),
        pytest.param([("Cache-Groups", '"A", "a"')], ("A", "a"), id="9875-2.1-case"),
        pytest.param([("Cache-Groups", 'token, "a"')], (), id="8941-no-string"),
        pytest.param([("Cache-Groups", '"a", ')], (), id="8941-malformed"),
        pytest.param([("Cache-Groups", '""')], (), id="empty-name"),
        pytest.param([("Cache-Tag", "a, b c ,,d"), ("Cache-Tag", "e")], ("a", "b c", "d", "e"), id="cache-tag"),
        pytest.param([("Surrogate-Key", " a  b,c\td ")], ("a", "b,c", "d"), id="surrogate-key"),
        pytest.param(
            [("Surrogate-Key", "a b"), ("Cache-Tag", "b"), ("Cache-Groups", '"c"')], ("c", "b", "a"), id="together"
        ),
        pytest.param([("Cache-Tag", "café")], ("café",), id="utf-8"),
        pytest.param([("Cache-Tag", "a, caf\udce9")], ("a", MORE_TAGS), id="no-utf-8"),
        pytest.param([("Cache-Tag", "a," + "x" * MAX_TAG)], ("a", "x" * MAX_TAG), id="longest"),
        pytest.param([("Cache-Tag", "a," + "x" * (MAX_TAG + 1))], ("a", MORE_TAGS), id="too-long"),
    ],
)
def test_a_response_has_the_tags_that_it_names(headers: list[tuple[str, str]], tags: tuple[str, ...]) -> None:
    assert response_tags(headers) == tags


def test_more_tags_than_are_kept_leave_a_mark() -> None:
    names = [f"t{n}" for n in range(MAX_TAGS + 1)]
    assert response_tags([("Surrogate-Key", " ".join(names[:-1]))]) == tuple(names[:-1])
    assert response_tags([("Surrogate-Key", " ".join(names))]) == (*names[: MAX_TAGS - 1], MORE_TAGS)


FIELD = [("Cache-Group-Invalidation", '"a", "b", "a"')]


@pytest.mark.parametrize(
    ("method", "status", "headers", "groups"),
    [
        pytest.param("POST", 200, FIELD, ("a", "b"), id="9875-3"),
        pytest.param("PUT", 303, FIELD, ("a", "b"), id="redirect"),
        pytest.param("GET", 200, FIELD, (), id="9875-3-safe"),
        pytest.param("POST", 404, FIELD, (), id="error"),
        pytest.param("POST", 500, FIELD, (), id="failure"),
        pytest.param("POST", 200, [("Cache-Group-Invalidation", "a")], (), id="no-string"),
        pytest.param("POST", 200, [("Cache-Groups", '"a"')], (), id="another-field"),
        pytest.param("POST", 200, [("Cache-Group-Invalidation", f'"{"x" * (MAX_TAG + 1)}"')], (), id="too-long"),
    ],
)
def test_an_answer_invalidates_the_groups_that_it_names(
    method: str, status: int, headers: list[tuple[str, str]], groups: tuple[str, ...]
) -> None:
    assert invalidated_groups(method, status, headers) == groups


def test_an_answer_invalidates_a_bounded_number_of_groups() -> None:
    named = ", ".join(f'"{n}"' for n in range(10 * MAX_TAGS))
    assert len(invalidated_groups("POST", 200, [("Cache-Group-Invalidation", named)])) == MAX_TAGS
