"""Nothing private is ever shared (S1, W6): two users at one URL, in every way that the dimensions allow."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.privacy.play import play_all
from tests.privacy.scenarios import COOKIE, HEURISTIC, MAX_AGE, RULES, Scenario, every_scenario

pytestmark = pytest.mark.timeout(180)  # the first of them waits until all are played

Verdicts = dict[Scenario, list[str]]

SCENARIOS = every_scenario()
_UNDECIDED = pytest.mark.xfail(
    reason="where a rule names a header as the identity, cookies do not count as credentials", strict=False
)


def _is_undecided(scenario: Scenario) -> bool:
    rule = RULES.get(scenario.rule)
    named = rule is not None and rule.principal == "header:X-User"
    return named and COOKIE in scenario.pair and scenario.says in (MAX_AGE, HEURISTIC)


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """What was found in each of the scenarios that were chosen, all played on one stage."""
    chosen: list[Any] = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "verdicts" in item.fixturenames
    ]
    return asyncio.run(play_all(tmp_path_factory.mktemp("stage"), chosen))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_two_users(scenario: Scenario, verdicts: Verdicts, request: pytest.FixtureRequest) -> None:
    if _is_undecided(scenario):
        request.applymarker(_UNDECIDED)
    assert not verdicts[scenario], "\n".join([str(scenario), *verdicts[scenario]])


def test_there_are_many_scenarios() -> None:
    assert len(set(SCENARIOS)) == len(SCENARIOS) >= 500
    assert min(Counter(scenario.kind for scenario in SCENARIOS).values()) >= 50
