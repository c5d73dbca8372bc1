"""How long a region needs that was down for an hour: `python -m tests.campaigns.outage` prints numbers.

While it is down, as many resources change as an hour of writes would change. Then its server is started again, with the
data of before, and the time is taken until it has heard of the last change and every reader there gets the new state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import msgspec

from aiohttp_regioncache.keys import Groups
from aiohttp_regioncache.store import entries, outbox
from aiohttp_regioncache.store.region import RegionStore
from tests.support import eventually
from tests.support.world import REGIONS, TOKYO, Edge, World

SECONDS = 3600
_AT_ONCE = 200


class Outcome(msgspec.Struct, frozen=True):
    """What was measured; seconds."""

    changes: int
    read_before: int
    heard_after: float
    fresh_after: float


async def measure(directory: Path, *, changes: int, sampled: int) -> Outcome:
    """Take the second region down, change `changes` resources, bring it back; `sampled` of them are read there."""
    async with World(directory) as world:
        here, there = await world.edge(home_region=REGIONS[0]), await world.edge(home_region=REGIONS[1])
        paths = [f"/items/{number}" for number in range(sampled)]
        for path in paths:
            world.origin.documents[path] = {"n": 0}
            await there.get(path)
        for path in paths:
            await eventually(partial(_is_hit, there, path))
        server = world.servers[REGIONS[1]]
        await server.stop()
        for path in paths:
            assert (await here.put(path, {"n": 1}, headers=TOKYO | {"Prefer": "wait=10"})).status == 200
        await _announce(here.cache.stores[REGIONS[0]], changes - sampled)
        began = time.monotonic()
        await server.start()
        source = here.cache.stores[REGIONS[0]]
        await eventually(lambda: _has_heard(source), within=120.0)
        heard = time.monotonic() - began
        await asyncio.gather(*(eventually(partial(_is_new, there, path), within=60.0) for path in paths))
        return Outcome(changes, sampled, heard, time.monotonic() - began)


async def _announce(store: RegionStore, count: int) -> None:
    """Change resources that nobody reads, as settled writes do."""
    groups, partition = Groups(), store.partitions[0]
    for start in range(0, count, _AT_ONCE):
        resources = [groups.resource("default", f"/others/{n}") for n in range(start, min(start + _AT_ONCE, count))]
        await asyncio.gather(
            *(
                entries.invalidate(
                    store, partition, (each.digest,), announce=outbox.announce(each.group, (each.digest,))
                )
                for each in resources
            )
        )


async def _is_hit(edge: Edge, path: str) -> bool:
    return "hit" in (await edge.get(path)).cache_status


async def _is_new(edge: Edge, path: str) -> bool:
    return bool(json.loads((await edge.get(path)).body)["n"] == 1)


async def _has_heard(source: RegionStore) -> bool:
    partition = source.partitions[0]
    cursor = await outbox.read_cursor(source, partition, REGIONS[1])
    _, left = await outbox.read_items(source, partition, cursor.id)
    return not left


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.outage", description=__doc__)
    parser.add_argument("--rate", type=int, default=20, help="changes per second of the hour (default 20)")
    parser.add_argument("--sampled", type=int, default=200, help="resources whose entries are read (default 200)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="regioncache-outage-") as directory:
        found = asyncio.run(measure(Path(directory), changes=options.rate * SECONDS, sampled=options.sampled))
    sys.stdout.write(
        f"{found.changes} resources changed during the outage\n"
        f"  the last change was heard of {found.heard_after:.2f} s after the server was started\n"
        f"  all {found.read_before} entries that are read there were new after {found.fresh_after:.2f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
