"""The fault campaign: `python -m tests.campaigns.chaos --seed 1 --seconds 300`. It ends with 1 when a check fails.

Three regions with two edge processes each, an origin that logs every effect, clients that write and read, and faults of
every kind on a schedule that follows from the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from aiohttp_regioncache.store.keyspace import Partition
from tests.campaigns import judgement
from tests.campaigns.edge import EdgeProcess, Plan
from tests.campaigns.faults import KINDS, LANES, Faults, schedule
from tests.campaigns.journal import Journal, Probe
from tests.campaigns.mutations import MUTATIONS
from tests.campaigns.origin import Origin
from tests.campaigns.places import Embedded, Place, Replicated, Standalone, command, url
from tests.campaigns.rules import kind_of
from tests.campaigns.traffic import Probes, Stage, is_dead, readers, writers
from tests.support import eventually
from tests.support.servers import free_port

REGIONS: Final[dict[str, Callable[[Path], Place]]] = {
    "ap-northeast-1": Standalone,
    "eu-west-1": Replicated,
    "sa-east-1": Embedded,
}
EDGES_IN_A_REGION: Final = 2
DRAINED_WITHIN: Final = 60.0
CONVERGED_WITHIN: Final = 30.0
_READS_AT_ONCE: Final = 16
_LANE_LENGTH: Final = 10_000
CHECKS: Final = (
    "lost", "duplicated", "reordered", "overlapping", "several keys", "invented", "accepted twice",
    "went back in time", "pending writes of others", "wrong answers", "not drained", "not converged",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is. `directory` keeps the logs; `faults` False leaves the faults out."""

    seed: int
    seconds: float
    plain: bool = False
    mutations: tuple[str, ...] = ()
    directory: Path | None = None
    faults: bool = True

    @property
    def command(self) -> str:
        """What repeats it."""
        extra = " --origin plain" if self.plain else ""
        extra += "".join(f" --mutate {name}" for name in self.mutations)
        return f"python -m tests.campaigns.chaos --seed {self.seed} --seconds {self.seconds:g}{extra}"


@dataclass(slots=True)
class Result:
    """What a run came to."""

    options: Options
    journal: Journal
    origin: Origin
    took: float

    @property
    def is_sound(self) -> bool:
        """Whether no check failed."""
        return not any(self.journal.findings.values())


class World:
    """Everything that runs: servers behind proxies, the origin, edges."""

    def __init__(self, options: Options, directory: Path) -> None:
        self.options = options
        self.origin = Origin(random.Random(f"{options.seed}/origin"), idempotent=not options.plain)
        self.places = {region: make(directory / region) for region, make in REGIONS.items()}
        self.edges: dict[str, list[EdgeProcess]] = {}
        self._directory = directory

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it all."""
        async with AsyncExitStack() as stack:
            for place in self.places.values():
                await stack.enter_async_context(place.running())
            names = {f"{region}-{number}": region for region in REGIONS for number in range(EDGES_IN_A_REGION)}
            origins = await self.origin.start(list(names))
            stack.push_async_callback(self.origin.close)
            regions = {region: url(place) for region, place in self.places.items()}
            plans = [
                Plan(
                    name=name,
                    port=free_port(),
                    origin=origins[name],
                    region=region,
                    regions={**regions, region: self.places[region].own_url},
                    durability=self.places[region].durability,
                    mutations=self.options.mutations,
                )
                for name, region in names.items()
            ]
            made = [EdgeProcess(plan, self._directory / f"{plan.name}.log") for plan in plans]
            self.edges = {region: [edge for edge in made if edge.plan.region == region] for region in REGIONS}
            for edge in made:
                stack.push_async_callback(edge.stop)
            await asyncio.gather(*(edge.start() for edge in made))
            yield


async def run(options: Options) -> Result:
    """Run a campaign and judge it."""
    with tempfile.TemporaryDirectory(prefix="regioncache-chaos-") as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        world = World(options, directory)
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=4)
        jar = aiohttp.DummyCookieJar()
        async with (
            world.running(),
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as session,
        ):
            stage = Stage(options.seed, world.edges, world.origin, session)
            await _perform(world, stage)
            await _drain(world, stage.journal)
            await _converge(stage)
            await _judge(options, stage)
        if options.directory is not None:
            _dump(directory, stage)
        return Result(options, stage.journal, world.origin, time.monotonic() - started)


def _dump(directory: Path, stage: Stage) -> None:
    """Keep what was sent and what the origin did, for who looks for a cause in the logs of the edges."""
    kept = {"sent": stage.journal.writes.values(), "effects": stage.origin.effects, "probes": stage.journal.convergence}
    for name, lines in kept.items():
        (directory / f"{name}.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, lines)))


async def _perform(world: World, stage: Stage) -> None:
    """Traffic and faults until the time is over; then everything is healed, and the clients come to their end."""
    faults = Faults(world.edges, list(world.places.values()), world.origin)
    async with asyncio.TaskGroup() as group:
        probes = Probes(stage, group)
        world.origin.on_effect = probes.sample
        for writer in writers(stage):
            group.create_task(writer.write())
            group.create_task(writer.read())
        for reader in readers(stage):
            group.create_task(reader.read())
        if world.options.faults:
            await _disturb(faults, world.options)
        else:
            await asyncio.sleep(world.options.seconds)
        await faults.heal()
        stage.end()
    stage.journal.faults = faults.counts


async def _disturb(faults: Faults, options: Options) -> None:
    async with asyncio.TaskGroup() as group:
        for lane in range(len(LANES)):
            group.create_task(faults.run(schedule(options.seed, lane, _LANE_LENGTH)))
        await asyncio.sleep(options.seconds)
        faults.is_over = True


async def _drain(world: World, journal: Journal) -> None:
    async def depths() -> dict[str, int]:
        return {name: await command(place, "ZCARD", Partition(name, 0).queue) for name, place in world.places.items()}

    async def is_drained() -> bool:
        return not any((await depths()).values())

    try:
        await eventually(is_drained, within=DRAINED_WITHIN)
    except TimeoutError:
        journal.found("not drained", [f"{name}: {depth} writes" for name, depth in (await depths()).items() if depth])


async def _converge(stage: Stage) -> None:
    """Wait until every edge shows what the origin has, of every resource."""
    slots = asyncio.Semaphore(_READS_AT_ONCE)
    deadline = time.monotonic() + CONVERGED_WITHIN
    paths = sorted({*stage.origin.documents, *stage.origin.applied})

    async def shows_the_same(edge: EdgeProcess, path: str) -> None:
        async with slots:
            while True:
                answer = await stage.ask(edge.url, "GET", path, None)
                stage.journal.counts["reads at the end"] += 1
                expected = stage.origin.documents.get(path)
                if answer.status == (404 if expected is None else 200) and answer.document == expected:
                    return
                if path in judgement.gone_back(stage.origin.effects):
                    stage.journal.counts["changed once more by an attempt that came late"] += 1
                    return
                if time.monotonic() > deadline:
                    seen = f"{answer.status} {answer.document} {answer.cache_status}"
                    stage.journal.found("not converged", [f"{path} at {edge.plan.name}: {seen}, not {expected}"])
                    return
                await asyncio.sleep(0.2)

    edges = [edge for some in stage.edges.values() for edge in some]
    await asyncio.gather(*(shows_the_same(edge, path) for path in paths for edge in edges))


async def _judge(options: Options, stage: Stage) -> None:
    journal, origin = stage.journal, stage.origin
    acknowledged, effects = journal.acknowledged, origin.effects
    once = [write for write in acknowledged if not kind_of(write.path).repeatable]
    forgiven = {(write.path, write.number) for write in once if await is_dead(stage, write)}
    allowed = {effect.path for effect in effects if options.plain and kind_of(effect.path).repeatable}
    journal.counts["ended with an unknown outcome"] = len(forgiven)
    journal.found("lost", judgement.lost(acknowledged, effects, forgiven))
    journal.found("duplicated", judgement.duplicated(effects, allowed))
    journal.found("reordered", judgement.reordered(journal.writes, effects, forgiven))
    journal.found("overlapping", () if options.plain else origin.overlaps)
    journal.found("several keys", judgement.rekeyed(origin.keys))
    journal.found("invented", judgement.invented(journal.writes, effects))
    applied = {(effect.path, effect.number) for effect in effects}
    names = [name for name, write in journal.writes.items() if write.acknowledged is None]
    journal.counts["unacknowledged"] = len(names)
    journal.counts["unacknowledged but applied"] = sum(name in applied for name in names)
    journal.counts["applied more than once"] = len(effects) - len(applied)


def report(result: Result) -> str:
    """The numbers of a run as text."""
    journal, origin, counts = result.journal, result.origin, result.journal.counts
    options, seconds = result.options, result.options.seconds
    acknowledged = len(journal.acknowledged)
    reads = counts["reads of own writes"] + counts["reads of others' writes"]
    kind = "plain" if options.plain else "idempotent"
    lines = [
        f"seed {options.seed}, {seconds:g} s, {kind} origin, mutations: {', '.join(options.mutations) or 'none'}",
        f"  writes acknowledged {acknowledged} ({acknowledged / seconds:.0f}/s); "
        + _of(counts, "unacknowledged", "unacknowledged but applied", "ended with an unknown outcome"),
        f"  reads {reads}, " + _of(counts, "reads of own writes", "reads that admit to lack some", "reads at the end"),
        f"  origin: {len(origin.effects)} effects, {counts['applied more than once']} of them again; "
        + _counted(origin.requests),
        "  faults: " + _counted(journal.faults),
        "  clients without an answer or refused: " + _counted(journal.failures),
        f"{_convergence(journal.convergence)}, {counts['probes given up']} given up",
        "  " + ", ".join(f"{check} {len(journal.findings.get(check, ()))}" for check in CHECKS),
        f"  took {result.took:.0f} s",
    ]
    for check, found in journal.findings.items():
        lines += [f"  {check}: {text}" for text in found[:5]]
    if not result.is_sound:
        lines.append(f"FAILED; to repeat it: {options.command}")
    return "\n".join(lines)


def total(results: Sequence[Result]) -> str:
    """The numbers of several runs together."""
    faults = sum((result.journal.faults for result in results), Counter[str]())
    rare = [kind for kind in KINDS if faults[kind] < 20]
    acknowledged = sum(len(result.journal.acknowledged) for result in results)
    convergence = [probe for result in results for probe in result.journal.convergence]
    reads = sum(
        result.journal.counts["reads of own writes"] + result.journal.counts["reads of others' writes"]
        for result in results
    )
    findings = Counter({check: sum(len(r.journal.findings.get(check, ())) for r in results) for check in CHECKS})
    failed = [str(result.options.seed) for result in results if not result.is_sound]
    return "\n".join(
        [
            f"total of {len(results)} runs: {acknowledged} writes acknowledged, {reads} reads",
            "  faults: " + _counted(faults),
            "  fewer than 20 times: " + (", ".join(rare) or "none"),
            _convergence(convergence),
            "  " + ", ".join(f"{check} {findings[check]}" for check in CHECKS),
            "  failed seeds: " + (", ".join(failed) or "none"),
        ]
    )


def _convergence(probes: Sequence[Probe]) -> str:
    seconds = [probe.seconds for probe in probes]
    p50, p99 = (judgement.quantile(seconds, share) * 1000 for share in (0.5, 0.99))
    return f"  until another region shows it: p50 {p50:.0f} ms, p99 {p99:.0f} ms of {len(seconds)} followed"


def _of(counts: Counter[str], *names: str) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in names)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main(arguments: list[str] | None = None) -> int:
    """Run the campaigns of the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.chaos", description=__doc__)
    parser.add_argument("--seed", "--seeds", type=_seeds, default=[1], dest="seeds", help="1, or several as 1-10")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults and traffic in each run (default 60)")
    parser.add_argument("--origin", choices=("idempotent", "plain"), default="idempotent")
    parser.add_argument("--mutate", choices=sorted(MUTATIONS), action="append", default=[], help="break the package so")
    parser.add_argument("--directory", type=Path, help="keep logs and data there")
    parser.add_argument("--without-faults", action="store_true", help="traffic only")
    chosen = parser.parse_args(arguments)
    results = []
    for seed in chosen.seeds:
        plain, directory = chosen.origin == "plain", chosen.directory and chosen.directory / str(seed)
        options = Options(seed, chosen.seconds, plain, tuple(chosen.mutate), directory, not chosen.without_faults)
        results.append(asyncio.run(run(options)))
        sys.stdout.write(report(results[-1]) + "\n")
        sys.stdout.flush()
    if len(results) > 1:
        sys.stdout.write(total(results) + "\n")
    return 0 if all(result.is_sound for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
