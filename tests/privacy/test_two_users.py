"""Nothing private is ever shared (S1, W6): two users at one URL, in every way that the dimensions allow."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.privacy.findings import Verdict
from tests.privacy.play import play_all
from tests.privacy.scenarios import Scenario, When, every_scenario

pytestmark = pytest.mark.timeout(180)  # the first of them waits until all are played

Verdicts = dict[Scenario, Verdict]

SCENARIOS = every_scenario()


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """What was found in each of the scenarios that were chosen, all played on one stage."""
    chosen: list[Any] = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_two_users
    ]
    return asyncio.run(play_all(tmp_path_factory.mktemp("stage"), chosen))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_two_users(scenario: Scenario, verdicts: Verdicts) -> None:
    wrong = verdicts[scenario].wrong
    assert not wrong, "\n".join([str(scenario), *wrong])


def test_most_of_those_who_ask_together_share_one_answer(verdicts: Verdicts) -> None:
    """Not each of them: one may come too late for the first answer and too early for what is stored."""
    together = [found.is_shared for scenario, found in verdicts.items() if scenario.when is When.TOGETHER]
    assert together.count(False) <= together.count(True) / 2


def test_there_are_many_scenarios() -> None:
    assert len(set(SCENARIOS)) == len(SCENARIOS) >= 500
    assert min(Counter(scenario.kind for scenario in SCENARIOS).values()) >= 50
