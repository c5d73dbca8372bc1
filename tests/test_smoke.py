"""The main job once through: a miss, a hit, a write behind, its fold, its arrival, the other region."""

import json
from pathlib import Path

from tests.support import eventually
from tests.support.world import SAO_PAULO, TOKYO, one_edge


async def test_a_write_behind_is_seen_at_once_by_its_writer_and_later_by_all(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        for place in (SAO_PAULO, TOKYO):
            assert "fwd=miss" in (await edge.get("/items/1", headers=place)).cache_status

            async def is_hit(place: dict[str, str] = place) -> bool:
                return "hit" in (await edge.get("/items/1", headers=place)).cache_status

            await eventually(is_hit)
        world.origin.gate.clear()
        written = await edge.put("/items/1", {"n": 2}, headers=SAO_PAULO)
        assert written.status == 202
        seen = await edge.get("/items/1", headers=SAO_PAULO)
        assert json.loads(seen.body) == {"n": 2}
        assert "detail=dirty" in seen.cache_status
        assert json.loads((await edge.get("/items/1", headers=TOKYO)).body) == {"n": 1}
        world.origin.gate.set()

        async def tokyo_has_it() -> bool:
            return bool(json.loads((await edge.get("/items/1", headers=TOKYO)).body) == {"n": 2})

        await eventually(tokyo_has_it)
        assert world.origin.documents["/items/1"] == {"n": 2}
