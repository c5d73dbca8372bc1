"""The proof that a burst lost and doubled nothing must notice when one was."""

import pytest

from example_app.burst import burst_paths, check_applied
from example_app.checks import Checks

ACKNOWLEDGED = {"/items/1": ["a", "b", "c"], "/items/2": ["d"]}


@pytest.mark.parametrize(
    ("applied", "failures"),
    [
        ({"/items/1": ["a", "b", "c"], "/items/2": ["d"]}, []),
        ({"/items/1": ["a", "c"], "/items/2": ["d"]}, ["never reached"]),
        ({"/items/1": ["a", "b", "c"]}, ["never reached"]),
        ({"/items/1": ["a", "b", "b", "c"], "/items/2": ["d"]}, ["more than once"]),
        ({"/items/1": ["b", "a", "c"], "/items/2": ["d"]}, ["another order"]),
        (
            {"/items/1": ["c", "a", "a"], "/items/2": ["d"]},
            ["never reached", "more than once", "another order"],
        ),
        ({"/items/1": ["a", "b", "c", "unacknowledged"], "/items/2": ["d"]}, []),
    ],
)
def test_every_acknowledged_write_counts_once_in_order(applied: dict[str, list[str]], failures: list[str]) -> None:
    checks = Checks()
    check_applied(ACKNOWLEDGED, applied, checks)
    assert len(checks.failures) == len(failures)
    assert all(part in failure for part, failure in zip(failures, checks.failures, strict=True))


def test_no_item_has_two_writers() -> None:
    paths = burst_paths(["a", "b", "c"])
    assert len(paths) == 15
    assert sorted(paths.values()) == ["a"] * 5 + ["b"] * 5 + ["c"] * 5
