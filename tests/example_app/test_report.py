"""The demo's text."""

from example_app import report
from example_app.checks import Checks
from example_app.measure import Row
from example_app.world import User

JAPAN = User("JP", "Japan", "ap-northeast-1", 224.0)
BRAZIL = User("BR", "Brazil", "sa-east-1", 685.0)


def test_the_table_is_aligned() -> None:
    rows = [Row(JAPAN, 10.04, 12, 9, 11, 8), Row(BRAZIL, 299.96, 310, 15, 305, 16)]
    text = report.table(rows)
    assert text.endswith(report.LEGEND)
    lines = text.removesuffix(report.LEGEND).splitlines()
    assert len(lines) == 6
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[-2].split()[-6:] == ["310.0", "15.0", "20.0x", "305.0", "16.0", "19.1x"]


def test_failures_are_listed_one_a_line() -> None:
    checks = Checks()
    assert checks.expect(True, "unused")
    assert report.verdict(checks) == "All 1 checks passed."
    assert not checks.expect(False, "BR: no hit")
    for _ in range(2):
        assert not checks.expect(False, "a write got 500")
    assert report.verdict(checks).splitlines() == [
        "FAILED: BR: no hit",
        "FAILED 2 times: a write got 500",
        "3 checks failed, 1 passed.",
    ]
