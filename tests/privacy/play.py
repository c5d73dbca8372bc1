"""Play the scenarios over real edges, and find what reached whom it must not reach, or did not reach whom it should."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from aiohttp_regioncache import Cache, Connections, Sync
from tests.privacy.findings import Told, Verdict, verdict
from tests.privacy.origin import Stand, TellingOrigin
from tests.privacy.pending import play_pending
from tests.privacy.scenarios import GET, NOTHING, RULES, Ask, Scenario, User, When
from tests.reads.apps import Handler
from tests.support import eventually
from tests.support.world import Edge, World, forwarding_app

AT_ONCE: Final = 16
"""Scenarios played at a time."""
_QUIET: Final = 10.0
"""Seconds, more than anything here takes."""
_PATIENCE: Final = 20.0
"""Seconds for one scenario."""
_HOST: Final = {"Host": "two.example"}  # the same URL at every edge
_PROBE: Final = Scenario(0, "probe", (NOTHING, NOTHING))


class Stage:
    """A world with two edges of one region, and what is asked of it."""

    def __init__(self, world: World, origin: TellingOrigin) -> None:
        self.origin = origin
        self._world = world
        self._standing: set[asyncio.Task[Any]] = set()
        self._came: Counter[tuple[str, str]] = Counter()

    async def begin(self) -> None:
        """Start the edges and wait until they take writes."""
        for _ in range(2):
            await self._world.edge(
                self._app(),
                rules=list(RULES.values()),
                cache=Cache(dirty_wait=0.02, memory_seconds=30.0),
                sync=Sync(enabled=False),  # what is pending stays so
                connections=Connections(connect_timeout=_QUIET, timeout=_QUIET),
            )
        for edge in self._world.edges:
            await eventually(lambda edge=edge: self._takes_writes(edge))  # type: ignore[misc]
        self._standing = set(asyncio.all_tasks())

    def _app(self) -> web.Application:
        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._came[request.path, request.headers.get("X-Asker", "")] += 1
            return await handler(request)

        app = forwarding_app()
        app.middlewares.append(note)
        return app

    @staticmethod
    async def _takes_writes(edge: Edge) -> bool:
        return (await edge.put("/behind/0", {})).status == 202

    def edge_of(self, scenario: Scenario, user: User) -> Edge:
        """The process that a user's requests go to."""
        return self._world.edges[scenario.second_edge and user.name == "bob"]

    async def ask(self, stand: Stand, user: User, ask: Ask, others_tag: str = "", **options: Any) -> Told:
        """Send one request of a user's."""
        scenario = stand.scenario
        fields = _HOST | user.fields | dict(ask.fields) | dict.fromkeys(ask.of_other, others_tag or '"unknown"')
        if ask.method in ("POST", "PUT"):
            options.setdefault("data", b"{}")
        path = options.pop("path", scenario.path)
        reply = await self.edge_of(scenario, user).ask(ask.method, path, headers=fields, **options)
        return Told(user, ask, fields, reply)

    async def settle(self) -> None:
        """Wait until what the edges do behind their answers now is done, and what that has begun."""
        for _ in range(3):
            known = self._standing
            busy = {task for task in asyncio.all_tasks() - known if task.get_name().startswith("regioncache: ")}
            if busy:
                await asyncio.wait(busy, timeout=_QUIET)

    async def until_waiting(self, stand: Stand, user: User) -> None:
        """Wait until a user's request waits for the origin: one that came later has been there and back by then."""
        await eventually(lambda: self._came[stand.scenario.path, user.name] > 0)
        await self.edge_of(stand.scenario, user).get(_PROBE.path, headers={"X-Asker": "probe"})


@contextlib.asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    """A stage on servers in `directory`."""
    origin = TellingOrigin()
    origin.stands[_PROBE.path] = Stand(_PROBE)
    async with World(directory, regions=["ap-northeast-1"], origin=origin) as world:
        stage = Stage(world, origin)
        await stage.begin()
        yield stage


async def play_all(directory: Path, scenarios: Sequence[Scenario]) -> dict[Scenario, Verdict]:
    """Play scenarios, many at a time but for those about an edge's memory, and give what was found in each."""
    found: dict[Scenario, Verdict] = {}
    async with staged(directory) as stage:

        async def play_each(left: Iterator[Scenario]) -> None:
            for scenario in left:
                found[scenario] = await _judged(stage, scenario)

        # What an edge keeps in memory is dropped while others store; alone it stays.
        await play_each(scenario for scenario in scenarios if scenario.when is When.MEMORY)
        others = (scenario for scenario in scenarios if scenario.when is not When.MEMORY)
        await asyncio.gather(*(play_each(others) for _ in range(AT_ONCE)))
    return found


async def _judged(stage: Stage, scenario: Scenario) -> Verdict:
    stand = stage.origin.stands[scenario.path] = Stand(scenario)
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _found(stage, stand)
    except Exception as error:  # one that breaks off must not hide what the others show
        return Verdict([f"broke off: {error!r}"])


async def _found(stage: Stage, stand: Stand) -> Verdict:
    if stand.scenario.kind == "pending":
        return Verdict(await play_pending(stage, stand))
    return verdict(stand, await _play(stage, stand))


async def _play(stage: Stage, stand: Stand) -> list[Told]:
    scenario = stand.scenario
    first, second = scenario.users
    told = await (_together(stage, stand) if scenario.when is When.TOGETHER else _one_by_one(stage, stand))
    await stage.settle()
    stand.is_down = False
    for user in (first, second):  # what the second one's request has left behind may leak as well
        told.append(await stage.ask(stand, user, GET))
        await stage.settle()
    return told


async def _one_by_one(stage: Stage, stand: Stand) -> list[Told]:
    scenario = stand.scenario
    first, second = scenario.users
    told = [await stage.ask(stand, first, scenario.way[0])]
    if scenario.when is not When.AT_ONCE:
        await stage.settle()
    if scenario.when is When.MEMORY:
        told.append(await stage.ask(stand, first, GET))
    stand.is_down, stand.is_aged = scenario.when is When.DOWN, False
    told.append(await stage.ask(stand, second, scenario.way[1], _tag(told)))
    return told


async def _together(stage: Stage, stand: Stand) -> list[Told]:
    scenario = stand.scenario
    stand.gate.clear()
    asking = []
    for user, ask in zip(scenario.users, scenario.way, strict=True):
        asking.append(asyncio.ensure_future(stage.ask(stand, user, ask)))
        await eventually(lambda: stand.arrived > 0)
        await stage.until_waiting(stand, user)
    stand.gate.set()
    return list(await asyncio.gather(*asking))


def _tag(told: Iterable[Told]) -> str:
    return next((one.reply.headers["ETag"] for one in told if "ETag" in one.reply.headers), "")
