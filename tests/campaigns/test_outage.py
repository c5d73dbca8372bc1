"""The short form of the outage: a region that was down hears of every change when it is back."""

from pathlib import Path

from tests.campaigns.outage import measure


async def test_a_region_that_was_down_for_long_converges(tmp_path: Path) -> None:
    outcome = await measure(tmp_path, changes=1_500, sampled=10)
    assert (outcome.changes, outcome.read_before) == (1_500, 10)
    assert 0 < outcome.heard_after <= outcome.fresh_after
