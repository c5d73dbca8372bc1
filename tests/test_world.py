"""The simulated day of the world: the same by its seed, right where it can be worked out by hand."""

from pathlib import Path

import msgspec
import pytest

from aiohttp_regioncache.regions import Position, known_regions
from benchmarks.world.__main__ import main, make_parser, plan_of
from benchmarks.world.catalogue import LIFETIMES, Catalogue, catalogue
from benchmarks.world.cost import (
    Core,
    Entry,
    Measured,
    Played,
    Prices,
    RedisCore,
    Service,
    Wire,
    cached,
    copied,
    edge_seconds,
    load,
    report,
)
from benchmarks.world.day import Day, Plan, Request
from benchmarks.world.footprint import measure
from benchmarks.world.places import REGIONS, Place, choices, detour, from_user, round_trip, users
from benchmarks.world.tally import Tally

SMALL = Plan(events=8_000, seconds=7_200.0, warm_up=600.0, objects=2_000, rate=20.0)
FRANKFURT = Place("DE", "EU", known_regions()["eu-central-1"].position, 1.0)
ONE = Catalogue(1, [1.0], [1.0], [1.0], [60.0], [1000], 1.0)
PAIR = Plan(regions=("ap-northeast-1", "eu-central-1"), warm_up=0.0)


def play(plan: Plan) -> Tally:
    return Day(plan).run()


def test_the_same_seed_gives_the_same_day() -> None:
    found = [play(SMALL), play(SMALL), play(msgspec.structs.replace(SMALL, seed=2))]
    assert found[0].continents() == found[1].continents() != found[2].continents()
    assert found[0].whole() == found[1].whole()


def test_every_share_is_one_and_regions_nearby_answer_sooner() -> None:
    plans = [Plan(regions=REGIONS[:count], events=8_000, seconds=7_200.0, objects=500, rate=20.0) for count in (1, 10)]
    alone, many = (play(plan).continents() for plan in plans)
    for found in (alone, many):
        assert all(0 <= each.hit_ratio <= 1 and each.answered == 1 for each in found.values())
        assert sum(each.share for name, each in found.items() if name != "world") == pytest.approx(1)
    assert many["world"].read_ms[0] < alone["world"].read_ms[0] < alone["world"].read_far_ms[0]
    assert many["world"].write_ms[0] < many["world"].write_far_ms[0] / 2


def test_writes_converge_even_after_an_outage() -> None:
    plan = Plan(start=43_000.0, seconds=1_800.0, outage=300.0, events=20_000, rate=20.0, objects=500, warm_up=600.0)
    tally = play(plan)
    whole, world = tally.whole(), tally.continents()["world"]
    assert 0 < whole.convergence_s[0] < 2 < whole.convergence_s[1] < 310
    assert 0 < whole.spread_s[1] < 1  # what the origin has answered is everywhere at once
    assert world.answered_far < 0.9 < world.answered <= 1
    assert whole.depth[1] > 1


def test_a_day_worked_out_by_hand() -> None:
    def request(at: float, *, writes: bool = False) -> Request:
        return Request(at, 0, 0, writes, 10.0, 1)

    # Frankfurt and Tokyo are 223 ms apart; the user's access takes 10.
    asked = [request(0.0), request(0.1), request(1.0), request(2.0, writes=True), request(2.2), request(2.3)]
    tally = Day(PAIR, places=[FRANKFURT], items=ONE).run(asked)
    answers = tally.of("EU")
    miss, joined, hit = 10 + 223 + 30, 5 + 253 - 105 + 10, 10.5
    assert list(answers.near) == pytest.approx([miss, joined, hit, hit, miss])
    assert list(answers.far) == pytest.approx([10 + 223 + 30] * 5)
    assert list(answers.acknowledged) == pytest.approx([11])
    assert list(answers.acknowledged_far) == pytest.approx([10 + 223 + 40])
    assert (answers.reads, answers.hits) == (5, 2)
    whole = tally.whole()
    landed = 0.005 + 0.223 + 0.040
    assert whole.convergence_s[0] == pytest.approx(landed + 0.005 + 0.223 / 2)
    assert (whole.fetches, whole.fetched_bytes, whole.invalidations) == (2, 2000, 1)


def test_the_writes_of_one_object_go_one_after_the_other() -> None:
    asked = [Request(at, 0, 0, True, 10.0, 1) for at in (0.0, 0.001)]
    whole = Day(PAIR, places=[FRANKFURT], items=ONE).run(asked).whole()
    assert whole.convergence_s[1] == pytest.approx(0.005 + 2 * 0.263 + 0.005 + 0.223 / 2 - 0.001)


def test_what_is_measured_is_used_and_the_rest_goes_by_distance() -> None:
    assert round_trip("eu-central-1", "ap-northeast-1") == round_trip("ap-northeast-1", "eu-central-1") == 223
    assert 1.5 < detour() < 2
    assert 15 < round_trip("ap-northeast-1", "ap-southeast-6") - round_trip("ap-northeast-1", "ap-southeast-2") < 80
    assert from_user(FRANKFURT, "eu-central-1") == 0
    assert len(REGIONS) == len(set(REGIONS)) == 30
    assert choices(REGIONS, [FRANKFURT, Place("JP", "AS", Position(35.7, 139.7), 1.0)]) == [
        "eu-central-1",
        "ap-northeast-1",
    ]


def test_places_and_objects_stand_for_all() -> None:
    assert 4_500 < sum(place.millions for place in users()) < 5_800  # of 5,500 million (ITU)
    tokyo = next(place for place in users() if place.country == "JP")
    assert tokyo.awake(12.5 * 3600) > 0.95 > 0.4 > tokyo.awake(19 * 3600)  # 21:50 and 04:20 by the sun
    found = catalogue(10_000, 10, 1)
    assert len(found) == len(found.lifetimes) == len(found.sizes) == len(found.writes) > 1_000
    assert set(found.lifetimes) == {seconds for seconds, _ in LIFETIMES}
    counted = sum(
        (this - before) * chance
        for this, before, chance in zip(found.reads, [0.0, *found.reads], found.chances, strict=False)
    )
    assert counted == pytest.approx(sum(rank**-0.9 for rank in range(1, 10_001)))


def test_the_command_line_makes_a_plan_and_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "day.json"
    assert main(["--regions", "3", "--events", "500", "--seconds", "600", "--warm-up", "0", "--json", str(file)]) == 0
    assert "| world " in capsys.readouterr().out
    assert b'"ap-northeast-1"' in file.read_bytes()
    assert plan_of(make_parser().parse_args(["--rate", "5"])).rate == 5


def test_the_cost_of_copies_and_of_the_cache_worked_out_by_hand() -> None:
    played = Played(
        rate=1_000, regions=10, hit_ratio=0.5, write_share=0.0, sum_of_peaks=2.0, peak=1.0, fetched_bytes=1_000,
        read_p95_ms=(1, 2), write_p95_ms=(1, 2),
    )  # fmt: skip
    core = Core(memory_hits=100, redis_hits=50, misses=10, writes=10, drained=10)
    measured = Measured(core, RedisCore(1_000, 100, 100), Entry(500, 100), Wire(0, 100, 50, 0), (played,))
    service = Service(entries_millions=1, body=524, memory_share=0.5, tls=1.0)
    ours, theirs = (cached(measured, service, Prices(), played), copied(service, Prices(), played))
    assert edge_seconds(core, played, 0.5) == pytest.approx(0.25 / 100 + 0.25 / 50 + 0.5 / 10)
    assert ours.edge_cores == 230  # of 2,000 requests at the peaks, at half of what a core does
    assert ours.redis_gib == pytest.approx(10 * 1_024e6 / 2**30)
    assert ours.traffic_gib == pytest.approx(0.9 * 500 * 1_000 * 30 * 86_400 / 2**30)
    assert (ours.app_cores, theirs.app_cores) == (5, 20)
    assert (theirs.database_cores, theirs.database_gib, theirs.traffic_gib) == (40, 2_000, 0)


def test_the_documented_tables_are_those_of_the_measured_figures() -> None:
    documented = (Path(__file__).parent.parent / "docs" / "cost.md").read_text("utf-8")
    for line in report(load(), Service(), Prices()).splitlines():
        assert line.removesuffix(" on the mean") in documented


async def test_a_footprint_is_measured() -> None:
    found = await measure(count=1_000, body=1_024)
    assert 1_024 < found.record < found.entry < 2_500
    assert found.state < 500
    assert 1_024 + 200 < found.fill_wire < 3_000
    assert 100 < found.invalidation_wire_together < found.invalidation_wire < 1_500
