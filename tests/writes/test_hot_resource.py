"""A resource that is written and read all the time: its readers never wait for the origin, nor see an older state."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aiohttp_regioncache import Cache, Rule
from tests.reads.apps import until_hit
from tests.support import eventually
from tests.support.world import Edge, one_edge

PATH = "/items/1"
MERGE = {"Content-Type": "application/merge-patch+json"}
LANDED = 64
WRITES = 6 * LANDED


class Hammer:
    """Two writers of rising numbers, and readers: `forwarded` counts the reads that went to the origin, and why."""

    def __init__(self, edge: Edge, who: dict[str, str]) -> None:
        self._edge = edge
        self._who = who
        self.acknowledged = {"a": 0, "b": 0}
        self.reads = 0
        self.forwarded: Counter[str] = Counter()
        self.went_back: list[tuple[dict[str, int], dict[str, int]]] = []

    @property
    def written(self) -> int:
        """How many writes have been acknowledged."""
        return sum(self.acknowledged.values())

    async def run(self) -> None:
        """Hammer until the landed writes would have overflowed their list several times."""
        await asyncio.gather(self._write("a"), self._write("b"), self._read(), self._read())

    async def _write(self, name: str) -> None:
        while self.written < WRITES:
            number = self.acknowledged[name] + 1
            data = json.dumps({name: number})
            assert (await self._edge.ask("PATCH", PATH, data=data, headers=MERGE | self._who)).status == 202
            self.acknowledged[name] = number

    async def _read(self) -> None:
        newest = dict(self.acknowledged)
        while self.written < WRITES:
            newest = {name: max(number, self.acknowledged[name]) for name, number in newest.items()}
            answer = await self._edge.get(PATH, headers=self._who)
            shown: dict[str, int] = json.loads(answer.body)
            if any(shown[name] < number for name, number in newest.items()):
                self.went_back.append((newest, shown))
            newest, self.reads = {name: shown[name] for name in newest}, self.reads + 1
            if "fwd=" in answer.cache_status:
                self.forwarded[answer.cache_status.partition("; ")[2]] += 1


@pytest.mark.parametrize(
    ("who", "rule", "control"),
    [
        pytest.param({}, {}, "max-age=60", id="anonymous"),
        pytest.param({"Authorization": "Bearer ann"}, {"per_user": True}, "max-age=60", id="per-user"),
        pytest.param({"Authorization": "Bearer ann"}, {}, "public, max-age=60", id="public"),
    ],
)
async def test_a_hot_resource_falls_neither_cold_nor_back_in_time(
    tmp_path: Path, who: dict[str, str], rule: dict[str, Any], control: str
) -> None:
    rules = [Rule("/items/{id}", write="behind", **rule)]
    async with one_edge(tmp_path, rules=rules, cache=Cache(landed_count=LANDED)) as (world, edge):
        world.origin.cache_control = control
        world.origin.documents[PATH] = {"a": 0, "b": 0}
        await edge.get(PATH, headers=who)
        await until_hit(edge, PATH, headers=who)
        hammer = Hammer(edge, who)
        await hammer.run()
        assert hammer.went_back == []
        assert not hammer.forwarded, hammer.reads
        await eventually(lambda: world.origin.documents[PATH] == hammer.acknowledged)
        # The base was renewed in the background, and far from once per write.
        assert world.origin.reads[PATH] < hammer.written / 2
