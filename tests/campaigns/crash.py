"""The crash campaign: SIGKILL in the middle of a burst of writes; `python -m tests.campaigns.crash` prints numbers."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from redis.asyncio import Redis

from aiohttp_regioncache.store.embedded import unix_socket_in
from aiohttp_regioncache.store.keyspace import Partition
from tests.campaigns.edge import REGION, EdgeProcess
from tests.campaigns.ledger import Damage, Ledger, damage
from tests.support import eventually
from tests.support.origin import Origin
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer, free_port

WITHIN = 120.0
BACK_OFF_SECONDS = 0.05
ONE_WAY_SECONDS = 0.02
REFUSALS_PER_OUTAGE = 20
TIMEOUT = aiohttp.ClientTimeout(total=30)
_IMPATIENT_EVERY = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """How many writes go to how many resources, how many at once, and how often something is killed meanwhile."""

    writes: int
    resources: int
    kills: int
    concurrency: int = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a campaign came to; `attempts` are writes that the origin received, `applied` those it applied."""

    plan: Plan
    ledger: Ledger
    damage: Damage
    attempts: int
    applied: int
    overlaps: int
    seconds: float


@dataclass(slots=True)
class Stage:
    """What runs during a campaign."""

    origin: Origin
    edge: EdgeProcess
    redis: Redis
    ledger: Ledger


class Writer:
    """The one writer of a resource.

    A patient one repeats a write, with its idempotency key, until it is acknowledged; another goes on to the next.
    """

    def __init__(self, session: aiohttp.ClientSession, path: str, ledger: Ledger, *, patient: bool) -> None:
        self._session = session
        self._path = path
        self._ledger = ledger
        self._patient = patient

    async def write(self, number: int) -> None:
        """Write `number` into the resource; once it is acknowledged, read it back."""
        while not await self._attempt(number):
            await asyncio.sleep(BACK_OFF_SECONDS)  # what a client does that is told to come back later
            if not self._patient:
                return
        self._ledger.acknowledged[self._path].append(number)
        await self._read_back(number)

    async def _attempt(self, number: int) -> bool:
        headers = {"Idempotency-Key": f"{self._path} {number}"}
        try:
            async with self._session.put(self._path, json={"n": number}, headers=headers) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            self._ledger.failures["no answer"] += 1
            return False
        if answer.status != 202:
            self._ledger.failures[str(answer.status)] += 1
            if answer.status != 503 or "Retry-After" not in answer.headers:
                self._ledger.wrong.append(f"PUT {self._path}: {answer.status}, Retry-After or 202 expected")
        return answer.status == 202

    async def _read_back(self, number: int) -> None:
        try:
            async with self._session.get(self._path) as answer:
                document = await answer.json() if answer.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError):
            return
        if answer.status not in (200, 404):
            self._ledger.wrong.append(f"GET {self._path}: {answer.status}")
        status = answer.headers.get("Cache-Status", "")
        self._ledger.reads += 1
        # Without its region an edge gives the origin's answer, and says so.
        if document.get("n", -1) < number and "detail=behind-unreachable" not in status:
            self._ledger.unmarked_old_reads.append(f"{self._path} {number}: {answer.status} {document} {status}")


async def kill_the_edge(plan: Plan, directory: Path) -> Outcome:
    """SIGKILL the edge, with the embedded server that it owns, and start it again."""
    async with _origin() as (origin, origin_url):
        edge = EdgeProcess(free_port(), origin_url, f"embedded://{directory}")

        async def kill(_ledger: Ledger) -> None:
            await edge.kill()
            await edge.start()

        await edge.start()
        async with Redis.from_url(f"unix://{unix_socket_in(directory)}") as redis:
            return await _run(plan, Stage(origin, edge, redis, Ledger()), kill)


async def kill_the_region(plan: Plan, directory: Path) -> Outcome:
    """SIGKILL the region's server, which syncs each write to disk; leave it away until writes were refused."""
    persistent = {"appendonly": "yes", "appendfsync": "always"}
    async with _origin() as (origin, origin_url), ValkeyServer(directory, config=persistent) as server:
        edge = EdgeProcess(free_port(), origin_url, server.url)

        async def kill(ledger: Ledger) -> None:
            refused = ledger.failures["503"] + REFUSALS_PER_OUTAGE
            await server.kill()
            await eventually(lambda: ledger.failures["503"] >= refused, within=WITHIN)
            await server.start()

        await edge.start()
        async with server.client() as redis:
            return await _run(plan, Stage(origin, edge, redis, Ledger()), kill)


async def _run(plan: Plan, stage: Stage, kill: Callable[[Ledger], Awaitable[None]]) -> Outcome:
    started = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_write_everything(plan, stage))
            group.create_task(_kill_again_and_again(plan, stage.ledger, kill))
        await eventually(lambda: _is_drained(stage.redis), within=WITHIN)
    finally:
        await stage.edge.stop()
    origin = stage.origin
    applied: dict[str, list[int]] = defaultdict(list)
    for effect in origin.effects:
        applied[effect.path].append(json.loads(effect.body)["n"])
    return Outcome(
        plan=plan,
        ledger=stage.ledger,
        damage=damage(stage.ledger.acknowledged, applied),
        attempts=sum(request.method == "PUT" for request in origin.requests),
        applied=len(origin.effects),
        overlaps=origin.overlaps,
        seconds=time.monotonic() - started,
    )


async def _write_everything(plan: Plan, stage: Stage) -> None:
    slots = asyncio.Semaphore(plan.concurrency)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(stage.edge.url, connector=connector, timeout=TIMEOUT) as session:

        async def write(index: int) -> None:
            writer = Writer(session, f"/items/{index}", stage.ledger, patient=index % _IMPATIENT_EVERY > 0)
            for number in range(index, plan.writes, plan.resources):
                async with slots:
                    await writer.write(number)

        async with asyncio.TaskGroup() as group:
            for index in range(plan.resources):
                group.create_task(write(index))


async def _kill_again_and_again(plan: Plan, ledger: Ledger, kill: Callable[[Ledger], Awaitable[None]]) -> None:
    for number in range(plan.kills):
        # Half of the writes at least are still to come, so that the last kill finds a burst as well.
        enough = plan.writes * (number + 1) // (2 * (plan.kills + 1))
        await _acknowledged(ledger, enough)
        await kill(ledger)


async def _acknowledged(ledger: Ledger, enough: int) -> None:
    await eventually(lambda: ledger.total >= enough, within=WITHIN)


async def _is_drained(redis: Redis) -> bool:
    return not await redis.zcard(Partition(REGION, 0).queue)


@asynccontextmanager
async def _origin() -> AsyncIterator[tuple[Origin, str]]:
    """An origin with some distance before it: a kill finds writes that are applied but not settled."""
    async with (
        Origin() as origin,
        TcpProxy("127.0.0.1", int(origin.url.rpartition(":")[2]), delay=ONE_WAY_SECONDS) as far,
    ):
        yield origin, f"http://127.0.0.1:{far.port}"


def report(title: str, outcome: Outcome) -> str:
    """Return the numbers of a campaign as text."""
    plan, ledger, harm = outcome.plan, outcome.ledger, outcome.damage
    failures = ", ".join(f"{count} times {kind}" for kind, count in sorted(ledger.failures.items())) or "none"
    return f"""\
{title}, {plan.kills} times during {plan.writes} writes to {plan.resources} resources, {plan.concurrency} at once:
  acknowledged {ledger.total}; attempts of clients that failed: {failures}
  the origin received {outcome.attempts} writes and applied {outcome.applied}
  lost {len(harm.lost)}, doubled {len(harm.doubled)}, out of order {len(harm.disordered)}
  sent while an earlier write of the resource was in flight: {outcome.overlaps}
  reads of {ledger.reads} that lacked the reader's own write without a word: {len(ledger.unmarked_old_reads)}
  other wrong answers: {len(ledger.wrong)}
  drained after {outcome.seconds:.1f} s"""


def is_sound(outcome: Outcome) -> bool:
    """Tell whether a campaign broke nothing."""
    harm, ledger = outcome.damage, outcome.ledger
    broken = (*harm.lost, *harm.doubled, *harm.disordered, *ledger.unmarked_old_reads, *ledger.wrong)
    return not broken and not outcome.overlaps


def main(arguments: list[str] | None = None) -> int:
    """Run both campaigns in full; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.crash", description=__doc__)
    parser.add_argument("--writes", type=int, default=2000, help="writes of each campaign (default 2000)")
    parser.add_argument("--resources", type=int, default=200, help="resources they go to (default 200)")
    parser.add_argument("--kills", type=int, default=5, help="how often something is killed (default 5)")
    options = parser.parse_args(arguments)
    plan = Plan(options.writes, options.resources, options.kills)
    campaigns = {"The edge killed": kill_the_edge, "The region's server killed": kill_the_region}
    sound = True
    for title, campaign in campaigns.items():
        with tempfile.TemporaryDirectory(prefix="regioncache-crash-") as directory:
            outcome = asyncio.run(campaign(plan, Path(directory)))
        sys.stdout.write(f"{report(title, outcome)}\n")
        sound = sound and is_sound(outcome)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
