"""Short forms of the crash campaign, and the proof that its judgement can fail."""

from pathlib import Path

import pytest

from tests.campaigns.crash import Outcome, Plan, is_sound, kill_the_edge, kill_the_region, report
from tests.campaigns.ledger import Damage, damage

SHORT = Plan(writes=400, resources=40, kills=1, concurrency=32)
LEAST_ACKNOWLEDGED = SHORT.writes * 3 // 4
ACKNOWLEDGED = {"/a": [1, 3], "/b": [1]}


def expect_sound(outcome: Outcome) -> None:
    numbers = report("Killed", outcome)
    assert is_sound(outcome), f"{numbers}\n{outcome.damage}\n{outcome.ledger}"
    assert outcome.ledger.total >= LEAST_ACKNOWLEDGED, numbers
    assert outcome.ledger.failures, f"nothing was killed in the middle\n{numbers}"


async def test_a_killed_edge_loses_and_doubles_nothing(tmp_path: Path) -> None:
    expect_sound(await kill_the_edge(SHORT, tmp_path / "region"))


async def test_a_killed_region_loses_and_doubles_nothing(tmp_path: Path) -> None:
    outcome = await kill_the_region(SHORT, tmp_path / "region")
    expect_sound(outcome)
    assert set(outcome.ledger.failures) == {"503"}


@pytest.mark.parametrize(
    ("applied", "expected"),
    [
        ({"/a": [1, 3], "/b": [1]}, Damage((), (), ())),
        ({"/a": [1, 2, 3], "/b": [1], "/c": [1]}, Damage((), (), ())),
        ({"/a": [1], "/b": [1]}, Damage(("/a 3",), (), ())),
        ({"/a": [1, 3]}, Damage(("/b 1",), (), ())),
        ({"/a": [1, 3, 3], "/b": [1]}, Damage((), ("/a 3",), ())),
        ({"/a": [1, 2, 3, 2], "/b": [1]}, Damage((), ("/a 2",), ())),
        ({"/a": [3, 1], "/b": [1]}, Damage((), (), ("/a 1",))),
        ({"/a": [1, 3, 2], "/b": [1]}, Damage((), (), ("/a 2",))),
    ],
)
def test_the_judgement(applied: dict[str, list[int]], expected: Damage) -> None:
    assert damage(ACKNOWLEDGED, applied) == expected
