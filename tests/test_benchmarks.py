"""The benchmarks measure what they say: a tiny round with their own load, its report, and what the load sees."""

import json
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import requests
from benchmarks.__main__ import main
from benchmarks.bodies import KIB, body_at
from benchmarks.compare import compare
from benchmarks.load import Asked, Load, Measured
from benchmarks.processes import module
from benchmarks.report import Report
from benchmarks.stage import Stage, until_right

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll"), reason="the load and the figures of processes are Linux's"
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def _asked(port: int, *plan: Asked) -> Measured:
    load = Load(port, [plan * 10], connections=2)
    try:
        return load.closed(once=True)
    finally:
        load.close()


def test_a_round_has_the_rows_that_were_asked_for(stage: Stage, tmp_path: Path) -> None:
    found = compare(
        stage, lambda _: None, seconds=0.1, rounds=2, connections=4, only=["plug-in, memory, 1 KiB"], with_wrk=False
    )
    assert [row.name for row in found.rows] == ["bare, 1 KiB", "plug-in, memory, 1 KiB"]
    for row in found.rows:
        assert row.wrong == {}
        assert row.rate > 0
        assert 0 < row.p50 <= row.p99
        assert row.ratio_low <= row.ratio <= row.ratio_high
        assert row.cpu > 0
        assert row.rss > 10 * KIB
    report = Report({"Python": "3"})
    report.add("compare", found)
    files = report.write(tmp_path / "out")
    assert "| plug-in, memory, 1 KiB" in files[0].read_text("utf-8")
    assert json.loads(files[1].read_text("utf-8"))["parts"]["compare"]["rows"][1]["baseline"] == "bare, 1 KiB"


def test_the_load_sees_what_is_wrong(stage: Stage) -> None:
    port = stage.start(lambda port: module("benchmarks.servers.bare", port)).port
    path = f"/{KIB}/1"
    good = requests.get(path)
    until_right(port, [good])
    assert _asked(port, good).wrong == {}
    other = body_at(f"/{KIB}/2")
    assert _asked(port, Asked(good.request, body=other)).wrong == {"body": 20}
    assert _asked(port, requests.get(path, marks=(b"; hit",))).wrong == {"no ; hit": 20}
    assert _asked(port, requests.get(path, absent=(b"Server: ",))).wrong == {"Server: ": 20}
    assert _asked(port, Asked(good.request.replace(b"/1 ", b"/none ", 1))).wrong == {"HTTP/1.1 404 Not Found": 20}


def test_a_load_keeps_to_its_rate(stage: Stage) -> None:
    load = Load(stage.origin.port, requests.gets(KIB), connections=8)
    try:
        measured = load.paced(500, 0.5, "even")
    finally:
        load.close()
    assert not measured.wrong
    assert measured.count == pytest.approx(250, abs=1)
    assert 0 < measured.p50 <= measured.p99 <= measured.p999


def test_a_part_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "'nothing' is no part" in capsys.readouterr().err
