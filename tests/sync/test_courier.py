"""Couriers between real servers: who hears of what, after any absence (C2)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.reads.decide import Standing
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.settings import Connections
from aiohttp_regioncache.store import entries, outbox
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync import courier as courier_module
from aiohttp_regioncache.sync.courier import Courier
from tests.store.tools import SAO_PAULO, TOKYO, fetched, opened, raw, resource, standing_of
from tests.support import eventually
from tests.support import world as worlds
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer, free_port
from tests.support.world import World

ITEM = resource("/items/1")
VIRGINIA = "us-east-1"


class Globe:
    """Three regions on servers of their own, the first of them the source."""

    def __init__(self, servers: dict[str, ValkeyServer], stores: dict[str, RegionStore]) -> None:
        self.servers = servers
        self.stores = stores
        self.source = stores[TOKYO]
        self.partition = self.source.partitions[0]

    async def find(self, name: str, _address: str) -> RegionStore | None:
        """The region of a name."""
        return self.stores.get(name)

    def courier(self) -> Courier:
        """A courier of the source."""
        return Courier(self.source, self.find)

    async def announce(self, *paths: str) -> None:
        """Let writes to some paths be acknowledged in the source."""
        for path in paths:
            found = resource(path)
            announced = outbox.announce(found.group, (found.digest,))
            await entries.invalidate(self.source, self.partition, (found.digest,), announce=announced)

    async def token(self, name: str, path: str = "/items/1") -> str:
        """The token of a path in a region; tries until the region answers."""
        store, found = self.stores[name], resource(path)
        tokens: list[str] = []

        async def is_known() -> bool:
            with contextlib.suppress(RegionUnavailableError):
                tokens.append((await entries.begin(store, store.partition(found), found)).token)
            return bool(tokens)

        await eventually(is_known)
        return tokens[0]

    async def hears(self, name: str, before: str, path: str = "/items/1") -> None:
        """Wait until a region has heard that what it knew at `before` is outdated."""

        async def has_heard() -> bool:
            return await self.token(name, path) != before

        await eventually(has_heard)


@pytest_asyncio.fixture
async def globe(tmp_path: Path) -> AsyncIterator[Globe]:
    async with contextlib.AsyncExitStack() as stack:
        servers, stores = {}, {}
        for name in (TOKYO, SAO_PAULO, VIRGINIA):
            servers[name] = await stack.enter_async_context(ValkeyServer(tmp_path / name))
            stores[name] = await stack.enter_async_context(opened(servers[name].url, name, breaker_seconds=0.1))
        await stores[TOKYO].register({name: server.url for name, server in servers.items()})
        yield Globe(servers, stores)


@contextlib.asynccontextmanager
async def running(courier: Courier) -> AsyncIterator[Courier]:
    courier.start()
    try:
        yield courier
    finally:
        await courier.stop()


async def test_every_other_region_hears_and_the_source_is_left_alone(globe: Globe) -> None:
    before = {name: await globe.token(name) for name in globe.stores}
    other = await globe.token(SAO_PAULO, "/items/2")
    await globe.announce("/items/1")
    own = await globe.token(TOKYO)
    async with running(globe.courier()):
        for name in (SAO_PAULO, VIRGINIA):
            await globe.hears(name, before[name])
    assert await globe.token(SAO_PAULO, "/items/2") == other
    assert await globe.token(TOKYO) == own


async def test_an_announcement_wakes_a_running_courier(globe: Globe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "POLL_SECONDS", 3600.0)
    await eventually(lambda: globe.source.events.is_connected)
    async with running(globe.courier()):
        for _ in range(3):
            before = await globe.token(SAO_PAULO)
            await globe.announce("/items/1")
            await globe.hears(SAO_PAULO, before)


async def test_each_item_is_delivered_once_while_nothing_fails(globe: Globe) -> None:
    courier = globe.courier()
    await globe.announce("/items/1", "/items/2")
    assert await courier.turn() == 4  # two items, two regions
    assert await courier.turn() == 0
    await globe.announce("/items/1")
    assert await courier.turn() == 2


async def test_a_region_that_was_down_hears_when_it_is_back(tmp_path: Path) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    async with (
        ValkeyServer(tmp_path / TOKYO) as source,
        ValkeyServer(tmp_path / SAO_PAULO, config=config) as target,
        opened(source.url, TOKYO) as one,
        opened(target.url, SAO_PAULO, breaker_seconds=0.1) as other,
    ):
        globe = Globe({TOKYO: source, SAO_PAULO: target}, {TOKYO: one, SAO_PAULO: other})
        await one.register({SAO_PAULO: target.url})
        await globe.token(SAO_PAULO)
        async with running(globe.courier()):
            await target.kill()
            await globe.announce("/items/1")
            await eventually(lambda: other.queue_breaker.is_open)  # a delivery has failed
            await target.start()

            async def is_outdated() -> bool:
                with contextlib.suppress(RegionUnavailableError):
                    seen = await entries.glance(other, other.partitions[0], "key", ITEM)
                    return seen.state is not None and seen.state.token != before
                return False

            before = await raw_token(target)
            await eventually(is_outdated)


async def raw_token(server: ValkeyServer) -> str:
    """The token of the item as it stands in a server, read past everything."""
    async with server.client() as client:
        state: bytes = await raw(client, "GET", f"{{rc:{SAO_PAULO}:0}}:s:{ITEM.digest}")
    return state.decode().partition("|")[0]


async def test_a_region_that_restarted_hears_the_last_minute_again(globe: Globe) -> None:
    courier = globe.courier()
    await globe.announce("/items/1")
    assert await courier.turn() == 2
    await globe.servers[SAO_PAULO].restart()  # it has forgotten everything
    before = await globe.token(SAO_PAULO)

    async def is_noticed() -> bool:
        return await courier.turn() == 1

    await eventually(is_noticed)
    assert await globe.token(SAO_PAULO) != before
    assert await courier.turn() == 0


async def test_a_backlog_beyond_the_outbox_flushes_the_region(globe: Globe, caplog: pytest.LogCaptureFixture) -> None:
    courier = globe.courier()
    await globe.announce("/items/1")
    await courier.turn()
    there = globe.stores[SAO_PAULO]
    await fetched(there, "/never/announced")
    await globe.announce("/items/2", "/items/3")
    async with globe.servers[TOKYO].client() as client:
        await raw(client, "XTRIM", globe.partition.out, "MAXLEN", 1)
    assert await courier.turn() == 0  # the flush says it all
    assert "too far behind" in caplog.text
    assert await standing_of(there, "/never/announced") is Standing.INVALIDATED
    caplog.clear()
    await fetched(there, "/never/announced")
    await globe.announce("/items/4")
    assert await courier.turn() == 2
    assert "too far behind" not in caplog.text
    assert await standing_of(there, "/never/announced") is Standing.USABLE


async def test_a_region_that_is_registered_later_is_told_too(globe: Globe) -> None:
    async with globe.servers[TOKYO].client() as client:
        await raw(client, "HDEL", "rc:regions", VIRGINIA)
    before = await globe.token(VIRGINIA)
    async with running(globe.courier()):
        await globe.announce("/items/1")
        sao_paulo = await globe.token(SAO_PAULO)
        await globe.announce("/items/1")
        await globe.hears(SAO_PAULO, sao_paulo)
        assert await globe.token(VIRGINIA) == before
        await globe.source.register({VIRGINIA: globe.servers[VIRGINIA].url})
        await globe.hears(VIRGINIA, before)


async def test_a_region_that_does_not_answer_holds_up_no_other(tmp_path: Path, globe: Globe) -> None:
    async with TcpProxy("127.0.0.1", globe.servers[VIRGINIA].port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with opened(url, VIRGINIA, queue_timeout=60.0, timeout=20.0) as slow:
            globe.stores[VIRGINIA] = slow
            proxy.blackhole()
            async with running(globe.courier()):
                for _ in range(2):
                    before = await globe.token(SAO_PAULO)
                    await globe.announce("/items/1")
                    await globe.hears(SAO_PAULO, before)
                await proxy.accept()


async def test_a_region_with_another_number_of_partitions_hears_in_the_right_one(tmp_path: Path) -> None:
    """Also one that was down when it was adopted: until it is known how many it has, nothing counts as told."""
    target = ValkeyServer(tmp_path / "target")
    async with target, opened(target.url, SAO_PAULO, partitions=8):
        await target.stop()
        async with ValkeyServer(tmp_path / "source") as source, opened(source.url, TOKYO) as one:
            adopted = RegionStore(
                Region(SAO_PAULO, redis=target.url),
                Connections(breaker_seconds=0.05),
                writes_behind=False,
                adopted=True,
            )
            await adopted.open()
            globe = Globe({TOKYO: source}, {TOKYO: one, SAO_PAULO: adopted})
            await one.register({SAO_PAULO: target.url})
            courier = globe.courier()
            paths = [f"/group{n}/item" for n in range(12)]
            await globe.announce(*paths)
            assert await courier.turn() == 0
            await target.start()
            async with opened(target.url, SAO_PAULO, partitions=8) as owner:
                globe.stores[SAO_PAULO] = owner
                before = [await globe.token(SAO_PAULO, path) for path in paths]
                globe.stores[SAO_PAULO] = adopted

                async def is_told() -> bool:
                    return await courier.turn() == 12

                await eventually(is_told)
                globe.stores[SAO_PAULO] = owner
                after = [await globe.token(SAO_PAULO, path) for path in paths]
                assert not set(before) & set(after)
            await adopted.close()


async def test_one_of_two_couriers_carries_and_the_other_takes_over(globe: Globe) -> None:
    one, other = globe.courier(), globe.courier()
    await globe.announce("/items/1")
    delivered = [await one.turn(), await other.turn()]
    assert delivered == [2, 0]
    one.start()
    await one.stop()
    await globe.announce("/items/1")
    assert await other.turn() == 2


async def test_a_courier_that_is_killed_is_replaced_when_its_time_is_over(globe: Globe) -> None:
    gone, heir = globe.courier(), globe.courier()
    await gone.turn()
    await globe.announce("/items/1")
    assert await heir.turn() == 0
    async with globe.servers[TOKYO].client() as client:
        for name in (SAO_PAULO, VIRGINIA):
            assert await raw(client, "PEXPIRE", f"{globe.partition.courier}:{name}", 1)
    delivered = 0

    async def has_taken_over() -> bool:
        nonlocal delivered
        delivered += await heir.turn()
        return delivered == 2

    await eventually(has_taken_over)


async def test_trimming_keeps_what_a_slow_region_has_not_heard(globe: Globe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEEP_SECONDS", -3600.0)
    monkeypatch.setattr(courier_module, "TRIM_TURNS", 1)
    courier, slow = globe.courier(), globe.stores.pop(VIRGINIA)
    for n in range(5):
        await globe.announce(f"/items/{n}")
        assert await courier.turn() == 1
    globe.stores[VIRGINIA] = slow
    assert await courier.turn() == 5
    await courier.turn()
    async with globe.servers[TOKYO].client() as client:
        assert len(await raw(client, "XRANGE", globe.partition.out, "-", "+")) == 1


async def test_stopping_delivers_what_is_there(globe: Globe) -> None:
    before = await globe.token(SAO_PAULO)
    courier = globe.courier()
    courier.start()

    async def has_begun() -> bool:
        async with globe.servers[TOKYO].client() as client:
            return bool(await raw(client, "EXISTS", f"{globe.partition.courier}:{SAO_PAULO}"))

    await eventually(has_begun)
    await globe.announce("/items/1")
    await courier.stop()
    assert await globe.token(SAO_PAULO) != before


async def test_an_address_that_cannot_be_used_holds_up_no_region(globe: Globe) -> None:
    await globe.source.register({"nowhere": "gopher://nowhere", "lost": f"redis://127.0.0.1:{free_port()}"})
    before = await globe.token(SAO_PAULO)
    await globe.announce("/items/1")
    async with running(globe.courier()):
        await globe.hears(SAO_PAULO, before)


async def test_an_edge_tells_a_region_that_its_settings_do_not_know(tmp_path: Path) -> None:
    async with (
        World(tmp_path, regions=(TOKYO,)) as world,
        ValkeyServer(tmp_path / "new") as new,
        opened(new.url, SAO_PAULO, partitions=4) as unknown,
    ):
        edge = await world.edge()
        await edge.cache.stores[TOKYO].register({SAO_PAULO: new.url})
        partition = unknown.partition(ITEM)
        before = await entries.begin(unknown, partition, ITEM)
        written = await edge.put("/items/1", {"n": 1}, headers=worlds.TOKYO)
        assert written.status == 202

        async def has_heard() -> bool:
            return (await entries.begin(unknown, partition, ITEM)).token != before.token

        await eventually(has_heard)


async def test_a_write_in_one_region_reaches_readers_of_all_others(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first, second = await world.edge(home_region=TOKYO), await world.edge(home_region=SAO_PAULO)
        world.origin.documents["/items/1"] = {"n": 0}
        for edge in (first, second):

            async def is_hit(edge: worlds.Edge = edge) -> bool:
                return "hit" in (await edge.get("/items/1")).cache_status

            await eventually(is_hit)
        assert (await first.put("/items/1", {"n": 1})).status == 202

        async def is_new() -> bool:
            return bool(json.loads((await second.get("/items/1")).body) == {"n": 1})

        await eventually(is_new)
