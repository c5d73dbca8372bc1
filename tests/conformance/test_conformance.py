"""Every case of the tables, played once through one edge."""

import re
from collections import Counter

import pytest

from .case import Case
from .cases import CASES
from .play import play_all


@pytest.fixture(scope="module")
def faults(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """What was wrong with each case that is asked for."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    asked = {item.callspec.params["case"] for item in items if hasattr(item, "callspec")}
    return play_all([case for case in CASES if case in asked])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, faults: dict[str, list[str]]) -> None:
    if faults[case.id]:
        pytest.fail("\n".join((case.clause, *faults[case.id])), pytrace=False)


def test_every_case_has_a_name_of_its_own_and_a_clause() -> None:
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []
    assert [case.id for case in CASES if not re.fullmatch(r"[a-z0-9.-]+", case.id)] == []
    assert [case.id for case in CASES if not re.fullmatch(r"RFC \d{4} \d+(\.\d+)*", case.clause)] == []
