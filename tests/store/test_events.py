"""The subscription to a region: announcements, wakes, and links that break in every way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from aiohttp_regioncache.store import entries
from aiohttp_regioncache.store.clients import make_client
from aiohttp_regioncache.store.events import Changed, Events, announcement, parse_announcement
from aiohttp_regioncache.store.keyspace import WAKE_CHANNEL, events_channel
from aiohttp_regioncache.store.region import RegionStore
from tests.store.tools import TOKYO, accept, acceptance, claim_one, raw, resource, settle
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer

ITEM = resource("/items/1")


async def _greet(connection: Any) -> None:
    await connection.on_connect()


@contextlib.asynccontextmanager
async def _listening(url: str, heartbeat: float = 5.0) -> AsyncIterator[Events]:
    client = make_client(url, timeout=0.5, connect_timeout=0.5, on_connect=_greet)
    events = Events(TOKYO, client, heartbeat=heartbeat)
    events.start()
    try:
        await eventually(lambda: events.is_connected)
        yield events
    finally:
        await events.close()
        await client.aclose()


async def _publish(client: Redis, message: str) -> None:
    await raw(client, "PUBLISH", events_channel(TOKYO), message)


async def test_a_settle_is_announced_with_its_write_and_resources(store: RegionStore) -> None:
    seen: list[Changed] = []
    store.events.on_change(seen.append)
    partition, write = store.partitions[0], acceptance(affects=("/items",))
    await eventually(lambda: store.events.is_connected)
    seq = (await accept(store, write)).seq
    await settle(store, partition, await claim_one(store, partition), write, seq)
    await eventually(lambda: bool(seen))
    assert seen == [Changed(0, write.record.id, (ITEM.digest, resource("/items").digest))]
    await entries.invalidate(store, partition, (ITEM.digest,))
    await eventually(lambda: len(seen) == 2)
    assert seen[1] == Changed(0, "", (ITEM.digest,))


async def test_an_accept_wakes_the_sync_loop_once_for_a_resource(store: RegionStore, client: Redis) -> None:
    await eventually(lambda: store.events.is_connected)
    wakes: list[bytes] = []
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(WAKE_CHANNEL)
        wake = asyncio.Event()
        store.events.on_work(lambda _: wake.set())
        for _ in range(3):
            await accept(store, acceptance())
        await asyncio.wait_for(wake.wait(), 5)
        await raw(client, "PUBLISH", WAKE_CHANNEL, "end")
        async for message in pubsub.listen():
            if message["type"] == "message":
                wakes.append(message["data"])
            if message["data"] == b"end":
                break
    assert wakes == [f"{TOKYO}:0:taken".encode(), b"end"]


async def test_only_its_own_region_wakes_a_loop(server: ValkeyServer, client: Redis) -> None:
    async with _listening(server.url) as events:
        wake, changed = asyncio.Event(), asyncio.Event()
        events.on_work(lambda _: wake.set())
        events.on_change(lambda _: changed.set())
        await raw(client, "PUBLISH", WAKE_CHANNEL, "elsewhere:0")
        await _publish(client, announcement(0, "", (ITEM.digest,)))
        await asyncio.wait_for(changed.wait(), 5)
        assert not wake.is_set()


async def test_what_is_no_announcement_is_passed_over(server: ValkeyServer, client: Redis) -> None:
    async with _listening(server.url) as events:
        seen: list[Changed] = []
        events.on_change(seen.append)
        for message in ("", "nonsense", "-1 - x", "\u00b2 - x", "1"):
            await _publish(client, message)
        await _publish(client, "7 -")
        await eventually(lambda: bool(seen))
        assert seen == [Changed(7, "", ())]


async def test_a_watcher_hears_of_its_resource_and_its_write_alone(server: ValkeyServer, client: Redis) -> None:
    async with _listening(server.url) as events:
        with events.watch("digest") as by_digest, events.watch("write") as by_write, events.watch("other") as other:
            await _publish(client, announcement(0, "", ("some", "digest")))
            await asyncio.wait_for(by_digest.wait(), 5)
            assert not by_write.is_set()
            await _publish(client, announcement(0, "write", ()))
            await asyncio.wait_for(by_write.wait(), 5)
            assert not other.is_set()


async def test_a_lost_link_is_told_first_and_stands_again_after_a_restart(server: ValkeyServer, client: Redis) -> None:
    async with _listening(server.url) as events:
        links: list[bool] = []
        events.on_link(links.append)
        wake = asyncio.Event()
        events.on_work(lambda _: wake.set())
        with events.watch("anything") as watched:
            await server.kill()
            await eventually(lambda: links == [False])
            assert watched.is_set()
            assert wake.is_set()
            watched.clear()
            await server.start()
            await eventually(lambda: links == [False, True])
            assert watched.is_set()  # something may have been missed
        seen: list[Changed] = []
        events.on_change(seen.append)
        await _publish(client, "7 -")
        await eventually(lambda: bool(seen))


async def test_a_link_counts_only_when_the_server_has_confirmed_it(server: ValkeyServer) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        client = make_client(f"redis://127.0.0.1:{proxy.port}", timeout=5, connect_timeout=5, on_connect=_greet)
        await client.ping()  # the connection that the subscription will have
        proxy.blackhole()
        events = Events(TOKYO, client)
        events.start()
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert not events.is_connected
        await proxy.accept()
        await eventually(lambda: events.is_connected)
        await events.close()
        await client.aclose()


async def test_a_silent_link_is_lost_after_two_heartbeats_and_found_again(server: ValkeyServer, client: Redis) -> None:
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        _listening(f"redis://127.0.0.1:{proxy.port}", heartbeat=0.2) as events,
    ):
        proxy.blackhole()
        await eventually(lambda: not events.is_connected)
        await proxy.accept()
        await eventually(lambda: events.is_connected)
        seen: list[Changed] = []
        events.on_change(seen.append)
        await _publish(client, "7 -")
        await eventually(lambda: bool(seen))


async def test_a_quiet_link_with_a_living_server_stays(server: ValkeyServer, client: Redis) -> None:
    async with _listening(server.url, heartbeat=0.05) as events:
        links: list[bool] = []
        events.on_link(links.append)

        async def has_asked_often() -> bool:
            return int((await client.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"]) >= 5

        await eventually(has_asked_often)
        assert links == []


def test_announcements_are_read_as_they_were_written() -> None:
    for changed in (Changed(3, "id", ("a", "b")), Changed(0, "", ("a",)), Changed(0, "id", ())):
        written = announcement(changed.partition, changed.write_id, changed.digests)
        assert parse_announcement(written.encode()) == changed
