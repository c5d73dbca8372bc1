"""A short form of the fault campaign, and the proof that its judgement can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.campaigns import judgement
from tests.campaigns.chaos import Options, report, run
from tests.campaigns.faults import LANES, schedule
from tests.campaigns.journal import Known, Sent
from tests.campaigns.origin import Effect
from tests.campaigns.points import Points
from tests.campaigns.traffic import numbers_of_others, own_number

SECONDS = 10.0
LEAST_ACKNOWLEDGED = 200
LEAST_KINDS = 8


@pytest.mark.timeout(180)
async def test_faults_of_many_kinds_break_nothing() -> None:
    result = await run(Options(seed=1, seconds=SECONDS))
    numbers = report(result)
    assert result.is_sound, numbers
    assert len(result.journal.acknowledged) >= LEAST_ACKNOWLEDGED, numbers
    assert len(result.journal.faults) >= LEAST_KINDS, numbers


def test_every_deliberate_break_still_finds_what_it_breaks() -> None:
    code = "from tests.campaigns import mutations; mutations.install(list(mutations.MUTATIONS))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def sent(number: int, at: float, acknowledged: float | None, path: str = "/items/a") -> Sent:
    return Sent(path, number, "w", "r", "PUT", at, acknowledged)


def effects(*numbers: int, path: str = "/items/a") -> list[Effect]:
    return [Effect(seq, 0.0, path, number, "Bearer w", "PUT", "k", "e") for seq, number in enumerate(numbers)]


WRITES = {("/items/a", write.number): write for write in (sent(1, 0, 1), sent(2, 2, None), sent(3, 4, 5))}
ACKNOWLEDGED = [write for write in WRITES.values() if write.acknowledged is not None]


@pytest.mark.parametrize("applied", [(1, 3), (1, 2, 3), (1, 3, 2), (2, 1, 3)])
def test_what_was_never_acknowledged_may_be_applied_at_any_time(applied: tuple[int, ...]) -> None:
    found = effects(*applied)
    assert not judgement.lost(ACKNOWLEDGED, found, set())
    assert not judgement.duplicated(found, set())
    assert not judgement.reordered(WRITES, found, set())
    assert not judgement.invented(WRITES, found)


def test_a_write_without_an_effect_is_lost_unless_its_end_was_told() -> None:
    assert len(judgement.lost(ACKNOWLEDGED, effects(1, 2), set())) == 1
    assert not judgement.lost(ACKNOWLEDGED, effects(1), {("/items/a", 3)})


def test_a_second_effect_is_a_duplicate_unless_the_path_allows_it() -> None:
    found = effects(1, 3, 3)
    assert len(judgement.duplicated(found, set())) == 1
    assert not judgement.duplicated(found, {"/items/a"})


def test_the_first_effects_have_the_order_of_acceptance() -> None:
    assert len(judgement.reordered(WRITES, effects(3, 1), set())) == 1
    assert not judgement.reordered(WRITES, effects(1, 3, 1), set())
    assert not judgement.reordered(WRITES, effects(3, 1), {("/items/a", 1)})


def test_writes_that_were_under_way_at_once_have_no_order() -> None:
    both = {("/items/a", 1): sent(1, 0, 3), ("/items/a", 2): sent(2, 2, 4)}
    assert not judgement.reordered(both, effects(2, 1), set())


def test_an_effect_that_nobody_sent_is_invented() -> None:
    assert len(judgement.invented(WRITES, effects(1, 9))) == 1


def test_attempts_of_a_write_have_one_key() -> None:
    assert len(judgement.rekeyed({("/items/a", 1): {"x", "y"}, ("/items/a", 2): {"x"}})) == 1


def test_a_resource_has_gone_back_when_its_last_effect_is_an_old_one() -> None:
    assert judgement.gone_back(effects(1, 2, 1)) == {"/items/a"}
    assert judgement.gone_back(effects(1, 2, 1, path="/shelves/s/a")) == {"/shelves/s/a", "/shelves/s"}
    assert not judgement.gone_back(effects(1, 1, 2))


@pytest.mark.parametrize(
    ("seen", "known", "expected"),
    [
        (5, Known(5), False),
        (6, Known(5), False),
        (4, Known(5), True),
        (4, Known(5, loose={4}), False),
        (None, Known(0), False),
        (None, Known(5), True),
        (None, Known(5, deletes={5}), False),
        (None, Known(5, deletes={6}), False),
        (None, Known(5, deletes={4}), True),
        (None, Known(5, loose={4}, deletes={4}), False),
    ],
)
def test_a_read_shows_what_was_acknowledged_or_newer(seen: int | None, known: Known, expected: bool) -> None:
    assert judgement.is_older(seen, known.floor, known) is expected


@pytest.mark.parametrize(
    ("cache_status", "expected"),
    [
        ("edge; hit; ttl=3", False),
        ("edge; hit; detail=dirty", False),
        ("edge; fwd=stale; detail=dirty", True),
        ("edge; hit; detail=behind-unreachable", True),
        ("edge; fwd=miss; detail=behind-unreachable", True),
        ("edge; fwd=miss; stored", False),
    ],
)
def test_only_an_answer_that_says_so_may_lack_a_write(cache_status: str, expected: bool) -> None:
    assert judgement.admits(cache_status) is expected


def test_whose_numbers_an_answer_shows() -> None:
    shelf = {"a-0": 3, "b-1": 4}
    assert list(numbers_of_others("/shelves/s0", "a", shelf)) == [("/shelves/s0/b-1", 4)]
    assert list(numbers_of_others("/pairs/a-0", "a", {"a": 3, "b": 4})) == [("/pairs/a-0", 4)]
    assert list(numbers_of_others("/items/a-0", None, {"n": 3})) == [("/items/a-0", 3)]
    assert own_number("/pairs/a-0", "a", {"b": 4}) is None


@pytest.mark.parametrize("lane", range(len(LANES)))
def test_a_seed_is_a_schedule_of_every_kind(lane: int) -> None:
    faults = schedule(7, lane, 100)
    assert faults == schedule(7, lane, 100) != schedule(8, lane, 100)
    assert {fault.kind for fault in faults[: len(LANES[lane])]} == set(LANES[lane])


def test_an_armed_point_is_passed_once() -> None:
    said: list[str] = []
    points = Points(said.append)
    points.obey("lose settle-reply")
    points.obey("lose accept-reply")
    assert [points.reach("settle-reply"), points.reach("settle-reply")] == [True, False]
    points.obey("disarm")
    assert not points.reach("accept-reply")
    assert said == ["lose settle-reply"]
