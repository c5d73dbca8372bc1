"""Single flight: many requests, one fetch."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache
from aiohttp_regioncache.reads.flights import Flight, Flights
from tests.reads.apps import fresh, running, serving, until_hit
from tests.support import eventually
from tests.support.world import REGIONS, Edge, Reply, World, one_edge

CROWD = 50


async def test_a_crowd_makes_one_request(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.read_gate.clear()
        crowd = [asyncio.ensure_future(edge.get("/pages/1")) for _ in range(CROWD)]
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        world.origin.read_gate.set()
        replies = await asyncio.gather(*crowd)
        assert {reply.body for reply in replies} == {b'{"n": 1}'}
        assert world.origin.reads["/pages/1"] == 1
        assert sum("collapsed" in reply.cache_status for reply in replies) >= 1
        await until_hit(edge, "/pages/1")
        assert world.origin.reads["/pages/1"] == 1


class Gated:
    """A handler whose calls wait for `gate`; `answer` makes the response."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls: Counter[str] = Counter()

    async def answer(self, request: web.Request, **headers: str) -> web.Response:
        who = request.headers.get("X-Who", "")
        self.calls[who] += 1
        await self.gate.wait()
        return fresh(who, **headers)


async def _crowd(world: World, url: str, gated: Gated, names: list[str]) -> list[Reply]:
    """Ask for everybody at once, and open the gate when all have asked."""
    edge = world.edges[-1]
    crowd = [asyncio.ensure_future(edge.get(url, headers={"X-Who": name})) for name in names]
    await eventually(lambda: sum(gated.calls.values()) >= 1)
    gated.gate.set()
    return list(await asyncio.gather(*crowd))


@pytest.mark.parametrize(
    "headers",
    [{"Cache_Control": "private"}, {"Set_Cookie": "a=1", "Cache_Control": "x"}, {"Cache_Control": "no-store"}],
)
async def test_what_is_one_users_own_is_not_shared(tmp_path: Path, headers: dict[str, str]) -> None:
    gated = Gated()

    async def page(request: web.Request) -> web.Response:
        return await gated.answer(request, **headers)

    names = [str(number) for number in range(10)]
    async with World(tmp_path) as world:
        await world.edge(serving(page=page))
        replies = await _crowd(world, "/page", gated, names)
        assert [reply.body.decode() for reply in replies] == names


async def test_variants_are_not_mixed_up(tmp_path: Path) -> None:
    gated = Gated()

    async def page(request: web.Request) -> web.Response:
        return await gated.answer(request, Vary="X-Who")

    names = [str(number % 3) for number in range(30)]
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        replies = await _crowd(world, "/page", gated, names)
        assert [reply.body.decode() for reply in replies] == names
        for name in ("0", "1", "2"):
            assert (await until_hit(edge, "/page", headers={"X-Who": name})).body.decode() == name


async def test_a_leader_who_leaves_takes_nobody_along(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        world.origin.read_gate.clear()
        leader = asyncio.ensure_future(edge.get("/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        others = [asyncio.ensure_future(edge.get("/pages/1")) for _ in range(5)]
        await asyncio.sleep(0)
        leader.cancel()
        world.origin.read_gate.set()
        assert {reply.status for reply in await asyncio.gather(*others)} == {200}
        await until_hit(edge, "/pages/1")


async def test_a_leader_who_leaves_in_the_middle_of_a_stream_takes_nobody_along(tmp_path: Path) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def page(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 100_000)
        begun.set()
        await go.wait()
        for _ in range(100):
            await response.write(b"x" * 100_000)
        await response.write_eof()
        return response

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        leader = asyncio.ensure_future(edge.get("/page"))
        await begun.wait()
        others = [asyncio.ensure_future(edge.get("/page")) for _ in range(3)]
        leader.cancel()
        go.set()
        assert {len(reply.body) for reply in await asyncio.gather(*others)} == {10_100_000}


async def test_who_waits_too_long_asks_alone(tmp_path: Path) -> None:
    calls = 0
    first = asyncio.Event()

    async def page(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            await first.wait()
        return fresh(str(calls))

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page), cache=Cache(flight_wait=0.05))
        slow = asyncio.ensure_future(edge.get("/page"))
        await eventually(lambda: calls == 1)
        assert (await edge.get("/page")).body == b"2"
        first.set()
        assert (await slow).status == 200


class Held:
    """A handler whose calls say their number, each when a test lets it."""

    def __init__(self) -> None:
        self.gates: list[asyncio.Event] = []

    async def page(self, _request: web.Request) -> web.Response:
        self.gates.append(asyncio.Event())
        number = len(self.gates)
        await self.gates[-1].wait()
        return fresh(str(number))


async def test_who_waits_too_long_stores_nothing(tmp_path: Path) -> None:
    """As with nginx's proxy_cache_lock_timeout."""
    held = Held()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=held.page), cache=Cache(flight_wait=0.01, flight_age=0))
        slow = asyncio.ensure_future(edge.get("/page"))
        await eventually(lambda: len(held.gates) == 1)
        for calls in (2, 3):
            impatient = asyncio.ensure_future(edge.get("/page"))
            await eventually(lambda calls=calls: len(held.gates) == calls)  # type: ignore[misc]
            held.gates[-1].set()
            reply = await impatient
            assert (reply.body, "stored" in reply.cache_status) == (str(calls).encode(), False)
        held.gates[0].set()
        assert "stored" in (await slow).cache_status
        assert (await until_hit(edge, "/page")).body == b"1"


async def test_beside_an_old_fetch_one_more_begins_which_all_may_join(tmp_path: Path) -> None:
    """As with nginx's proxy_cache_lock_age."""
    held = Held()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=held.page), cache=Cache(flight_age=0.5))
        first = asyncio.ensure_future(edge.get("/page"))
        await eventually(lambda: len(held.gates) == 1)
        crowd = [asyncio.ensure_future(edge.get("/page")) for _ in range(20)]
        await eventually(lambda: len(held.gates) == 2)
        crowd += [asyncio.ensure_future(edge.get("/page")) for _ in range(20)]
        held.gates[1].set()
        replies = await asyncio.gather(*crowd)
        assert {reply.body for reply in replies} == {b"2"}
        assert sum("stored" in reply.cache_status for reply in replies if "collapsed" not in reply.cache_status) == 1
        assert (await until_hit(edge, "/page")).body == b"2"
        assert len(held.gates) == 2
        held.gates[0].set()
        assert (await first).body == b"1"


async def test_who_waits_for_an_old_fetch_and_a_new_one_takes_what_comes_first(tmp_path: Path) -> None:
    held = Held()
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=held.page), cache=Cache(flight_age=0.5))
        crowd = [asyncio.ensure_future(edge.get("/page")) for _ in range(10)]
        await eventually(lambda: len(held.gates) == 2)
        held.gates[0].set()
        await eventually(lambda: sum(task.done() for task in crowd) >= 9)
        for gate in held.gates[1:]:
            gate.set()
        bodies = [reply.body for reply in await asyncio.gather(*crowd)]
        assert bodies.count(b"1") == 9


async def test_a_failure_is_everybodys(tmp_path: Path) -> None:
    gate = asyncio.Event()
    calls = 0

    async def page(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await gate.wait()
        raise RuntimeError("broken")

    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page))
        crowd = [asyncio.ensure_future(edge.get("/page")) for _ in range(10)]
        await eventually(lambda: calls >= 1)
        gate.set()
        assert {reply.status for reply in await asyncio.gather(*crowd)} == {500}


async def test_a_failing_origin_is_asked_once_for_a_crowd_that_is_served_stale(tmp_path: Path) -> None:
    gate = asyncio.Event()
    gate.set()
    calls = 0

    async def page(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await gate.wait()
        headers = {"Cache-Control": "max-age=0", "ETag": '"1"'}
        return web.Response(text="old", headers=headers) if calls == 1 else web.Response(status=503)

    async with World(tmp_path) as world, running(serving(page=page)) as origin:
        edge = await world.edge(origin=origin, cache=Cache(stale_if_error=60))
        await edge.get("/page")
        await eventually(lambda: not len(edge.cache._tasks))
        gate.clear()
        crowd = [asyncio.ensure_future(edge.get("/page")) for _ in range(CROWD)]
        await eventually(lambda: calls == 2)
        gate.set()
        assert {reply.body for reply in await asyncio.gather(*crowd)} == {b"old"}
        # Those who came when the failure was known asked again; those who had waited did not.
        assert calls < CROWD


async def test_a_reload_is_not_served_what_was_fetched_before_it(tmp_path: Path) -> None:
    """Although the store has not taken that yet."""
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 1}
        await edge.get("/items/1")
        await until_hit(edge, "/items/1")
        async with world.servers[REGIONS[0]].client() as client:
            await client.client_pause(60_000, all=False)
            for reads in (2, 3, 4):
                await edge.get("/items/1", headers={"Cache-Control": "no-cache"})
                assert world.origin.reads["/items/1"] == reads
            await client.client_unpause()


class Changing:
    """A handler whose answers have `control`, and wait for `gate`."""

    def __init__(self, control: str) -> None:
        self.control = control
        self.status = 200
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def page(self, request: web.Request) -> web.Response:
        self.calls += 1
        await self.gate.wait()
        status = 206 if "Range" in request.headers else self.status
        return web.Response(text="x", status=status, headers={"Cache-Control": self.control, "ETag": '"1"'})

    async def crowd(self, edge: Edge, calls: int, **options: Any) -> None:
        """Ask many times at once; so many of them must reach this before it answers any."""
        self.calls = 0
        self.gate.clear()
        crowd = [asyncio.ensure_future(edge.get("/page", **options)) for _ in range(10)]
        await eventually(lambda: self.calls >= calls)
        await asyncio.sleep(0.1)
        assert self.calls == calls
        self.gate.set()
        await asyncio.gather(*crowd)


async def test_who_can_share_nothing_does_not_wait(tmp_path: Path) -> None:
    """Until there is something to share again."""
    origin = Changing("no-store")
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=origin.page))
        await origin.crowd(edge, 1)
        await origin.crowd(edge, 10)
        origin.control = "max-age=0"
        await edge.get("/page")
        await eventually(lambda: not len(edge.cache._tasks))
        await origin.crowd(edge, 1)


@pytest.mark.parametrize(
    ("headers", "status"), [({"Authorization": "Basic YTpi"}, 200), ({"Range": "bytes=0-0"}, 200), ({}, 503)]
)
async def test_what_one_request_gets_does_not_say_that_others_share_nothing(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    origin = Changing("max-age=0")
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=origin.page))
        origin.status, origin.control = status, "max-age=0" if status == 200 else "no-store"
        assert "stored" not in (await edge.get("/page", headers=headers)).cache_status
        origin.status, origin.control = 200, "max-age=0"
        await origin.crowd(edge, 1)


# --- Flights alone ---


class Fetch:
    """A fetch that a test ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.flight: Flight[str] | None = None

    async def __call__(self, flight: Flight[str]) -> str:
        self.begun += 1
        self.flight = flight
        return await asyncio.shield(self.end)


async def test_a_result_serves_new_arrivals_until_it_has_landed() -> None:
    flights: Flights[str] = Flights()
    fetch = Fetch()
    fetch.end.set_result("a")
    assert await flights.join("key", fetch, 1) == ("a", True)
    assert await flights.join("key", fetch, 1) == ("a", False)
    assert await flights.join("key", fetch, 1, unfinished=True) == ("a", True)
    assert fetch.flight is not None
    fetch.flight.land()
    assert len(flights) == 0
    assert await flights.join("key", fetch, 1) == ("a", True)
    assert fetch.begun == 3


async def test_a_flight_is_never_too_old_when_no_age_is_given() -> None:
    flights: Flights[str] = Flights()
    fetch = Fetch()
    leader = asyncio.ensure_future(flights.join("key", fetch, 1))
    await eventually(lambda: fetch.begun == 1)
    assert await flights.join("key", fetch, 0.05) == (None, False)
    assert fetch.begun == 1
    assert len(flights) == 1
    fetch.end.set_result("a")
    assert await leader == ("a", True)


async def test_of_those_who_wait_for_an_old_flight_one_begins_another() -> None:
    flights: Flights[str] = Flights()
    old, new = Fetch(), Fetch()
    leader = asyncio.ensure_future(flights.join("key", old, 1))
    await eventually(lambda: old.begun == 1)
    waiting = [asyncio.ensure_future(flights.join("key", new, 60, age=0.5)) for _ in range(5)]
    await eventually(lambda: new.begun == 1)
    new.end.set_result("b")
    results = await asyncio.gather(*waiting)
    assert sorted(results) == [("b", False)] * 4 + [("b", True)]
    assert new.begun == 1
    old.end.set_result("a")
    assert await leader == ("a", True)
    assert len(flights) == 1  # the old one lands no newer one


async def test_a_result_is_shared_however_old_its_flight_is() -> None:
    flights: Flights[str] = Flights()
    fetch = Fetch()
    fetch.end.set_result("a")
    await flights.join("key", fetch, 1)
    assert await flights.join("key", fetch, 1, age=1e-9) == ("a", False)


async def test_an_old_flight_does_not_land_a_newer_one() -> None:
    flights: Flights[str] = Flights()
    fetch = Fetch()
    fetch.end.set_result("a")
    await flights.join("key", fetch, 1)
    old = fetch.flight
    await flights.join("key", fetch, 1, unfinished=True)
    assert old is not None
    old.land()
    assert len(flights) == 1


async def test_who_joins_a_flight_that_is_alone_gets_nothing_at_once() -> None:
    flights: Flights[str] = Flights()
    fetch = Fetch()
    leader = asyncio.ensure_future(flights.join("key", fetch, 1))
    await eventually(lambda: fetch.begun == 1)
    joined = asyncio.ensure_future(flights.join("key", fetch, 60))
    await asyncio.sleep(0)
    assert fetch.flight is not None
    fetch.flight.leave_alone()
    assert await joined == (None, False)
    fetch.end.set_result("a")
    assert await leader == ("a", True)


async def test_draining_cancels_what_takes_too_long() -> None:
    flights: Flights[str] = Flights()
    fetch = Fetch()
    leader = asyncio.ensure_future(flights.join("key", fetch, 1))
    await eventually(lambda: fetch.begun == 1)
    await flights.drain(0.01)
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert len(flights) == 0
    await flights.drain(0.01)
