"""The process's own memory (C3)."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from aiohttp_regioncache import Cache
from aiohttp_regioncache.reads.memory import Memory
from aiohttp_regioncache.records import CacheRecord
from aiohttp_regioncache.store.events import Changed, Events
from tests.reads.apps import Counted, fresh, serving, until_hit
from tests.support import eventually
from tests.support.world import REGIONS, Edge, World, one_edge

LONG = Cache(memory_seconds=3600.0)


def memory_of(edge: Edge) -> Memory:
    """The memory of an edge for the region that its questions go to."""
    assert edge.cache._reader is not None
    return edge.cache._reader._memories[REGIONS[0]]


async def until_in_memory(edge: Edge, path: str) -> None:
    async def is_there() -> bool:
        return "detail=memory" in (await edge.get(path)).cache_status

    await eventually(is_there)


async def test_the_second_hit_comes_from_memory_without_its_region(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=LONG) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_in_memory(edge, "/pages/1")
        async with world.servers[REGIONS[0]].client() as client:
            await client.config_resetstat()
            answer = await edge.get("/pages/1")
            assert (answer.body, "Age" in answer.headers) == (b'{"n": 1}', True)
            statistics = await client.info("commandstats")
        assert "cmdstat_mget" not in statistics


async def test_paths_that_a_write_behind_can_touch_are_never_in_memory(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=LONG) as (world, edge):
        for path in ("/items/1", "/items"):
            world.origin.documents[path] = {"n": 1}
            await edge.get(path)
            for _ in range(5):
                assert "memory" not in (await until_hit(edge, path)).cache_status
        assert len(memory_of(edge)) == 0


async def test_an_invalidation_empties_every_edges_memory(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        one, two = await world.edge(cache=LONG), await world.edge(cache=LONG)
        world.origin.documents["/pages/1"] = {"n": 1}
        for edge in (one, two):
            await until_in_memory(edge, "/pages/1")
        await one.put("/pages/1", {"n": 2})

        async def is_new() -> bool:
            return (await two.get("/pages/1")).body == b'{"n": 2}'

        await eventually(is_new)


async def test_the_edge_of_a_write_forgets_at_once_whatever_is_announced(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=LONG) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_in_memory(edge, "/pages/1")
        edge.cache.stores[REGIONS[0]].events._on_change.clear()
        await edge.put("/pages/1", {"n": 2})
        assert (await edge.get("/pages/1")).body == b'{"n": 2}'


async def test_a_lost_subscription_empties_the_memory_and_keeps_it_off(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=LONG) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_in_memory(edge, "/pages/1")
        events = edge.cache.stores[REGIONS[0]].events
        async with world.servers[REGIONS[0]].client() as client:
            await client.acl_setuser("default", enabled=True, reset_channels=True)
            await client.client_kill_filter(_type="pubsub")
            await eventually(lambda: not events.is_connected)
            assert len(memory_of(edge)) == 0
            for _ in range(5):
                assert "memory" not in (await until_hit(edge, "/pages/1")).cache_status
            await client.acl_setuser("default", enabled=True, channels=["*"])
        await eventually(lambda: events.is_connected)
        await until_in_memory(edge, "/pages/1")


async def test_memory_obeys_what_a_request_asks(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=LONG) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        await until_in_memory(edge, "/pages/1")
        head = await edge.ask("HEAD", "/pages/1")
        assert (head.body, "detail=memory" in head.cache_status) == (b"", True)
        reads = world.origin.reads["/pages/1"]
        answer = await edge.get("/pages/1", headers={"Cache-Control": "no-cache"})
        assert "fwd=request" in answer.cache_status
        assert world.origin.reads["/pages/1"] == reads + 1


async def test_memory_can_be_turned_off(tmp_path: Path) -> None:
    async with one_edge(tmp_path, cache=Cache(memory_seconds=0)) as (world, edge):
        world.origin.documents["/pages/1"] = {"n": 1}
        for _ in range(5):
            assert "memory" not in (await until_hit(edge, "/pages/1")).cache_status


# --- Memory alone: on a subscription that is said to stand ---


def standing(**options: float) -> tuple[Memory, list[float], Events]:
    """A memory with a clock that a test sets."""
    from redis.asyncio import Redis

    events = Events("home", Redis())
    events.is_connected = True
    now = [0.0]
    seconds, max_bytes = options.get("seconds", 10.0), int(options.get("max_bytes", 1_000_000))
    return Memory("eu", events, seconds=seconds, max_bytes=max_bytes, clock=lambda: now[0]), now, events


RECORD = CacheRecord(url="http://a/b", status=200, body=b"x" * 1000)


async def test_an_entry_leaves_when_its_time_is_over() -> None:
    memory, now, _ = standing()
    memory.put("key", RECORD, "digest", memory.generation)
    now[0] = 10.0
    assert memory.get("key") is RECORD
    now[0] = 10.1
    assert memory.get("key") is None
    assert len(memory) == 0


async def test_the_least_recently_used_leave_when_room_is_short() -> None:
    memory, _, _ = standing(max_bytes=3 * (1000 + 1024))
    for key in "abc":
        memory.put(key, RECORD, f"digest {key}", memory.generation)
    assert memory.get("a") is RECORD
    memory.put("d", RECORD, "digest d", memory.generation)
    assert [key for key in "abcd" if memory.get(key)] == ["a", "c", "d"]
    memory.put("e", CacheRecord(url="", status=200, body=b"x" * 10_000), "digest e", memory.generation)
    assert memory.get("e") is None


async def test_a_put_is_dropped_when_something_was_announced_since_it_was_read() -> None:
    memory, _, _ = standing()
    generation = memory.generation
    memory._changed(Changed(0, "", ("another",)))
    memory.put("key", RECORD, "digest", generation)
    assert memory.get("key") is None


async def test_what_is_being_stored_is_older_in_no_memory(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        server = world.servers[REGIONS[0]]

        def page(number: int) -> web.Response:
            if number == 2:
                server.pause()  # it cannot be stored for the time being
            return fresh(str(number))

        edge = await world.edge(serving(page=Counted(page).handle), cache=LONG)
        await until_in_memory(edge, "/page")
        assert (await edge.get("/page", headers={"Cache-Control": "no-cache"})).body == b"2"
        assert int((await edge.get("/page")).body) >= 2
        server.resume()
