import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.fields import Headers
from aiohttp_regioncache.semantics.ranges import (
    MAX_RANGES,
    Part,
    Span,
    completed,
    content_range,
    if_range_holds,
    is_excessive,
    joined,
    missing,
    requested,
    satisfiable,
    strong_validator,
)

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:47 GMT"


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        pytest.param("bytes=0-1", [(0, 1)], id="9110-14.1.2-first-last"),
        pytest.param("bytes=7-", [(7, 9)], id="open"),
        pytest.param("bytes=-3", [(7, 9)], id="suffix"),
        pytest.param("bytes=-30", [(0, 9)], id="suffix-longer-than-all"),
        pytest.param("bytes=8-99", [(8, 9)], id="last-beyond-the-end"),
        pytest.param("bytes=0-0,-1", [(0, 0), (9, 9)], id="several"),
        pytest.param(" BYTES = 0-1 , ,3-4", [(0, 1), (3, 4)], id="white-space-case-empty-members"),
        pytest.param("bytes=10-", [], id="unsatisfiable"),
        pytest.param("bytes=-0", [], id="suffix-of-none"),
        pytest.param("bytes=99-,1-2", [(1, 2)], id="one-satisfiable"),
    ],
)
def test_spans(value: str, spans: list[Span]) -> None:
    assert requested([("range", value)]) == value
    assert satisfiable(value, 10) == spans


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="none"),
        pytest.param(["lines=0-1"], id="14.2-another-unit"),
        pytest.param(["bytes"], id="no-set"),
        pytest.param(["bytes="], id="empty-set"),
        pytest.param(["bytes=-"], id="no-position"),
        pytest.param(["bytes=2-1"], id="14.1.1-backwards"),
        pytest.param(["bytes=a-b"], id="no-digits"),
        pytest.param(["bytes=0-1", "bytes=0-1"], id="two-lines"),
        pytest.param([f"bytes={'9' * 19}-"], id="beyond-any-length"),
        pytest.param(["bytes=" + ",".join(f"{n}-{n}" for n in range(MAX_RANGES + 1))], id="14.2-many"),
    ],
)
def test_a_range_that_is_not_acted_upon(lines: list[str]) -> None:
    assert requested([("Range", line) for line in lines]) is None


@pytest.mark.parametrize(
    ("spans", "excessive"),
    [([(0, 1), (2, 3)], False), ([(0, 1), (1, 3)], True), ([(5, 9), (0, 5)], True), ([(0, 9)], False)],
)
def test_overlapping_ranges(spans: list[Span], excessive: bool) -> None:
    assert is_excessive(spans) is excessive


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("bytes 0-4/10", Part(0, 4, 10)),
        ("BYTES 9-9/10", Part(9, 9, 10)),
        ("bytes 0-4/*", None),
        ("bytes */10", None),
        ("bytes 4-0/10", None),
        ("bytes 0-10/10", None),
        ("lines 0-4/10", None),
        ("bytes 0-4", None),
    ],
)
def test_content_range(value: str, part: Part | None) -> None:
    assert content_range([("content-range", value)]) == part
    assert content_range([("Content-Range", value)] * 2) is None
    if part:
        assert part.field.lower() == value.lower()


@pytest.mark.parametrize(
    ("condition", "headers", "holds"),
    [
        pytest.param(None, [], True, id="13.1.5-none"),
        pytest.param('"a"', [("ETag", '"a"')], True, id="same-tag"),
        pytest.param('"a"', [("ETag", '"b"')], False, id="another-tag"),
        pytest.param('"a"', [], False, id="no-tag"),
        pytest.param('W/"a"', [("ETag", 'W/"a"')], False, id="weak"),
        pytest.param('"a"', [("ETag", 'W/"a"')], False, id="weak-stored"),
        pytest.param(MODIFIED, [("Last-Modified", MODIFIED), ("Date", LATER)], True, id="same-date"),
        pytest.param(MODIFIED, [("Last-Modified", MODIFIED), ("Date", MODIFIED)], False, id="8.8.2.2-weak-date"),
        pytest.param(LATER, [("Last-Modified", MODIFIED), ("Date", LATER)], False, id="not-exactly-the-same"),
        pytest.param(MODIFIED, [("Date", LATER)], False, id="no-date"),
        pytest.param("nonsense", [("ETag", "nonsense")], False, id="nonsense"),
    ],
)
def test_if_range(condition: str | None, headers: Headers, holds: bool) -> None:
    assert if_range_holds([] if condition is None else [("If-Range", condition)], headers) is holds


def test_two_if_ranges_hold_never() -> None:
    assert not if_range_holds([("If-Range", '"a"')] * 2, [("ETag", '"a"')])


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ([("ETag", ' "a" ')], '"a"'),
        ([("ETag", 'W/"a"'), ("Last-Modified", MODIFIED), ("Date", LATER)], None),
        ([("Last-Modified", MODIFIED), ("Date", LATER)], MODIFIED),
        ([("Last-Modified", MODIFIED), ("Date", MODIFIED)], None),
        ([], None),
    ],
)
def test_strong_validators(headers: Headers, validator: str | None) -> None:
    assert strong_validator(headers) == validator


@pytest.mark.parametrize(
    ("part", "span"),
    [(Part(0, 4, 10), (5, 9)), (Part(3, 9, 10), (0, 2)), (Part(3, 4, 10), None)],
)
def test_what_completes_a_part(part: Part, span: Span | None) -> None:
    assert missing(part) == span


WHOLE = b"0123456789"
_parts = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: Part(min(ends), max(ends), 10))


@given(_parts, _parts)
def test_parts_that_touch_are_joined_and_others_are_not(one: Part, other: Part) -> None:
    bodies = [WHOLE[part.first : part.last + 1] for part in (one, other)]
    found = joined(one, bodies[0], other, bodies[1])
    if max(one.first, other.first) > min(one.last, other.last) + 1:
        assert found is None
    else:
        assert found is not None
        part, body = found
        assert (part.first, part.last) == (min(one.first, other.first), max(one.last, other.last))
        assert body == WHOLE[part.first : part.last + 1]


def test_parts_of_different_lengths_are_none_of_one_representation() -> None:
    assert joined(Part(0, 4, 10), b"01234", Part(5, 9, 11), b"56789") is None


def test_what_has_been_completed_is_a_whole_response() -> None:
    headers = [("Content-Range", "bytes 0-4/10"), ("Content-Length", "5"), ("A", "1")]
    assert completed(headers, Part(0, 9, 10), WHOLE) == (200, [("A", "1")])
    assert completed(headers, Part(2, 9, 10), WHOLE[2:]) == (206, [("A", "1"), ("Content-Range", "bytes 2-9/10")])
