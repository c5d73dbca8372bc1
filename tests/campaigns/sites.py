"""Many sites on many edges: what configuration costs, and how soon a change is seen everywhere.

`python -m tests.campaigns.sites --seed 1 --seconds 60`: 1,000 sites, a Zipf load on several directories in two regions,
a change published now and then in either. It prints reads made and asked, and how long changes took; exit status 1 when
reads are more than 5 % or the 99th percentile of a change is above a second.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from aiohttp_regioncache.settings import Sites
from aiohttp_regioncache.site import Site
from aiohttp_regioncache.sites.directory import UNKNOWN, Directory
from aiohttp_regioncache.sites.store import put_site
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.sites.tools import Regions, site
from tests.store.tools import SAO_PAULO, TOKYO, opened
from tests.support.servers import ValkeyServer

MOST_READS: Final = 0.05
"""Share of the questions that may go to a region."""
MOST_SECONDS: Final = 1.0
"""The 99th percentile of the time until every edge has seen a change."""
_EDGES: Final = 4
_POLL_SECONDS: Final = 0.002


class Result(NamedTuple):
    """What a run came to."""

    asked: int
    read: int
    seen: list[float]

    @property
    def share(self) -> float:
        """Reads of all questions."""
        return self.read / max(1, self.asked)


class Zipf:
    """Draw numbers below `count`, the n-th with a weight of 1 / n."""

    def __init__(self, count: int, chance: random.Random) -> None:
        self._until = list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))
        self._chance = chance

    def draw(self) -> int:
        """Draw one."""
        return bisect.bisect(self._until, self._chance.random() * self._until[-1])


class Edges:
    """The directories of some edges: those of even numbers stand beside the first region."""

    def __init__(self, regions: Sequence[Regions], settings: Sites) -> None:
        self.regions = regions
        self.directories = [
            Directory(each.stores if number % 2 == 0 else each.stores[::-1], settings)
            for number, each in enumerate(regions)
        ]

    async def see(self, host: str, revision: int, began: float) -> float:
        """Wait until every edge goes by a revision; gives the seconds since `began`."""
        for directory in self.directories:
            while True:
                known: Any = directory.known(host)
                known = await directory.find(host) if known is UNKNOWN else known
                if isinstance(known, Site) and known.revision >= revision:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def running(folder: Path, settings: Sites) -> AsyncIterator[Edges]:
    """Two regions on servers of their own, with couriers, and edges that have connections of their own."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ValkeyServer(folder / name)) for name in (TOKYO, SAO_PAULO)]
        regions = []
        for _ in range(_EDGES):
            stores: list[RegionStore] = []
            for server, name in zip(servers, (TOKYO, SAO_PAULO), strict=True):
                stores.append(await stack.enter_async_context(opened(server.url, name)))
            regions.append(Regions((servers[0], servers[1]), (stores[0], stores[1])))
        await regions[0].register()
        for store in regions[0].stores:
            courier: Courier = regions[0].courier(store)
            courier.start()
            stack.push_async_callback(courier.stop)
        edges = Edges(regions, settings)
        yield edges
        for directory in edges.directories:
            await directory.drain(5)


async def run(folder: Path, *, seed: int, seconds: float, count: int = 1_000, rate: float = 500.0) -> Result:
    """Load every edge with `rate` requests a second for some seconds, and change a site every second."""
    chance = random.Random(seed)
    async with running(folder, Sites(enabled=True)) as edges:
        sites = [await put_site([edges.regions[0].first], site(f"s{n}.example", id=f"s{n}")) for n in range(count)]
        deadline = time.monotonic() + seconds
        loads = [asyncio.ensure_future(_load(each, Zipf(count, chance), deadline, rate)) for each in edges.directories]
        seen = await _change(edges, sites, chance, deadline)
        await asyncio.gather(*loads)
        return Result(sum(each.asked for each in edges.directories), sum(each.read for each in edges.directories), seen)


async def _load(directory: Directory, zipf: Zipf, deadline: float, rate: float) -> None:
    began, number = time.monotonic(), 0
    while time.monotonic() < deadline:
        number += 1
        host = f"s{zipf.draw()}.example"
        if directory.known(host) is UNKNOWN:
            await directory.find(host)
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))


async def _change(edges: Edges, sites: list[Site], chance: random.Random, deadline: float) -> list[float]:
    """Change a site every second, in either region; say how long each change took to be seen everywhere."""
    seen = []
    while time.monotonic() < deadline:
        number = chance.randrange(len(sites))
        began = time.monotonic()
        region = chance.choice(edges.regions[0].stores)
        sites[number] = await put_site([region], msgspec.structs.replace(sites[number], epoch=sites[number].epoch + 1))
        seen.append(await edges.see(sites[number].domain, sites[number].revision, began))
        await asyncio.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
    return seen


def percentile(values: Sequence[float], share: float) -> float:
    """A percentile of some values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sites", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second of each edge")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(
            run(
                Path(folder), seed=arguments.seed, seconds=arguments.seconds, count=arguments.sites, rate=arguments.rate
            )
        )
    p50, p99 = percentile(result.seen, 0.5), percentile(result.seen, 0.99)
    sys.stdout.write(
        f"{result.asked} asked, {result.read} read: {100 * result.share:.2f} %\n"
        f"{len(result.seen)} changes, seen by {_EDGES} edges of 2 regions: "
        f"p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms\n"
    )
    return 0 if result.share <= MOST_READS and p99 <= MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
