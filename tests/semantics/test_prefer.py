import pytest

from aiohttp_regioncache.semantics.prefer import NO_PREFERENCES, Preferences, parse_prefer


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], NO_PREFERENCES, id="none"),
        pytest.param(["respond-async, wait=10"], Preferences(10, True), id="7240-4.1-4.3"),
        pytest.param(["Respond-Async", "WAIT=10"], Preferences(10, True), id="2-lines-any-case"),
        pytest.param(["return=minimal"], Preferences(return_="minimal"), id="4.2-minimal"),
        pytest.param(['return = "representation"; x=y'], Preferences(return_="representation"), id="2-quoted"),
        pytest.param(["wait=5, wait=9"], Preferences(5), id="2-first-counts"),
        pytest.param(['foo="wait=5, respond-async"'], Preferences(), id="2-quoted-is-no-preference"),
        pytest.param(["wait=-5"], Preferences(0), id="negative"),
        pytest.param(["wait=99999999999999"], Preferences(2**31), id="clamped"),
        pytest.param(["wait=abc", "wait"], Preferences(), id="no-number"),
        pytest.param(["wait="], Preferences(), id="2-empty-is-no-value"),
        pytest.param(["return=everything"], Preferences(), id="4.2-unknown"),
        pytest.param([";;;, =, wait=5;;"], Preferences(5), id="debris"),
    ],
)
def test_parse_prefer(lines: list[str], expected: Preferences) -> None:
    assert parse_prefer([("Prefer", line) for line in lines]) == expected
