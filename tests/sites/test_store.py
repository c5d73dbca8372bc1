"""The sites of real regions: which revision counts, who has a host, and what the others hear."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import msgspec
import pytest

from aiohttp_regioncache.errors import (
    CorruptRecordError,
    RegionUnavailableError,
    SiteBusyError,
    UnknownSiteError,
    UnreadableRecordError,
)
from aiohttp_regioncache.settings import Queue
from aiohttp_regioncache.site import Site
from aiohttp_regioncache.sites.store import delete_site, get_site, list_sites, put_site
from aiohttp_regioncache.store import outbox, sites
from aiohttp_regioncache.store.accepting import Acceptance, accept
from aiohttp_regioncache.store.events import Changed
from aiohttp_regioncache.store.keyspace import SITES
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.courier import Courier
from tests.sites.tools import Regions, site
from tests.store.tools import SAO_PAULO, acceptance, claim_one, opened, raw, settle
from tests.support import eventually
from tests.support.servers import ValkeyCluster, ValkeyServer

RULES = [{"path": "/items/{id}", "write": "behind", "affects": ["/items"]}]


async def owner(store: RegionStore, host: str) -> str | None:
    """The id of the site that has a host."""
    found = await get_site(store, host)
    return None if found is None else found.id


# --- One region ---


async def test_a_site_is_found_by_its_hosts_and_its_id(store: RegionStore) -> None:
    given = site(aliases=["*.shop.example", "other.example"], rules=RULES, features={"polish": "lossy"}, ttl={"404": 5})
    put = await put_site([store], given)
    assert put == msgspec.structs.replace(given, id=put.id, revision=put.revision)
    assert abs(put.revision - store.now() * 1000) < 60_000
    for name in ("shop.example", "a.shop.example", "Other.Example.", "*.shop.example", put.id):
        assert await get_site(store, name) == put
    for name in ("example", "a.b.shop.example", "shop.example.org", "nobody"):
        assert await get_site(store, name) is None
    assert await list_sites(store) == [put]


async def test_a_name_counts_before_the_wildcard_beside_it(store: RegionStore) -> None:
    wild = await put_site([store], site("*.shop.example"))
    named = await put_site([store], site("a.shop.example"))
    assert await owner(store, "a.shop.example") == named.id
    assert await owner(store, "b.shop.example") == wild.id
    await delete_site([store], named.id)
    assert await owner(store, "a.shop.example") == wild.id


async def test_another_put_under_the_id_is_a_newer_revision_and_gives_up_hosts(store: RegionStore) -> None:
    first = await put_site([store], site(aliases=["old.example"]))
    second = await put_site([store], msgspec.structs.replace(first, aliases=("new.example",)))
    assert second.id == first.id
    assert second.revision > first.revision
    assert await owner(store, "old.example") is None
    assert await get_site(store, "new.example") == second


async def test_the_revision_grows_past_a_clock_that_goes_wrong(store: RegionStore) -> None:
    ahead = int(store.now() * 1000) + 10_000_000
    first = await put_site([store], site(revision=ahead))
    assert first.revision == ahead + 1
    second = await put_site([store], msgspec.structs.replace(first, revision=0))
    assert second.revision == ahead + 2


async def test_a_host_goes_to_who_came_to_it_last_and_stays_when_the_other_one_is_changed(store: RegionStore) -> None:
    old = await put_site([store], site(aliases=["more.example"]))
    new = await put_site([store], site(origin="http://new.example"))
    assert await owner(store, "shop.example") == new.id
    assert await owner(store, "more.example") == old.id
    old = await put_site([store], msgspec.structs.replace(old, ttl=5.0))
    assert await owner(store, "shop.example") == new.id
    await delete_site([store], new.id)
    assert await get_site(store, "shop.example") == old


async def test_a_deleted_site_is_remembered_for_days_so_that_no_older_revision_revives_it(
    store: RegionStore, regions: Regions
) -> None:
    put = await put_site([store], site())
    (stored,) = await sites.read_all(store)
    await delete_site([store], put.id)
    await sites.take(store, stored.id, stored.octets)
    assert await get_site(store, "shop.example") is None
    assert await get_site(store, put.id) is None
    assert await list_sites(store) == []
    async with regions.servers[0].client() as client:
        assert 0 < await raw(client, "TTL", f"rc:site:{put.id}") <= sites.DELETED_SECONDS
        assert await raw(client, "EXISTS", "rc:domain:shop.example") == 0
    with pytest.raises(UnknownSiteError):
        await delete_site([store], put.id)
    again = await put_site([store], put)
    assert await get_site(store, "shop.example") == again


async def test_a_site_whose_deletion_is_forgotten_leaves_the_index(store: RegionStore, regions: Regions) -> None:
    async with regions.servers[0].client() as client:
        await raw(client, "ZADD", SITES, 1, "long-gone", int(store.now() * 1000), "just-being-put")
        assert await list_sites(store) == []
        assert await raw(client, "ZRANGE", SITES, 0, -1) == [b"just-being-put"]


def _of_site(site_id: str, write: Acceptance) -> Acceptance:
    return msgspec.structs.replace(write, record=msgspec.structs.replace(write.record, site=site_id))


async def test_a_site_with_pending_writes_is_not_deleted(store: RegionStore) -> None:
    put = await put_site([store], site(id="shop"))
    write = _of_site(put.id, acceptance("/items/1"))
    partition = store.partition(write.target)
    accepted = await accept(store, partition, write, Queue())
    with pytest.raises(SiteBusyError, match="site shop: 1 writes are pending in region ap-northeast-1"):
        await delete_site([store], put.id)
    other = await put_site([store], site("other.example"))
    await delete_site([store], other.id)
    claimed = await claim_one(store, partition)
    await settle(store, partition, claimed, write, accepted.seq, "dead", blocks=True)
    with pytest.raises(SiteBusyError):
        await delete_site([store], put.id)
    assert await get_site(store, put.id) == put


async def test_pending_writes_in_any_region_count(regions: Regions) -> None:
    put = await put_site(regions.stores, site(id="shop"))
    write = _of_site(put.id, acceptance("/items/1", region=SAO_PAULO))
    await accept(regions.second, regions.second.partition(write.target), write, Queue())
    with pytest.raises(SiteBusyError, match=SAO_PAULO):
        await delete_site(regions.stores, put.id)
    assert await get_site(regions.first, put.id) == put


async def test_a_site_of_a_newer_version_is_left_alone_and_a_broken_one_may_be_put_again(
    store: RegionStore, regions: Regions
) -> None:
    async with regions.servers[0].client() as client:
        newer = msgspec.msgpack.encode([sites.VERSION + 1, {"new.example": 0}, {"domain": 5}, "more"])
        await sites.take(store, "newer", b"17|" + newer)
        await sites.take(store, "broken", b"no revision")
        with pytest.raises(UnreadableRecordError):
            await get_site(store, "new.example")
        with pytest.raises(UnreadableRecordError):
            await put_site([store], site(id="newer"))
        for octets in (b"17|\xc1", b"nothing", b"17|" + msgspec.msgpack.encode([1, {}, {"domain": 5}])):
            await raw(client, "SET", "rc:site:broken", octets)
            await raw(client, "ZADD", SITES, 17, "broken")
            assert await list_sites(store) == []
            with pytest.raises(CorruptRecordError):
                await get_site(store, "broken")
        await put_site([store], site(id="broken"))
    assert [each.id for each in await list_sites(store)] == ["broken"]


async def test_code_in_a_stored_site_is_not_imported(store: RegionStore) -> None:
    rules = [{"path": "/", "write": "behind", "effect": "tests.sites.bomb:effect"}]
    record = msgspec.msgpack.encode(
        [1, {"shop.example": 0}, {"domain": "shop.example", "origin": "http://o", "rules": rules}]
    )
    await sites.take(store, "evil", b"17|" + record)
    with pytest.raises(CorruptRecordError, match="names code"):
        await get_site(store, "shop.example")


async def test_a_change_is_announced_with_the_hosts_before_and_after(store: RegionStore) -> None:
    heard: list[Changed] = []
    store.events.on_change(heard.append)
    await eventually(lambda: store.events.is_connected)
    put = await put_site([store], site(aliases=["old.example"]))
    await put_site([store], msgspec.structs.replace(put, aliases=("new.example",)))
    await delete_site([store], put.id)
    await eventually(lambda: len(heard) == 3)
    assert {change.site for change in heard} == {put.id}
    assert [change.hosts for change in heard] == [
        ("old.example", "shop.example"),
        ("new.example", "old.example", "shop.example"),
        ("new.example", "shop.example"),
    ]


async def test_at_full_memory_a_site_can_still_be_changed(store: RegionStore, regions: Regions) -> None:
    put = await put_site([store], site())
    async with regions.servers[0].client() as client:
        await raw(client, "CONFIG", "SET", "maxmemory", "1")
        changed = await put_site([store], msgspec.structs.replace(put, ttl=7.0))
        assert await get_site(store, "shop.example") == changed


# --- Several regions ---


async def test_the_other_region_hears_of_puts_and_deletions(regions: Regions, couriers: tuple[Courier, ...]) -> None:
    put = await put_site(regions.stores, site(aliases=["*.shop.example"]))

    async def is_there() -> bool:
        return await get_site(regions.second, "a.shop.example") == put

    await eventually(is_there)
    changed = await put_site(regions.stores[::-1], msgspec.structs.replace(put, aliases=(), ttl=5.0))

    async def is_changed() -> bool:
        return await list_sites(regions.first) == [changed] and await owner(regions.first, "a.shop.example") is None

    await eventually(is_changed)
    await delete_site(regions.stores, put.id)

    async def is_gone() -> bool:
        return await list_sites(regions.second) == []

    await eventually(is_gone)


async def test_with_the_first_region_down_the_next_one_does_it(regions: Regions, couriers: tuple[Courier, ...]) -> None:
    await regions.servers[0].kill()
    put = await put_site(regions.stores, site())
    assert await get_site(regions.second, put.id) == put
    await regions.servers[0].start()  # it has forgotten everything

    async def has_heard() -> bool:
        try:
            return await get_site(regions.first, "shop.example") == put
        except RegionUnavailableError:
            return False

    await eventually(has_heard)
    await regions.servers[1].kill()
    await regions.servers[0].kill()
    with pytest.raises(RegionUnavailableError):
        await put_site(regions.stores, put)


async def test_a_region_that_restarted_empty_or_comes_later_gets_every_site(regions: Regions, tmp_path: Path) -> None:
    courier = regions.courier(regions.first)
    put = [await put_site(regions.stores, site(f"{n}.example")) for n in range(5)]
    await delete_site(regions.stores, put.pop().id)
    async with regions.servers[0].client() as client:
        await raw(client, "DEL", regions.first.partitions[0].out)  # as when all have heard and a minute has gone
    await courier.turn()
    assert await list_sites(regions.second) == put
    await regions.servers[1].restart()

    async def is_told() -> bool:
        await courier.turn()
        return await list_sites(regions.second) == put

    await eventually(is_told)
    async with ValkeyServer(tmp_path / "new") as server, opened(server.url, "us-east-1") as new:
        regions.stores = (*regions.stores, new)  # type: ignore[assignment]
        await regions.first.register({"us-east-1": server.url})
        await courier.turn()
        assert await list_sites(new) == put


async def test_a_region_that_was_too_far_behind_gets_every_site(regions: Regions) -> None:
    courier = regions.courier(regions.first)
    first = await put_site(regions.stores, site("a.example"))
    await courier.turn()
    second = await put_site(regions.stores, site("b.example"))
    await outbox.trim(regions.first, regions.first.partitions[0], ())
    async with regions.servers[0].client() as client:
        await raw(client, "XTRIM", regions.first.partitions[0].out, "MAXLEN", 0)
        await raw(client, "XADD", regions.first.partitions[0].out, "*", "i", outbox.announce("g", ("d",)))
    await courier.turn()
    assert await list_sites(regions.second) == [first, second]


# --- Revisions in any order, against a model ---


async def _replay(target: RegionStore, revisions: list[tuple[str, bytes]], seed: int) -> dict[str, str | None]:
    """Let a region take revisions in any order, some twice, some at once; say who has which host then."""
    rng = random.Random(seed)
    order = [*revisions, *rng.sample(revisions, len(revisions) // 3)]
    rng.shuffle(order)
    while order:
        some = [order.pop() for _ in range(min(len(order), rng.randint(1, 4)))]
        if len({site_id for site_id, _ in some}) == len(some):
            await asyncio.gather(*(sites.take(target, *each) for each in some))
        else:
            for each in some:
                await sites.take(target, *each)
    return {host: await owner(target, host) for host in HOSTS}


HOSTS = [f"{n}.example" for n in range(4)]


def _expected(newest: dict[str, sites.StoredSite]) -> dict[str, str | None]:
    def of(host: str) -> str | None:
        listing = [each for each in newest.values() if host in each.claims]
        last = max(
            listing,
            key=lambda each: (each.claims[host], hashlib.sha1(each.id.encode(), usedforsecurity=False).hexdigest()),
            default=None,
        )
        return last.id if last else None

    return {host: of(host) for host in HOSTS}


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_order_each_region_ends_with_the_newest(seed: int, regions: Regions) -> None:
    rng = random.Random(seed)
    history: list[tuple[str, bytes]] = []
    newest: dict[str, sites.StoredSite] = {}
    known: dict[str, Site] = {}
    for step in range(30):
        site_id = rng.choice("abc")
        if site_id in known and rng.random() < 0.2:
            await delete_site([regions.first], site_id)
            del known[site_id]
        else:
            domain, *aliases = rng.sample(HOSTS, rng.randint(1, 3))
            known[site_id] = await put_site([regions.first], site(domain, id=site_id, aliases=aliases, epoch=step))
        stored = await sites.read_stored(regions.first, site_id)
        assert stored is not None
        newest[site_id] = stored
        history.append((site_id, stored.octets))
        assert {host: await owner(regions.first, host) for host in HOSTS} == _expected(newest), step
    assert await _replay(regions.second, history, seed) == _expected(newest)
    assert {each.id: each for each in await list_sites(regions.second)} == known


async def test_puts_at_once_in_two_regions_end_as_the_same_everywhere(
    regions: Regions, couriers: tuple[Courier, ...]
) -> None:
    async def put(number: int) -> Site:
        stores = regions.stores if number % 2 else regions.stores[::-1]
        return await put_site(stores, site(id="one", epoch=number, aliases=[f"{number}.example"]))

    newest = max([each.revision for each in await asyncio.gather(*map(put, range(20)))])

    async def is_same() -> bool:
        one, other = [await sites.read_stored(store, "one") for store in regions.stores]
        assert one is not None
        assert other is not None
        return one.octets == other.octets and one.revision == newest

    await eventually(is_same)
    hosts = [f"{number}.example" for number in range(20)]

    async def is_left_with_one() -> bool:
        owners = [[await owner(store, host) for host in hosts] for store in regions.stores]
        return owners[0] == owners[1] and owners[0].count("one") == 1

    await eventually(is_left_with_one)


async def test_two_revisions_of_one_number_end_as_the_same_everywhere(regions: Regions) -> None:
    revisions = [b"17|" + sites.encode_site(site(epoch=number), None) for number in range(6)]
    for store, order in zip(regions.stores, (revisions, revisions[::-1]), strict=True):
        for octets in order:
            await sites.take(store, "one", octets)
    one, other = [await get_site(store, "shop.example") for store in regions.stores]
    assert one is not None
    assert one == other


# --- A Cluster ---


async def test_sites_live_on_every_node_of_a_cluster(tmp_path: Path) -> None:
    async with ValkeyCluster(tmp_path) as cluster, opened(cluster.url, partitions=8) as store:
        heard: list[str] = []
        store.events.on_change(lambda change: heard.append(change.site))
        await eventually(lambda: store.events.is_connected)
        put = [await put_site([store], site(f"{n}.example", aliases=[f"*.{n}.example"])) for n in range(30)]
        assert await list_sites(store) == sorted(put, key=lambda each: each.domain)
        for each in put:
            assert await get_site(store, f"a.{each.domain}") == each
        await delete_site([store], put[0].id)
        assert await get_site(store, put[0].domain) is None
        await eventually(lambda: heard == [*(each.id for each in put), put[0].id])
        partition = store.partitions[0]
        _, items = await outbox.read_items(store, partition, "0-0")
        assert [item.announced.site for item in items] == heard
        async with ValkeyServer(tmp_path / "other") as server, opened(server.url, SAO_PAULO) as target:
            await outbox.deliver(target, items)
            assert await list_sites(target) == await list_sites(store)
