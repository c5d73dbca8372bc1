"""A day of the world, event by event: who asks for what, where, and what the regions know of it."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from .catalogue import ZIPF, Catalogue, catalogue
from .places import REGIONS, Crowd, Place, choices, from_user, index_at, round_trip, users
from .tally import STEP, Answers, Tally

_SLOT: Final = 60.0
"""Seconds for which the load of places is taken to stay."""
_DRAWS: Final = 8192
_LUMP: Final = 10
"""Writes that may be sent at once: those of one object in many come in lumps, which the whole load does not have."""
NEVER: Final = -math.inf
NOON: Final = 43_200.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated. Times are in seconds, those that end in `_ms` in milliseconds.

    `rate`: requests per second of the whole world on the mean of the day. `events`: how many of them are played, about;
    of so many objects fewer. `write_share`: the part of the requests that write. `connects`: the part that come over
    a new connection, with two more round trips (TCP, TLS 1.3). `access_ms`, `access_spread`: the access network of a
    user, log-normal. `hit_ms`, `accept_ms`: of an edge; `origin_read_ms`, `origin_write_ms`: of the origin. `drain`:
    writes that a region sends per second at most, `concurrency`: requests of it at once. `wake_ms`: until the sync loop
    has claimed a write; `deliver_ms`: until an invalidation has left the outbox. `unchanged`: the part of
    what has gone stale that the origin finds unchanged, and answers without a body. `outage`: seconds from noon in UTC
    on in which the origin answers nobody. `warm_up`: seconds before the day, which are not counted.
    """

    regions: Sequence[str] = REGIONS[:10]
    origin: str = REGIONS[0]
    seed: int = 1
    seconds: float = 86_400.0
    start: float = 0.0
    warm_up: float = 7_200.0
    rate: float = 1_000.0
    events: int = 1_500_000
    objects: int = 100_000
    zipf: float = ZIPF
    write_share: float = 0.02
    connects: float = 0.1
    access_ms: float = 12.0
    access_spread: float = 0.6
    hit_ms: float = 0.5
    accept_ms: float = 1.0
    origin_read_ms: float = 30.0
    origin_write_ms: float = 40.0
    drain: float = 4_000.0
    concurrency: int = 64
    wake_ms: float = 5.0
    deliver_ms: float = 5.0
    unchanged: float = 0.5
    outage: float = 0.0

    @property
    def every(self) -> int:
        """One in how many objects is played."""
        return max(1, round(self.rate * self.seconds / max(1, self.events)))

    def is_down(self, at: float) -> bool:
        """Whether the origin answers nobody."""
        return NOON <= at < NOON + self.outage


class Request(msgspec.Struct, frozen=True):
    """A request on its way: `access` are the milliseconds of its user's access network, `trips` how often it waits.

    `counts`: it is one of those that stand for the whole load.
    """

    at: float
    place: int
    item: int
    writes: bool
    access: float
    trips: int
    counts: bool = True


class Load:
    """Draw requests: by places awake, by popularity."""

    def __init__(self, plan: Plan, items: Catalogue, places: Sequence[Place]) -> None:
        self._plan = plan
        self._items = items
        self._crowd = Crowd(places)
        self._draw = random.Random(f"load {plan.seed}")
        self._access = [plan.access_ms * math.exp(self._draw.gauss(0, plan.access_spread)) for _ in range(_DRAWS)]
        self._playing = (1 - plan.write_share) * items.playing + plan.write_share

    def __iter__(self) -> Iterator[Request]:
        """Every request in the order of time."""
        plan = self._plan
        begin, end = plan.start - plan.warm_up, plan.start + plan.seconds
        while begin < end:
            length = min(_SLOT, end - begin)
            yield from self._slot(begin, length)
            begin += length

    def _slot(self, begin: float, length: float) -> Iterator[Request]:
        """The requests of some seconds."""
        plan, items, draw, access = self._plan, self._items, self._draw, self._access
        chance, writing = draw.random, plan.write_share / self._playing
        weights = self._crowd.weights(begin + length / 2)
        where = list(itertools.accumulate(weights))
        expected = plan.rate / items.every * length * where[-1] / self._crowd.mean * self._playing
        for at in sorted(begin + length * chance() for _ in range(_poisson(draw, expected))):
            place, writes = index_at(where, chance()), chance() < writing
            item = index_at(items.writes if writes else items.reads, chance())
            counts = writes or chance() < items.chances[item]
            trips = 3 if chance() < plan.connects else 1
            yield Request(at, place, item, writes, access[int(chance() * _DRAWS)], trips, counts)


def _poisson(draw: random.Random, mean: float) -> int:
    """A number of arrivals; from thirty on by the normal distribution."""
    if mean > 30:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    count, product, limit = 0, draw.random(), math.exp(-mean)
    while product > limit:
        count, product = count + 1, product * draw.random()
    return count


class Held:
    """What the regions hold: of each region and object when it was asked for, arrives, and goes stale."""

    def __init__(self, regions: int, items: int) -> None:
        self._items = items
        self.asked = [NEVER] * (regions * items)
        self.arrives = [NEVER] * (regions * items)
        self.stale = [NEVER] * (regions * items)
        self.is_stored = bytearray(regions * items)

    def at(self, region: int, item: int) -> int:
        """The index of an object in a region."""
        return region * self._items + item

    def invalidate(self, index: int) -> None:
        """Let what is held, and what is under way, serve nobody who comes from now on (C1, C2)."""
        self.arrives[index] = self.stale[index] = NEVER
        self.is_stored[index] = 0


class Queue:
    """The writes that wait in a region: sent in order for each object, at the pace of its loop."""

    def __init__(self, plan: Plan, region: str, every: int) -> None:
        self.trip = round_trip(region, plan.origin) / 1000
        self._took = self.trip + plan.origin_write_ms / 1000
        # One object in `every` is played: the loop has so much less time for each of its writes.
        self._pace = every / min(plan.drain, plan.concurrency / self._took)
        self._free = NEVER
        self._landed: dict[int, float] = {}
        self._plan = plan
        self._depth = 0
        self._area = 0.0
        self._seen = plan.start - plan.warm_up

    def accept(self, item: int, at: float) -> float:
        """Take a write; gives when the origin's answer to it is back."""
        ready = at + self._plan.wake_ms / 1000
        if self._plan.is_down(ready + self.trip / 2):
            ready = NOON + self._plan.outage
        self._free = max(self._free, ready) + self._pace
        turn = max(ready, self._free - _LUMP * self._pace)
        start = max(turn, self._landed.get(item, NEVER))
        self._landed[item] = start + self._took
        self._change(at, 1)
        return start + self._took

    def settle(self, at: float) -> None:
        """Let go of a write."""
        self._change(at, -1)

    def look(self, at: float) -> float:
        """How many writes waited since the last look, on the mean."""
        self._change(at, 0)
        area, self._area = self._area, 0.0
        return area / STEP

    def _change(self, at: float, by: int) -> None:
        self._area += self._depth * max(0.0, at - self._seen)
        self._seen = max(self._seen, at)
        self._depth += by


Event = tuple[float, int, int, int, int]
"""When it happens, a number, the region that hears of a write (-1: the write is settled), the object, its region."""


class Day:
    """Play a plan; `run` gives what came of it."""

    def __init__(self, plan: Plan, *, places: Sequence[Place] | None = None, items: Catalogue | None = None) -> None:
        self._plan = plan
        self._places = users() if places is None else places
        self._items = items or catalogue(plan.objects, plan.every, plan.seed, zipf=plan.zipf)
        index = {name: number for number, name in enumerate(plan.regions)}
        chosen = choices(plan.regions, self._places)
        self._region = [index[name] for name in chosen]
        self._near = [from_user(place, name) for place, name in zip(self._places, chosen, strict=True)]
        self._far = [from_user(place, plan.origin) for place in self._places]
        self._miss = [round_trip(name, plan.origin) + plan.origin_read_ms for name in plan.regions]
        self._between = [[round_trip(one, other) / 2000 for other in plan.regions] for one in plan.regions]
        self._held = Held(len(plan.regions), len(self._items))
        self._queues = [Queue(plan, name, self._items.every) for name in plan.regions]
        self._events: list[Event] = []
        self._numbers = itertools.count()
        self._tally = Tally(plan.regions, self._items.every, plan.start)

    def run(self, requests: Iterator[Request] | Sequence[Request] | None = None) -> Tally:
        """Play the day, or some requests in the order of time."""
        tally = self._tally
        next_look = self._plan.start - self._plan.warm_up + STEP
        for request in Load(self._plan, self._items, self._places) if requests is None else requests:
            while next_look <= request.at:
                self._happen(next_look)
                tally.look(next_look, [queue.look(next_look) for queue in self._queues])
                next_look += STEP
            self._happen(request.at)
            answers = tally.of(self._places[request.place].continent)
            counts = request.counts and request.at >= self._plan.start
            if request.writes:
                self._write(request, answers if counts else None)
            else:
                self._read(request, answers if counts else None)
            if counts:
                tally.arrived(self._region[request.place], request.at)
        self._happen(math.inf)
        return tally

    # --- reads ---

    def _read(self, request: Request, answers: Answers | None) -> None:
        plan, held, item = self._plan, self._held, request.item
        region = self._region[request.place]
        near = (self._near[request.place] + request.access) * request.trips
        at = request.at + near / 2000
        index = held.at(region, item)
        is_hit, is_answered, waits = True, True, plan.hit_ms
        if held.arrives[index] > at:  # joins who asks already
            waits, is_hit = (held.arrives[index] - at) * 1000, False
        elif held.stale[index] <= at:
            waits, is_hit, is_answered = self._fetch(region, index, item, at, answers)
        if answers is None:
            return
        answers.read(is_hit=is_hit, is_answered=is_answered)
        if is_answered:
            answers.near.append(near + waits)
        if not plan.is_down(request.at):
            answers.far.append((self._far[request.place] + request.access) * request.trips + plan.origin_read_ms)
        else:
            answers.failed_far += 1

    def _fetch(
        self, region: int, index: int, item: int, at: float, answers: Answers | None
    ) -> tuple[float, bool, bool]:
        """Ask the origin; the milliseconds that takes, whether what was stored is served, whether anything is."""
        plan, held, waits = self._plan, self._held, self._miss[region]
        if plan.is_down(at + waits / 2000):
            return plan.hit_ms, bool(held.is_stored[index]), bool(held.is_stored[index])
        lifetime = self._items.lifetimes[item]
        if answers is not None:
            self._tally.fetched(self._items.sizes[item] * (1 - plan.unchanged * held.is_stored[index]))
        if lifetime > 0:
            held.arrives[index] = at + waits / 1000
            held.stale[index] = at + waits / 1000 + lifetime
            held.is_stored[index] = 1
        return waits, False, True

    # --- writes ---

    def _write(self, request: Request, answers: Answers | None) -> None:
        plan, region = self._plan, self._region[request.place]
        near = (self._near[request.place] + request.access) * request.trips
        accepted = request.at + near / 2000
        landed = self._queues[region].accept(request.item, accepted)
        last = landed
        self._later(landed, -1, request.item, region)
        for other, half in enumerate(self._between[region]):
            heard = landed if other == region else landed + plan.deliver_ms / 1000 + half
            last = max(last, heard)
            self._later(heard, other, request.item, region)
        if answers is None:
            return
        self._tally.wrote(last - accepted, max(0.0, last - landed), len(plan.regions) - 1)
        answers.acknowledged.append(near + plan.accept_ms)
        if not plan.is_down(request.at):
            far = (self._far[request.place] + request.access) * request.trips
            answers.acknowledged_far.append(far + plan.origin_write_ms)
        else:
            answers.failed_far += 1

    def _later(self, at: float, region: int, item: int, source: int) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), region, item, source))

    def _happen(self, until: float) -> None:
        """Let everything happen up to a time."""
        events = self._events
        while events and events[0][0] <= until:
            at, _, region, item, source = heapq.heappop(events)
            if region < 0:
                self._queues[source].settle(at)
            else:
                self._held.invalidate(self._held.at(region, item))
