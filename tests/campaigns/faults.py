"""The faults of a campaign: a schedule that follows from the seed, and the hands that carry it out."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from tests.campaigns import origin as misbehaviour
from tests.campaigns import points
from tests.campaigns.edge import EdgeProcess
from tests.campaigns.origin import Origin
from tests.campaigns.places import Place, Replicated, command, heal
from tests.campaigns.rules import LEASE

BETWEEN_ITEMS: Final = "between-items"
_REACHED_WITHIN: Final = 4.0
"""Seconds that traffic gets to reach a point that is armed."""

EDGE_FAULTS: Final = (
    *(f"{action} {point}" for action in (points.KILL, points.STOP) for point in (*points.POINTS, BETWEEN_ITEMS)),
    f"{points.LOSE} {points.SETTLE_REPLY}",
    f"{points.LOSE} {points.ACCEPT_REPLY}",
)
SERVER_FAULTS: Final = (
    "server killed", "replica promoted", "script flush", "pub/sub dropped", "latency", "resets", "half-open",
)  # fmt: skip
ORIGIN_FAULTS: Final = tuple(
    f"origin {name}"
    for name in (
        misbehaviour.DOWN, misbehaviour.SLOW, misbehaviour.TOO_MANY, misbehaviour.BROKEN, misbehaviour.PARTIAL_BULK,
        misbehaviour.LOST_ANSWER,
    )
)  # fmt: skip
LANES: Final = (EDGE_FAULTS, EDGE_FAULTS, SERVER_FAULTS, ORIGIN_FAULTS)
"""Faults of different lanes may coincide; those of one come one after the other."""
_PAUSES: Final = ((0.2, 1.5), (0.2, 1.5), (1.0, 3.0), (1.0, 3.0))
"""Seconds between two faults, by lane."""
KINDS: Final = (*EDGE_FAULTS, *SERVER_FAULTS, *ORIGIN_FAULTS)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, the seconds before it, and what its details are drawn from."""

    kind: str
    pause: float
    seed: float


def schedule(seed: int, lane: int, length: int) -> list[Fault]:
    """The faults of a lane: in each round every kind once, in a random order."""
    rng = random.Random(f"{seed}/faults/{lane}")
    kinds: list[str] = []
    while len(kinds) < length:
        kinds += rng.sample(LANES[lane], len(LANES[lane]))
    return [Fault(kind, rng.uniform(*_PAUSES[lane]), rng.random()) for kind in kinds[:length]]


class Faults:
    """Carry out faults on edges, by region, the regions' places and the origin; `counts` those that happened."""

    def __init__(self, edges: Mapping[str, Sequence[EdgeProcess]], places: Sequence[Place], origin: Origin) -> None:
        self.counts: Counter[str] = Counter()
        self.is_over = False
        self._edges = [edge for some in edges.values() for edge in some]
        self._places = places
        self._origin = origin
        self._busy: set[str] = set()

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out the faults of a lane one after the other, until `is_over`; the last one to its end."""
        for fault in faults:
            await asyncio.sleep(fault.pause)
            if self.is_over:
                return
            if await self._carry_out(fault.kind, random.Random(fault.seed)):
                self.counts[fault.kind] += 1

    async def heal(self) -> None:
        """End everything that is still wrong."""
        self._origin.faults.clear()
        self._origin.between_items = None
        await self._origin.come_back()
        for place in self._places:
            await heal(place)
        for edge in self._edges:
            edge.tell("disarm")
            edge.signal(signal.SIGCONT)
            if not edge.is_running:
                await edge.start()

    async def _carry_out(self, kind: str, rng: random.Random) -> bool:
        if kind in EDGE_FAULTS:
            action, point = kind.split(" ")
            return await self._at_a_point(action, point, rng)
        if kind in ORIGIN_FAULTS:
            return await self._at_the_origin(kind.removeprefix("origin "), rng)
        return await self._at_a_server(kind, rng)

    # --- edges ---

    async def _at_a_point(self, action: str, point: str, rng: random.Random) -> bool:
        if point == BETWEEN_ITEMS:
            return await self._between_items(action, rng)
        free = [edge for edge in self._edges if edge.plan.name not in self._busy]
        edge = rng.choice(free)
        with _Claim(self._busy, edge.plan.name):
            reached = asyncio.Event()
            edge.reached = lambda _said: reached.set()
            edge.tell(f"{action} {point}")
            if not await _within(reached.wait(), _REACHED_WITHIN):
                edge.tell("disarm")
                return False
            if action != points.LOSE:
                await self._afterwards(edge, action, rng)
        return True

    async def _between_items(self, action: str, rng: random.Random) -> bool:
        struck: asyncio.Future[EdgeProcess] = asyncio.get_running_loop().create_future()
        by_name = {edge.plan.name: edge for edge in self._edges}

        async def strike(name: str) -> None:
            if name in self._busy or struck.done():
                return
            self._busy.add(name)
            edge = by_name[name]
            edge.signal(signal.SIGKILL if action == points.KILL else signal.SIGSTOP)
            struck.set_result(edge)

        self._origin.between_items = strike
        found = await _within(asyncio.shield(struck), _REACHED_WITHIN)
        if self._origin.between_items is strike:
            self._origin.between_items = None
        if not found:
            struck.cancel()
            return False
        edge = struck.result()
        try:
            await self._afterwards(edge, action, rng)
        finally:
            self._busy.discard(edge.plan.name)
        return True

    async def _afterwards(self, edge: EdgeProcess, action: str, rng: random.Random) -> None:
        """Start an edge again that was killed, or let one go on that stands still for longer than its lease."""
        if action == points.KILL:
            await edge.ended()
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            await edge.start()
        else:
            await asyncio.sleep(LEASE + rng.uniform(0.5, 2.0))
            edge.signal(signal.SIGCONT)

    # --- servers ---

    async def _at_a_server(self, kind: str, rng: random.Random) -> bool:
        is_promotion = kind == "replica promoted"
        crashing = [place for place in self._places if isinstance(place, Replicated) == is_promotion]
        deeds: dict[str, Callable[[Place, random.Random], Awaitable[None]]] = {
            "script flush": _flush_scripts,
            "pub/sub dropped": _drop_subscriptions,
            "latency": _slow_down,
            "resets": _reset,
            "half-open": _half_open,
        }
        try:
            if deed := deeds.get(kind):
                await deed(rng.choice(self._places), rng)
            else:
                await rng.choice(crashing).crash(rng)
        except (OSError, RedisError):  # a server that an edge owns is down when that edge has been killed
            return False
        return True

    # --- origin ---

    async def _at_the_origin(self, fault: str, rng: random.Random) -> bool:
        met = self._origin.met[fault]
        if fault == misbehaviour.DOWN:
            await self._origin.go_down()
        else:
            self._origin.faults[fault] = rng.uniform(0.2, 0.8)
        await asyncio.sleep(rng.uniform(1.0, 3.0))
        if fault == misbehaviour.DOWN:
            await self._origin.come_back()
            return True
        self._origin.faults.pop(fault)
        return self._origin.met[fault] > met


class _Claim:
    """Keep other lanes from an edge."""

    def __init__(self, busy: set[str], name: str) -> None:
        self._busy = busy
        self._name = name

    def __enter__(self) -> None:
        self._busy.add(self._name)

    def __exit__(self, *_: object) -> None:
        self._busy.discard(self._name)


async def _flush_scripts(place: Place, _rng: random.Random) -> None:
    await command(place, "SCRIPT", "FLUSH")


async def _drop_subscriptions(place: Place, rng: random.Random) -> None:
    """Silence the subscriptions for a while, then break them; or only break them."""
    if rng.random() < 0.7:
        place.link.deafen_subscribers()
        await asyncio.sleep(rng.uniform(1.0, 4.0))
    await place.link.drop_subscribers()


async def _slow_down(place: Place, rng: random.Random) -> None:
    place.link.delay = rng.uniform(0.01, 0.2)
    await asyncio.sleep(rng.uniform(1.0, 3.0))
    place.link.delay = 0.0


async def _reset(place: Place, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        await place.link.drop_connections()
        await asyncio.sleep(rng.uniform(0.0, 0.4))


async def _half_open(place: Place, rng: random.Random) -> None:
    """Hold everything back; what was sent meanwhile arrives late or never."""
    place.link.blackhole()
    await asyncio.sleep(rng.uniform(0.5, 4.0))
    if rng.random() < 0.5:
        await place.link.drop_connections()
    await place.link.accept()


async def _within(happening: Awaitable[object], seconds: float) -> bool:
    try:
        await asyncio.wait_for(happening, seconds)
    except TimeoutError:
        return False
    return True
