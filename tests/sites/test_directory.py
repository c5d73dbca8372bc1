"""The micro-cache of sites on real regions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.settings import Sites
from aiohttp_regioncache.site import Site, host_candidates
from aiohttp_regioncache.sites.directory import REFRESH_SHARE, UNKNOWN, Directory
from aiohttp_regioncache.sites.store import delete_site, put_site
from aiohttp_regioncache.store import sites
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.sites.tools import Clock, Regions, put_and_hear, site
from tests.store.tools import raw
from tests.support import eventually

SECONDS = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def directory(regions: Regions, clock: Clock) -> AsyncIterator[Directory]:
    directory = _directory(regions, clock)
    await eventually(lambda: all(store.events.is_connected for store in regions.stores))
    yield directory
    await directory.drain(5)


def _directory(regions: Regions, clock: Clock, **settings: float) -> Directory:
    return Directory(regions.stores, Sites(enabled=True, **settings), clock)  # type: ignore[arg-type]


async def test_what_is_known_is_not_asked_again(directory: Directory, store: RegionStore) -> None:
    put = await put_and_hear(store, site())
    assert directory.known("shop.example") is UNKNOWN
    assert await directory.find("shop.example") == put
    assert directory.known("SHOP.example.:8080") is await directory.find("shop.example")
    assert await directory.by_id(put.id) == put
    for _ in range(50):
        assert directory.known("shop.example") == put
        assert await directory.by_id(put.id) == put
    assert (directory.read, directory.asked) == (3, 103)  # the host, the id, and whether anything changes


async def test_a_site_is_one_object_under_all_its_names(directory: Directory, store: RegionStore) -> None:
    put = await put_site([store], site(aliases=["*.shop.example"]))
    hosts = ("shop.example", "a.shop.example", "b.shop.example")
    found = [*[await directory.find(host) for host in hosts], await directory.by_id(put.id)]
    assert found[0] == put
    assert all(each is found[0] for each in found)
    newer = await put_site([store], msgspec.structs.replace(put, epoch=1))
    await eventually(lambda: all(directory.known(host) == newer for host in hosts))
    assert len({id(directory.known(host)) for host in hosts}) == 1


async def test_what_a_change_costs_does_not_grow_with_the_wildcards_of_a_site(
    directory: Directory, store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        await directory.find(f"h{number}.nobody.example")
    compared: list[str] = []

    def candidates(host: str) -> tuple[str, ...]:
        compared.append(host)
        return host_candidates(host)

    monkeypatch.setattr("aiohttp_regioncache.sites.directory.host_candidates", candidates)
    await put_site([store], site(aliases=["*.nobody.example", *(f"*.w{number}.example" for number in range(200))]))
    await eventually(lambda: isinstance(directory.known("h7.nobody.example"), Site))
    assert len(compared) <= 2 * 50


async def test_many_who_ask_at_once_share_one_read(directory: Directory, store: RegionStore) -> None:
    put = await put_and_hear(store, site())
    found = await asyncio.gather(*(directory.find("shop.example") for _ in range(100)))
    assert found == [put] * 100
    # Whether anything changes, the host, and once more when the announcement of the site comes meanwhile.
    assert directory.read <= 3


async def test_who_leaves_takes_the_read_from_nobody(directory: Directory, store: RegionStore) -> None:
    put = await put_and_hear(store, site())
    waiting = [asyncio.ensure_future(directory.find("shop.example")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert await waiting[1] == put


async def test_hosts_that_are_nobodys_are_known_too_and_push_no_site_out(regions: Regions, clock: Clock) -> None:
    directory = _directory(regions, clock, max_known=10)
    put = await put_site([regions.first], site())
    await directory.find("shop.example")
    for number in range(50):
        assert await directory.find(f"h{number}.nobody.example") is None
    assert directory.known("h49.nobody.example") is None
    assert directory.known("h0.nobody.example") is UNKNOWN
    assert directory.known("shop.example") == put
    assert directory.known("[::1]") is None


async def test_the_least_asked_for_goes_when_there_are_too_many(regions: Regions, clock: Clock) -> None:
    directory = _directory(regions, clock, max_known=10)
    names = [f"s{number}.example" for number in range(12)]
    for name in names:
        await put_site([regions.first], site(name))
        await directory.find(name)
        directory.known(names[0])
    assert directory.known(names[0]) is not UNKNOWN
    assert directory.known(names[1]) is UNKNOWN


async def test_it_is_read_again_in_the_background_before_it_runs_out(
    directory: Directory, store: RegionStore, clock: Clock
) -> None:
    put = await put_and_hear(store, site())
    await directory.find("shop.example")
    read = directory.read
    clock.now += REFRESH_SHARE * SECONDS
    for _ in range(10):
        assert directory.known("shop.example") == put  # nobody waits
    await directory.drain(5)
    assert directory.read == read + 1
    clock.now += REFRESH_SHARE * SECONDS - 0.1
    assert directory.known("shop.example") == put
    clock.now += SECONDS
    assert directory.known("shop.example") is UNKNOWN


async def test_one_answer_vouches_for_all_while_nothing_changes(
    directory: Directory, store: RegionStore, clock: Clock
) -> None:
    for number in range(20):
        await put_and_hear(store, site(f"s{number}.example"))
        await directory.find(f"s{number}.example")
    await directory.find("nobody.example")
    read = directory.read
    for turn in range(1, 10):
        clock.now += REFRESH_SHARE * SECONDS
        assert directory.known("nobody.example") is None
        await directory.drain(5)
        assert directory.read == read + turn
        assert all(directory.known(f"s{number}.example") is not UNKNOWN for number in range(20))
    assert directory.read == read + 9


async def test_a_change_that_was_not_heard_of_ends_that(directory: Directory, regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.first], site())
    other = await put_site([regions.first], site("other.example"))
    for host in ("shop.example", "other.example"):
        await directory.find(host)
    callbacks = regions.first.events._on_change
    deaf = callbacks[:]
    callbacks.clear()
    put = await put_site([regions.first], msgspec.structs.replace(put, epoch=1))
    callbacks.extend(deaf)
    clock.now += REFRESH_SHARE * SECONDS
    assert directory.known("other.example") == other
    clock.now += SECONDS - REFRESH_SHARE * SECONDS
    assert directory.known("shop.example") is UNKNOWN
    found = await directory.find("shop.example")
    assert found is not None
    assert found.revision == put.revision


async def _until(directory: Directory, host: str, revision: int) -> None:
    await eventually(lambda: _is(directory, host, revision))


async def _is(directory: Directory, host: str, revision: int) -> bool:
    known = directory.known(host)
    return isinstance(known, Site) and known.revision == revision


async def test_a_published_change_counts_at_once(
    directory: Directory, regions: Regions, couriers: tuple[Courier, Courier]
) -> None:
    assert couriers
    put = await put_site([regions.first], site())
    await directory.find("shop.example")
    for stores in ([regions.first], [regions.second], [regions.first]):
        put = await put_site(stores, msgspec.structs.replace(put, epoch=put.epoch + 1))
        await _until(directory, "shop.example", put.revision)


async def test_a_new_site_ends_that_its_hosts_are_nobodys(directory: Directory, store: RegionStore) -> None:
    assert await directory.find("a.shop.example") is None
    wild = await put_site([store], site("*.shop.example"))
    await eventually(lambda: _is(directory, "a.shop.example", wild.revision))
    named = await put_site([store], site("a.shop.example"))
    await eventually(lambda: _is(directory, "a.shop.example", named.revision))
    await delete_site([store], named.id)
    await eventually(lambda: _is(directory, "a.shop.example", wild.revision))


async def test_a_site_that_gives_a_host_up_or_goes_is_known_at_once(directory: Directory, store: RegionStore) -> None:
    put = await put_site([store], site(aliases=["old.example"]))
    assert await directory.find("old.example") == put
    put = await put_site([store], msgspec.structs.replace(put, aliases=()))
    await eventually(lambda: directory.known("old.example") is None)
    await directory.find("shop.example")
    await directory.by_id(put.id)
    await delete_site([store], put.id)
    await eventually(lambda: directory.known("shop.example") is None)
    assert await directory.by_id(put.id) is None


async def test_a_change_while_it_is_being_read_is_not_missed(
    directory: Directory, store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = await put_site([store], site())
    real, went, gate = sites.find_stored, asyncio.Event(), asyncio.Event()

    async def held(*arguments: object) -> object:
        found = await real(*arguments)  # type: ignore[arg-type]
        went.set()
        await gate.wait()
        return found

    monkeypatch.setattr(sites, "find_stored", held)
    reading = asyncio.ensure_future(directory.find("shop.example"))
    await went.wait()
    put = await put_site([store], msgspec.structs.replace(put, epoch=7))
    await eventually(lambda: directory._flights["shop.example"].is_outdated)
    gate.set()
    found = await reading
    assert found is not None
    assert found.revision == put.revision


async def test_an_older_revision_of_a_region_that_lags_does_not_come_back(regions: Regions, clock: Clock) -> None:
    old = await put_site([regions.second], site(id="shop"))
    (stored,) = await sites.read_all(regions.second)
    await sites.take(regions.first, stored.id, stored.octets)
    new = await put_site([regions.second], msgspec.structs.replace(old, epoch=1))
    ahead = Directory([regions.second], Sites(enabled=True), clock)
    both = Directory([regions.second, regions.first], Sites(enabled=True), clock)
    assert await both.find("shop.example") == new == await ahead.find("shop.example")
    await regions.servers[1].kill()
    clock.now += 2 * SECONDS
    assert await both.find("shop.example") == new  # the first region still has the older one
    await both.drain(5)


async def test_the_next_region_is_asked_when_the_first_is_down(
    directory: Directory, regions: Regions, couriers: tuple[Courier, Courier]
) -> None:
    assert couriers
    put = await put_site([regions.first], site())

    async def is_told() -> bool:
        return await sites.find_stored(regions.second, "shop.example") is not None

    await eventually(is_told)
    await regions.servers[0].kill()
    assert await directory.find("shop.example") == put


async def test_with_every_region_down_the_last_that_was_known_is_used_beyond_its_time(
    directory: Directory, regions: Regions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    put = await put_site([regions.first], site())
    await directory.find("shop.example")
    await directory.by_id(put.id)
    for server in regions.servers:
        await server.kill()
    clock.now += 100 * SECONDS
    with caplog.at_level(logging.WARNING):
        assert directory.known("shop.example") is UNKNOWN
        assert await directory.find("shop.example") == put
        assert await directory.by_id(put.id) == put
    assert directory.stale == 2
    assert "the last that is known is used" in caplog.text
    assert directory.known("shop.example") == put  # and is not asked for by each request
    with pytest.raises(RegionUnavailableError):
        await directory.find("never.example")


async def test_in_an_outage_no_request_waits_for_the_next_attempt(
    directory: Directory, regions: Regions, clock: Clock
) -> None:
    put = await put_site([regions.first], site())
    await directory.find("shop.example")
    for server in regions.servers:
        await server.kill()
    clock.now += SECONDS
    assert await directory.find("shop.example") == put
    for _ in range(5):
        clock.now += 5
        read = directory.read
        assert directory.known("shop.example") == put
        await directory.drain(5)
        assert directory.read > read  # it goes on asking
    clock.now += 2 * SECONDS
    assert directory.known("shop.example") is UNKNOWN  # nobody has asked for long: it may be over


async def test_without_publishing_a_change_counts_within_the_time(regions: Regions, clock: Clock) -> None:
    put = await put_site([regions.first], site())
    directory = _directory(regions, clock)
    for store in regions.stores:
        store.events._on_change.clear()  # cut off: nothing is heard
    await directory.find("shop.example")
    put = await put_site([regions.first], msgspec.structs.replace(put, epoch=1))
    assert not await _is(directory, "shop.example", put.revision)
    clock.now += SECONDS
    assert directory.known("shop.example") is UNKNOWN
    found = await directory.find("shop.example")
    assert found is not None
    assert found.revision == put.revision
    await directory.drain(5)


async def test_when_a_subscription_was_lost_all_is_asked_again(directory: Directory, regions: Regions) -> None:
    put = await put_site([regions.first], site())
    await directory.find("shop.example")
    for store in regions.stores:
        async with regions.servers[regions.stores.index(store)].client() as client:
            await raw(client, "CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: directory.known("shop.example") is UNKNOWN)
    assert await directory.find("shop.example") == put
