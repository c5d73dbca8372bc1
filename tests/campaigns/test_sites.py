"""A short run of the campaign of sites."""

from pathlib import Path

from tests.campaigns.sites import run


async def test_a_short_run_sees_every_change_and_seldom_reads(tmp_path: Path) -> None:
    result = await run(tmp_path, seed=1, seconds=3.0, count=50, rate=300.0)
    assert result.seen
    assert 0 < result.read < result.asked / 2
