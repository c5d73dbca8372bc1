"""What a process knows of the sites, on real regions: what it asks, how long it believes, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.settings import Sites
from aiohttp_regioncache.site import Site
from aiohttp_regioncache.sites.directory import REFRESH_SHARE, UNKNOWN, Directory
from aiohttp_regioncache.sites.store import delete_site, put_site
from aiohttp_regioncache.store import sites
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.sites.tools import Clock, Regions, site
from tests.store.tools import raw
from tests.support import eventually

SECONDS = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Reads:
    """The reads of hosts in a region, which wait before they give what they have read while `gate` is cleared."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def find_stored(self, store: RegionStore, host: str) -> sites.StoredSite | None:
        found = await _find_stored(store, host)
        self.count += 1
        await self.gate.wait()
        return found


_find_stored = sites.find_stored


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    reads = Reads()
    monkeypatch.setattr(sites, "find_stored", reads.find_stored)
    yield reads
    reads.gate.set()


def directory(stores: Any, clock: Clock, **options: Any) -> Directory:
    """What a process knows of the sites of regions."""
    return Directory(stores, Sites(enabled=True, cache_seconds=SECONDS, **options), clock)


async def connected(regions: Regions) -> None:
    """Wait until what regions announce is heard."""
    await eventually(lambda: all(store.events.is_connected for store in regions.stores))


async def ask(known: Directory, host: str) -> Site | None:
    """Ask as a request does."""
    found = known.known(host)
    return await known.find(host) if found is UNKNOWN else found


# --- Asking ---


async def test_hosts_that_are_none_push_no_site_out(regions: Regions, clock: Clock) -> None:
    await put_site(regions.stores, site())
    known = directory(regions.stores, clock, max_known=5)
    await ask(known, "shop.example")
    for number in range(20):
        await ask(known, f"{number}.nobody.example")
    assert known.known("shop.example") is not UNKNOWN
    assert [known.known(f"{number}.nobody.example") for number in (14, 15, 19)] == [UNKNOWN, None, None]


async def test_the_site_that_was_asked_for_least_lately_makes_room(regions: Regions, clock: Clock) -> None:
    await put_site(regions.stores, site("*.shop.example"))
    known = directory(regions.stores, clock, max_known=3)
    for name in ("a", "b", "c", "a", "d"):
        await ask(known, f"{name}.shop.example")
    is_known = {name: known.known(f"{name}.shop.example") is not UNKNOWN for name in "abcd"}
    assert is_known == {"a": True, "b": False, "c": True, "d": True}


# --- Time ---


# --- Changes ---


async def test_a_change_in_either_region_counts_at_once_in_both(
    regions: Regions, couriers: tuple[Courier, ...], clock: Clock
) -> None:
    await connected(regions)
    edges = [directory(stores, clock) for stores in (regions.stores, regions.stores[::-1])]
    put = await put_site(regions.stores, site(aliases=["*.shop.example"]))
    hosts = ("shop.example", "a.shop.example")

    async def are_told(expected: Site | None) -> bool:
        found = [await ask(edge, host) for edge in edges for host in hosts]
        return found == [expected] * 4

    await eventually(lambda: are_told(put))
    for order in (regions.stores, regions.stores[::-1]):
        put = await put_site(order, msgspec.structs.replace(put, epoch=put.epoch + 1))
        await eventually(lambda put=put: are_told(put))  # type: ignore[misc]
    await delete_site(regions.stores, put.id)
    await eventually(lambda: are_told(None))


async def test_a_new_name_takes_a_host_from_the_wildcard_and_gives_it_back(regions: Regions, clock: Clock) -> None:
    await connected(regions)
    known = directory([regions.first], clock)
    assert await ask(known, "a.shop.example") is None
    wild = await put_site([regions.first], site("*.shop.example"))

    async def owner_is(expected: Site | None) -> bool:
        return await ask(known, "a.shop.example") == expected

    await eventually(lambda: owner_is(wild))
    named = await put_site([regions.first], site("a.shop.example"))
    await eventually(lambda: owner_is(named))
    await delete_site([regions.first], named.id)
    await eventually(lambda: owner_is(wild))
    await put_site([regions.first], msgspec.structs.replace(wild, domain="*.other.example"))
    await eventually(lambda: owner_is(None))


async def test_a_change_while_a_read_is_under_way_is_in_what_it_gives(
    regions: Regions, clock: Clock, reads: Reads
) -> None:
    await connected(regions)
    heard: list[int] = []
    regions.first.events.on_change(lambda _: heard.append(1))
    put = await put_site([regions.first], site())
    await eventually(lambda: len(heard) == 1)
    known = directory([regions.first], clock)
    reads.gate.clear()
    asking = asyncio.ensure_future(ask(known, "shop.example"))
    await eventually(lambda: reads.count == 1)
    changed = await put_site([regions.first], msgspec.structs.replace(put, epoch=1))
    await eventually(lambda: len(heard) == 2)
    reads.gate.set()
    assert await asking == changed
    assert reads.count == 2


async def test_what_was_published_while_nobody_listened_counts_when_somebody_does(
    regions: Regions, clock: Clock
) -> None:
    await connected(regions)
    put = await put_site([regions.first], site())
    known = directory([regions.first], clock)
    await ask(known, "shop.example")
    links: list[bool] = []
    regions.first.events.on_link(links.append)
    async with regions.servers[0].client() as client:
        await raw(client, "CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: links == [False])
    changed = await put_site([regions.first], msgspec.structs.replace(put, epoch=1))
    assert await ask(known, "shop.example") == put
    await eventually(lambda: links == [False, True])
    assert await ask(known, "shop.example") == changed


async def test_without_announcements_a_change_counts_within_the_time(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.first], site())
    await regions.first.events.close()
    known = directory([regions.first], clock)
    await ask(known, "shop.example")
    changed = await put_site([regions.first], msgspec.structs.replace(put, epoch=1))
    assert await ask(known, "shop.example") == put
    clock.now += SECONDS
    assert await ask(known, "shop.example") == changed


# --- Regions that lag, and that are down ---


async def test_a_region_that_lags_brings_no_older_revision_back(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.first], site())
    stored = await sites.read_stored(regions.first, put.id)
    assert stored is not None
    await sites.take(regions.second, put.id, stored.octets)
    changed = await put_site([regions.first], msgspec.structs.replace(put, epoch=1))
    known = directory(regions.stores, clock)
    assert await ask(known, "shop.example") == changed
    await regions.servers[0].kill()
    clock.now += SECONDS
    assert await ask(known, "shop.example") == changed


async def test_a_region_that_has_not_heard_of_a_site_takes_it_from_nobody(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.first], site())
    known = directory(regions.stores, clock)
    assert await ask(known, "shop.example") == put
    await regions.servers[0].kill()
    clock.now += SECONDS
    assert await ask(known, "shop.example") == put


async def test_a_region_that_lags_gives_a_host_back_to_nobody(regions: Regions, clock: Clock) -> None:
    old = await put_site([regions.first], site())
    stored = await sites.read_stored(regions.first, old.id)
    assert stored is not None
    await sites.take(regions.second, old.id, stored.octets)
    new = await put_site([regions.first], site(origin="http://new.example"))
    known = directory(regions.stores, clock)
    assert await ask(known, "shop.example") == new
    await regions.servers[0].kill()
    clock.now += SECONDS
    assert await ask(known, "shop.example") == new


async def test_a_region_that_lags_brings_no_deleted_site_back(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.first], site())
    stored = await sites.read_stored(regions.first, put.id)
    assert stored is not None
    await sites.take(regions.second, put.id, stored.octets)
    await connected(regions)
    known = directory(regions.stores, clock)
    assert await ask(known, "shop.example") == put
    await delete_site([regions.first], put.id)

    async def is_gone() -> bool:
        return await ask(known, "shop.example") is None

    await eventually(is_gone)
    await regions.servers[0].kill()
    clock.now += SECONDS
    assert await ask(known, "shop.example") is None
    again = await put_site([regions.second], msgspec.structs.replace(put, revision=put.revision + 1))
    clock.now += SECONDS
    assert await ask(known, "shop.example") == again


async def test_a_region_that_restarts_empty_takes_no_site_away(regions: Regions, clock: Clock) -> None:
    await connected(regions)
    put = await put_site([regions.first], site())
    known = directory([regions.first], clock)
    assert await ask(known, "shop.example") == put
    await regions.servers[0].restart()
    await eventually(lambda: known.known("shop.example") is UNKNOWN)

    async def is_there() -> bool:
        return await ask(known, "shop.example") == put

    await eventually(is_there)


async def test_with_the_first_region_down_the_next_is_asked(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.second], site())
    await regions.servers[0].kill()
    known = directory(regions.stores, clock)
    assert await ask(known, "shop.example") == put
    assert known.stale == 0


async def test_with_all_regions_down_the_last_that_is_known_is_used_and_counted(
    regions: Regions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    put = await put_site([regions.first], site(aliases=["other.example"]))
    known = directory([regions.first], clock)
    for host in (*put.hosts, "nobody.example"):
        await ask(known, host)
    await regions.servers[0].kill()
    await eventually(lambda: not regions.first.events.is_connected)
    clock.now += SECONDS * REFRESH_SHARE
    assert await ask(known, "shop.example") == put
    await known.drain(5)
    assert known.stale == 0  # it is not beyond its time yet
    clock.now += SECONDS
    for count in range(1, 4):
        assert await ask(known, "shop.example") == put
        assert known.stale == count
    assert await ask(known, "other.example") == put
    assert await ask(known, "nobody.example") is None
    assert known.stale == 5
    with pytest.raises(RegionUnavailableError):
        await ask(known, "new.example")
    assert caplog.text.count("no region can say what it is") == 1
    await regions.servers[0].start()

    async def is_back() -> bool:
        clock.now += SECONDS
        before = known.stale
        return await ask(known, "shop.example") == put and known.stale == before

    await eventually(is_back)


async def test_a_site_that_cannot_be_read_is_asked_for_in_the_next_region(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.second], site(id="one"))
    await sites.take(regions.first, "one", b"17|" + msgspec.msgpack.encode([1, {"shop.example": 0}, {"domain": 5}]))
    known = directory(regions.stores, clock)
    assert await ask(known, "shop.example") == put
    assert await known.by_id("one") == put


async def test_everything_is_let_go_at_the_end(regions: Regions, clock: Clock, reads: Reads) -> None:
    known = directory(regions.stores, clock)
    reads.gate.clear()
    asking = asyncio.ensure_future(ask(known, "shop.example"))
    await eventually(lambda: reads.count == 1)
    await known.drain(0.01)
    with pytest.raises(asyncio.CancelledError):
        await asking
