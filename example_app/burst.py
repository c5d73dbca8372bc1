"""A burst of writes from all regions at once, and the proof that none was lost or doubled."""

import asyncio
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from example_app.checks import Checks
from example_app.exchange import exchange
from example_app.ways import Demo

FIRST_ITEM = 11
ITEMS_PER_REGION = 5
POLL_SECONDS = 0.2
DRAIN_SECONDS = 60.0
SHOW_TRIES = 200
SHOW_POLL_SECONDS = 0.05

Bodies = Mapping[str, Sequence[str]]
"""The bodies written to each path, in order."""


@dataclass(slots=True)
class Burst:
    """Writes acknowledged by the edges and writes applied by the origin, and the seconds it took so far."""

    run: str
    acknowledged: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    applied: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    last_effect: int = 0
    seconds: float = 0.0

    @property
    def queued(self) -> int:
        """Return how many writes were acknowledged."""
        return sum(map(len, self.acknowledged.values()))

    @property
    def landed(self) -> int:
        """Return how many writes the origin has applied."""
        return sum(map(len, self.applied.values()))


async def burst(demo: Demo, writes: int, checks: Checks, progress: Callable[[Burst], None]) -> Burst:
    """Send `writes` from all regions at once and wait until the origin has them.

    `progress` is called with the state again and again; `checks` gets what was lost, doubled, out of order or
    not seen in another region.
    """
    paths = burst_paths(list(demo.edges))
    state = Burst(run=secrets.token_hex(4), last_effect=await _newest_effect(demo.origin))
    # What another region has stored before must not be what it shows afterwards.
    await asyncio.gather(*(exchange(_other(demo, region), "GET", path) for path, region in paths.items()))
    await _send_and_watch(demo, state, _send_all(demo, state, paths, writes, checks), progress)
    await asyncio.gather(*(_check_shown(demo, state, path, region, checks) for path, region in paths.items()))
    # Read once more, for a write that came a second time after everything had landed.
    await _read_effects(demo.origin, state)
    check_applied(state.acknowledged, state.applied, checks)
    return state


def burst_paths(regions: Sequence[str]) -> dict[str, str]:
    """Return the items that the burst writes, each with the one region that writes it."""
    return {
        f"/items/{FIRST_ITEM + index * ITEMS_PER_REGION + n}": region
        for index, region in enumerate(regions)
        for n in range(ITEMS_PER_REGION)
    }


def check_applied(acknowledged: Bodies, applied: Bodies, checks: Checks) -> None:
    """Note every path where the origin did not apply each acknowledged write once and in order."""
    for path, bodies in acknowledged.items():
        counts = Counter(applied.get(path, ()))
        lost = [body for body in bodies if not counts[body]]
        checks.expect(not lost, f"{path}: {len(lost)} acknowledged writes never reached the origin: {lost[:3]}")
        doubled = [body for body, count in counts.items() if count > 1]
        checks.expect(not doubled, f"{path}: {len(doubled)} writes were applied more than once: {doubled[:3]}")
        # Order is judged among the first applications, so that a doubled write is reported once.
        order = [body for body in dict.fromkeys(applied.get(path, ())) if body in set(bodies)]
        expected = [body for body in bodies if counts[body]]
        checks.expect(order == expected, f"{path}: the origin applied the writes in another order")


async def _send_and_watch(
    demo: Demo, state: Burst, sending: asyncio.Future[None], progress: Callable[[Burst], None]
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        while state.seconds < DRAIN_SECONDS:
            sent = sending.done()
            await _read_effects(demo.origin, state)
            state.seconds = loop.time() - started
            progress(state)
            if sent and state.landed >= state.queued:
                break
            await asyncio.sleep(POLL_SECONDS)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
    if not sending.cancelled():
        sending.result()


def _send_all(demo: Demo, state: Burst, paths: Mapping[str, str], writes: int, checks: Checks) -> asyncio.Future[None]:
    async def send(path: str, region: str, numbers: range) -> None:
        for number in numbers:
            body = json.dumps({"run": state.run, "region": region, "write": number})
            reply = await exchange(demo.edges[region], "PUT", path, body=body.encode())
            if checks.expect(reply.status == 202, f"a write of the burst in {region} got {reply.status}, not 202"):
                state.acknowledged[path].append(body)

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for index, (path, region) in enumerate(paths.items()):
                group.create_task(send(path, region, range(index, writes, len(paths))))

    return asyncio.create_task(send_all())


async def _newest_effect(origin: aiohttp.ClientSession) -> int:
    async with origin.get("/stats") as response:
        return int((await response.json())["effects"])


async def _read_effects(origin: aiohttp.ClientSession, state: Burst) -> None:
    while True:
        async with origin.get("/effects", params={"after": str(state.last_effect)}) as response:
            page = await response.json()
        for effect in page["effects"]:
            state.last_effect = effect["seq"]
            if state.run in effect["body"]:
                state.applied[effect["path"]].append(effect["body"])
        if len(page["effects"]) < page["limit"]:
            return


async def _check_shown(demo: Demo, state: Burst, path: str, region: str, checks: Checks) -> None:
    bodies = state.acknowledged.get(path)
    if not bodies:
        return
    expected, seen = bodies[-1].encode(), b""
    for _ in range(SHOW_TRIES):
        seen = (await exchange(_other(demo, region), "GET", path)).body
        if seen == expected:
            break
        await asyncio.sleep(SHOW_POLL_SECONDS)
    checks.expect(seen == expected, f"{path}: another region than {region} still shows {seen[:200]!r}")


def _other(demo: Demo, region: str) -> aiohttp.ClientSession:
    names = list(demo.edges)
    return demo.edges[names[(names.index(region) + 1) % len(names)]]
