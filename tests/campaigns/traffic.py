"""The clients of a campaign: writers that read back, readers that own nothing, and probes of convergence."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp

from tests.campaigns.edge import EdgeProcess
from tests.campaigns.journal import Journal, Known, Probe, Sent
from tests.campaigns.judgement import admits, is_older
from tests.campaigns.origin import SIGNATURE, Effect, Origin
from tests.campaigns.rules import (
    BATCHED,
    DIRECT,
    ITEMS,
    LOGS,
    MERGE,
    NUMBER_HEADER,
    ONCE,
    PAIRS,
    SHELF_COUNT,
    SHELVES,
    Kind,
    kind_of,
    shelf_of,
)

HOST: Final = "service.test"
"""What the clients call the service, whichever edge they ask."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=4)
_REPEATS: Final = 0.1
"""Share of acknowledged writes that are sent once more, with the same key."""
_IMPATIENT: Final = 0.2
"""Share of writes that are not repeated after a failure."""
_HASTE: Final = 0.4
"""Share of writes that follow the one before at once: so a queue holds several of a resource."""
_FRESH_AFTER: Final = (5, 15)
"""Writes to a resource before its writer goes on to another."""
_READS_OWN: Final = 0.6
_HOPE_SECONDS: Final = 30.0
_PROBE_WITHIN: Final = 30.0
_WRITERS_IN_A_REGION: Final = (
    *(ITEMS,) * 5,
    *(BATCHED,) * 5,
    *(SHELVES,) * 2,
    *(PAIRS,) * 2,
    *(ONCE,) * 2,
    LOGS,
    *(DIRECT,) * 2,
)
READERS_IN_A_REGION: Final = 3


class Pace(NamedTuple):
    """Mean seconds between two writes of a writer, two reads of its own, two reads of a reader."""

    write: float = 0.6
    own: float = 0.6
    other: float = 0.12


class Answer(NamedTuple):
    """An answer as far as a client looks at it; status 0 when there was none."""

    status: int
    cache_status: str
    document: dict[str, Any] | None
    is_origins: bool = False
    failure: str = ""


class Stage:
    """What all clients share."""

    def __init__(
        self, seed: int, edges: Mapping[str, Sequence[EdgeProcess]], origin: Origin, session: aiohttp.ClientSession
    ) -> None:
        self.seed = seed
        self.edges = edges
        self.origin = origin
        self.session = session
        self.journal = Journal()
        self.pace = Pace()
        self.is_over = False
        self._over_since = math.inf
        self.paths: dict[str, list[str]] = defaultdict(list)
        """Resources that are being written, by writer."""

    def end(self) -> None:
        """Have every client come to its end."""
        self.is_over = True
        self._over_since = time.monotonic()

    @property
    def is_hopeless(self) -> bool:
        """Whether writes are still refused, long after the last fault."""
        hopeless = time.monotonic() > self._over_since + _HOPE_SECONDS
        if hopeless:
            self.journal.findings["wrong answers"] = ["writes are still refused after the last fault"]
        return hopeless

    async def ask(
        self,
        url: str,
        method: str,
        path: str,
        principal: str | None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send one request to an edge. Never raises for what becomes of it."""
        own = {"Host": HOST, **(headers or {})}
        if principal is not None:
            own["Authorization"] = f"Bearer {principal}"
        try:
            async with self.session.request(method, url + path, headers=own, data=body or None) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(0, "", None, failure=type(error).__name__)
        is_json = answer.content_type == "application/json" and answer.status in (200, 202)
        document = json.loads(text) if is_json else None
        return Answer(answer.status, answer.headers.get("Cache-Status", ""), document, SIGNATURE in answer.headers)


def numbers_of_others(path: str, principal: str | None, document: dict[str, Any] | None) -> Iterator[tuple[str, int]]:
    """Path and number of the writes that an answer shows, but for the reader's own."""
    if document is None:
        return
    if len(path.split("/")) == 3 and path.startswith("/shelves/"):
        for name, number in document.items():
            if not name.startswith(f"{principal}-"):
                yield f"{path}/{name}", number
    elif kind_of(path) is PAIRS:
        yield from ((path, number) for name, number in document.items() if name != principal)
    else:
        yield path, document["n"]


def own_number(path: str, principal: str, document: dict[str, Any] | None) -> int | None:
    """The number of the principal's newest write to `path` that an answer to a read of it shows."""
    if document is None:
        return None
    found: int | None = document.get(principal if kind_of(path) is PAIRS else "n")
    return found


class Writer:
    """The writer of a resource at a time: it repeats most writes until they are acknowledged, and reads its own."""

    def __init__(self, stage: Stage, region: str, name: str, kind: Kind, step: tuple[int, int], family: str) -> None:
        self._stage = stage
        self._region = region
        self._name = name
        self._kind = kind
        self._first, self._step = step
        self._family = family
        self._rng = random.Random(f"{stage.seed}/writer/{name}")
        self._reads_rng = random.Random(f"{stage.seed}/reads/{name}")
        self._path = ""

    async def write(self) -> None:
        """Write until the campaign is over."""
        for generation in itertools.count():
            number = self._first
            self._path = self._fresh_path(generation)
            self._stage.paths[self._name] = [self._path]
            for _ in range(self._rng.randint(*_FRESH_AFTER)):
                await self._write(number)
                number += self._step
                if self._rng.random() >= _HASTE:
                    await asyncio.sleep(self._rng.expovariate(1 / self._stage.pace.write))
                if self._stage.is_over:
                    return

    def _fresh_path(self, generation: int) -> str:
        name = f"{self._family}-{generation}"
        if self._kind is SHELVES:
            return f"/shelves/s{self._rng.randrange(SHELF_COUNT)}/{name}"
        return f"/{self._kind.name}/{name}"

    @property
    def _edge(self) -> str:
        return self._rng.choice(self._stage.edges[self._region]).url

    async def _write(self, number: int) -> None:
        journal, path = self._stage.journal, self._path
        method = self._rng.choice(self._kind.methods)
        patient = self._rng.random() >= _IMPATIENT
        write = Sent(path, number, self._name, self._region, method, time.monotonic())
        journal.writes[path, number] = write
        known = journal.known[path, self._name]
        if method == "DELETE":
            known.deletes.add(number)
        while not await self._attempt(write, known):
            if not patient or self._stage.is_hopeless:
                known.loose.add(number)
                return
            await asyncio.sleep(self._rng.uniform(0.05, 0.3))  # what a client does that is told to come back later
        if self._rng.random() < _REPEATS:
            await self._attempt(write, known)
        if self._rng.random() < _READS_OWN:
            await self._read_back(path, self._rng)

    async def _attempt(self, write: Sent, known: Known) -> bool:
        journal = self._stage.journal
        headers = {"Idempotency-Key": f"{write.path} {write.number}", NUMBER_HEADER: str(write.number)}
        body = b""
        if write.method != "DELETE":
            headers["Content-Type"] = MERGE if write.method == "PATCH" else "application/json"
            body = json.dumps(self._document(write)).encode()
        answer = await self._stage.ask(self._edge, write.method, write.path, self._name, headers, body)
        if answer.status != (202 if self._kind.behind else 200) or answer.document is None:
            journal.failures[f"writes: {answer.failure or answer.status}"] += 1
            if answer.status not in ((0, 503) if self._kind.behind else (0, 409, 429, 500, 502, 503, 504)):
                journal.found("wrong answers", [f"{write.method} {write.name}: {answer.status}"])
            return False
        if self._kind.behind:
            if write.id and write.id != answer.document["id"]:
                journal.found("accepted twice", [f"{write.name}: {write.id} and {answer.document['id']}"])
            write.id = answer.document["id"]
        if write.acknowledged is None:
            write.acknowledged = time.monotonic()
            known.floor = max(known.floor, write.number)
        return True

    def _document(self, write: Sent) -> dict[str, Any]:
        if self._kind is PAIRS:
            return {self._name: write.number}
        shelf = shelf_of(write.path)
        return {"id": shelf[1], "n": write.number} if shelf else {"n": write.number}

    async def read(self) -> None:
        """Read the own resource again and again, whatever is under way, until the campaign is over."""
        while not self._stage.is_over:
            await asyncio.sleep(self._reads_rng.expovariate(1 / self._stage.pace.own))
            if self._path:
                await self._read_back(self._path, self._reads_rng)

    async def _read_back(self, path: str, rng: random.Random) -> None:
        shelf = shelf_of(path)
        if shelf is not None and rng.random() < 0.5:
            await self._read_shelf(path, *shelf, rng)
            return
        floor = self._stage.journal.known[path, self._name].floor
        answer = await self._get(path, rng)
        seen = own_number(path, self._name, answer.document) if answer.status == 200 else None
        await self._judge(path, floor, seen, answer)

    async def _read_shelf(self, path: str, shelf: str, name: str, rng: random.Random) -> None:
        floor = self._stage.journal.known[path, self._name].floor
        answer = await self._get(shelf, rng)
        await self._judge(path, floor, (answer.document or {}).get(name), answer)

    async def _get(self, path: str, rng: random.Random) -> Answer:
        url = rng.choice(self._stage.edges[self._region]).url
        return await self._stage.ask(url, "GET", path, self._name)

    async def _judge(self, path: str, floor: int, seen: int | None, answer: Answer) -> None:
        journal = self._stage.journal
        if answer.status not in (200, 404):
            note_failed_read(journal, path, answer)
            return
        journal.counts["reads of own writes"] += 1
        if not self._kind.behind:
            return  # another edge's memory may be behind for as long as an event takes
        if admits(answer.cache_status):
            journal.counts["reads that admit to lack some"] += 1
        elif is_older(seen, floor, self._known(path)) and not await self._died(path, floor, seen):
            write = journal.writes[path, floor]
            told = f"{answer.status} {answer.document} {answer.cache_status}"[-200:]
            journal.found("went back in time", [f"{write.name}: {seen} at {time.monotonic():.3f} in {told}"])

    def _known(self, path: str) -> Known:
        """What is known of the own writes; one that a plain origin got twice may have come late the second time."""
        known = self._stage.journal.known[path, self._name]
        again = self._stage.origin.again[path]
        return Known(known.floor, known.loose | again, known.deletes) if again else known

    async def _died(self, path: str, *numbers: int | None) -> bool:
        """Whether one of these has ended without being known to be applied: it may vanish, or come at any time."""
        if self._kind.repeatable:
            return False
        writes = [self._stage.journal.writes[path, number] for number in numbers if number]
        return any([await is_dead(self._stage, write) for write in writes])


async def is_dead(stage: Stage, write: Sent) -> bool:
    """Ask the status page of a write whether it is dead because its outcome is unknown."""
    for edge in stage.edges[write.region]:
        answer = await stage.ask(edge.url, "GET", f"/_regioncache/writes/{write.id}", write.principal)
        if answer.document is not None:
            return answer.document.get("state") == "dead" and answer.document.get("reason") == "ambiguous"
    return False


def note_failed_read(journal: Journal, path: str, answer: Answer) -> None:
    """Count a read without a usable answer; what only the origin's misbehaviour explains is its own word."""
    journal.failures[f"reads: {answer.failure or answer.status}"] += 1
    if answer.status not in (0, 502, 503, 504) and not answer.is_origins:
        journal.found("wrong answers", [f"GET {path}: {answer.status} {answer.cache_status}"])


class Reader:
    """Somebody else: reads what others write, with or without a name."""

    def __init__(self, stage: Stage, region: str, name: str) -> None:
        self._stage = stage
        self._region = region
        self._name = name
        self._rng = random.Random(f"{stage.seed}/reader/{name}")

    async def read(self) -> None:
        """Read what is being written until the campaign is over."""
        while not self._stage.is_over:
            await asyncio.sleep(self._rng.expovariate(1 / self._stage.pace.other))
            if self._stage.paths:
                await self._read_one()

    async def _read_one(self) -> None:
        path = self._rng.choice(self._stage.paths[self._rng.choice(list(self._stage.paths))])
        if (shelf := shelf_of(path)) is not None and self._rng.random() < 0.5:
            path = shelf[0]
        principal = self._name if self._rng.random() < 0.5 else None
        url = self._rng.choice(self._stage.edges[self._region]).url
        answer = await self._stage.ask(url, "GET", path, principal)
        journal = self._stage.journal
        if answer.status not in (200, 404):
            note_failed_read(journal, path, answer)
            return
        journal.counts["reads of others' writes"] += 1
        for written, number in numbers_of_others(path, principal, answer.document):
            if number not in self._stage.origin.applied[written]:
                journal.found("pending writes of others", [f"{written} {number} in {path}: {answer.cache_status}"])


class Probes:
    """Measure how long it takes until another region shows what the origin has."""

    def __init__(self, stage: Stage, group: asyncio.TaskGroup) -> None:
        self._stage = stage
        self._group = group
        self._rng = random.Random(f"{stage.seed}/probes")

    def sample(self, effect: Effect) -> None:
        """Follow a share of the effects."""
        stage = self._stage
        write = stage.journal.writes.get((effect.path, effect.number))
        if write is None or stage.is_over or effect.method == "DELETE" or self._rng.random() > 0.05:
            return
        if stage.origin.applied[effect.path][effect.number] != effect.seq:
            return
        regions = [region for region in stage.edges if region != write.region]
        url = self._rng.choice(stage.edges[self._rng.choice(regions)]).url
        self._group.create_task(self._follow(effect, write.principal, url))

    async def _follow(self, effect: Effect, principal: str, url: str) -> None:
        journal = self._stage.journal
        while not await self._shows(effect, principal, url):
            if time.monotonic() - effect.at > _PROBE_WITHIN:
                journal.counts["probes given up"] += 1
                break
            await asyncio.sleep(0.05)
        journal.convergence.append(Probe(effect, url, time.monotonic() - effect.at))

    async def _shows(self, effect: Effect, principal: str, url: str) -> bool:
        answer = await self._stage.ask(url, "GET", effect.path, None)
        if answer.status == 404:
            return self._stage.origin.deleted.get(effect.path, -1) > effect.seq
        seen = own_number(effect.path, principal, answer.document) if answer.status == 200 else None
        return seen is not None and self._stage.origin.applied[effect.path].get(seen, -1) >= effect.seq


def writers(stage: Stage) -> list[Writer]:
    """The writers of every region."""
    made = []
    for region in stage.edges:
        for place, kind in enumerate(_WRITERS_IN_A_REGION):
            name = f"{region[:2]}{place}"
            twin = kind.writers > 1
            # Two writers of one resource have the same family, and every other number each.
            first = _WRITERS_IN_A_REGION.index(kind)
            family = f"{region[:2]}{first}" if twin else name
            step = (1 + place - first, kind.writers) if twin else (1, 1)
            made.append(Writer(stage, region, name, kind, step, family))
    return made


def readers(stage: Stage) -> list[Reader]:
    """The readers of every region."""
    names = [(region, f"{region[:2]}-reader{place}") for region in stage.edges for place in range(READERS_IN_A_REGION)]
    return [Reader(stage, region, name) for region, name in names]
