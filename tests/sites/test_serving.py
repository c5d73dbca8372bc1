"""Sites on an edge: whose request it is, what it goes by, and where it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiohttp_regioncache import (
    Bulk,
    OriginAddress,
    Purge,
    PurgeError,
    Rule,
    Settings,
    SettingsError,
    Site,
    SiteBusyError,
    Sites,
    Sync,
)
from aiohttp_regioncache.served import DEFAULT_SITE, ServedSite, served_site
from aiohttp_regioncache.sites.store import delete_site, put_site
from tests.sites.world import SITES, Tenants, tenants
from tests.support import eventually
from tests.support.origin import Origin
from tests.support.servers import free_port

BEHIND = [{"path": "/items/{id}", "write": "behind"}]


async def test_each_host_gets_its_own_sites_origin(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place, Origin() as other:
        place.world.origin.documents["/pages/1"] = {"of": "shop"}
        other.documents["/pages/1"] = {"of": "blog"}
        await place.put("shop.example", aliases=["*.shop.example"])
        await place.put("blog.example", origin=other.url)
        for _ in range(2):
            assert json.loads((await place.ask("shop.example")).body) == {"of": "shop"}
            assert json.loads((await place.ask("a.shop.example")).body) == {"of": "shop"}
            assert json.loads((await place.ask("BLOG.example.:8080")).body) == {"of": "blog"}
        hosts = [request.headers["Host"] for request in place.world.origin.requests]
        assert hosts == ["shop.example", "a.shop.example"]
        assert [request.headers["Host"] for request in other.requests] == ["BLOG.example.:8080"]


async def test_a_site_is_made_ready_once_for_all_its_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(site: Site, settings: Settings, default: ServedSite) -> ServedSite:
        made.append(site.id)
        return served_site(site, settings, default)

    monkeypatch.setattr("aiohttp_regioncache.sites.serving.served_site", counted)
    async with tenants(tmp_path) as place:
        await place.put("shop.example", aliases=["*.shop.example"])
        for _ in range(5):
            for host in ("shop.example", "a.shop.example", "b.shop.example"):
                await place.ask(host)
        assert len(made) == 1


async def test_the_origin_is_asked_for_the_host_that_the_site_names(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        await place.put("shop.example", origin_host="backend.example")
        await place.ask("shop.example")
        (request,) = place.world.origin.requests
        assert request.headers["Host"] == "backend.example"
        assert request.headers["X-Forwarded-Host"] == "shop.example"


@pytest.mark.parametrize("host", ["nobody.example", "127.0.0.1", "[::1]:80", "a.b.shop.example"])
async def test_a_host_that_is_nobodys_is_misdirected(tmp_path: Path, host: str) -> None:
    async with tenants(tmp_path) as place:
        await place.put("shop.example", aliases=["*.shop.example"])
        answer = await place.ask(host)
        assert (answer.status, answer.headers["Content-Type"]) == (421, "application/problem+json")
        page = await place.ask(host, headers={"Accept": "text/html"})
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert not place.world.origin.requests


async def test_a_site_that_is_turned_off_and_on(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        site = await place.put("shop.example", rules=BEHIND, enabled=False)
        assert (await place.ask("shop.example")).status == 503
        await put_site(list(place.edge.cache.stores.values()), msgspec.structs.replace(site, enabled=True))

        async def is_served() -> bool:
            return (await place.ask("shop.example")).status == 404

        await eventually(is_served)


@pytest.mark.parametrize(("change", "status"), [({"enabled": False}, 503), ({"rules": []}, 200)])
async def test_a_change_of_a_site_is_one_for_writes_that_were_queued_before(
    tmp_path: Path, change: dict[str, Any], status: int
) -> None:
    async with tenants(tmp_path) as place:
        site = await place.put("shop.example", rules=BEHIND)
        for number in range(3):
            assert (await place.ask("shop.example", "/items/1", "PUT", json={"n": number})).status == 202
        await put_site(list(place.edge.cache.stores.values()), msgspec.structs.replace(site, **change))

        async def has_changed() -> bool:
            return (await place.ask("shop.example", "/items/1", "PUT", json={"n": 3})).status == status

        await eventually(has_changed)


async def test_rules_of_a_site_that_contradict_the_settings_are_told_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bulk = {"path": "/b/{id}", "write": "behind", "bulk": {"endpoint": "/bulk", "max_writes": 5}}
    rule = Rule("/a/{id}", write="behind", bulk=Bulk("/bulk", max_writes=7))
    async with tenants(tmp_path, rules=[rule]) as place:
        await place.put("shop.example", rules=[bulk])
        assert (await place.ask("shop.example")).status == 503
        assert "another rule has another form of '/bulk'" in caplog.text


async def test_a_sites_rules_lifetimes_and_exclusions_are_its_own(tmp_path: Path) -> None:
    exclude = {"extensions": ["php"], "cookies": ["logged_in"], "query": ["preview"], "prefixes": ["/admin/"]}
    async with tenants(tmp_path, rules=[Rule("/pages/**", force_ttl=60)]) as place:
        place.world.origin.cache_control = "max-age=0"
        await place.put("one.example", exclude=exclude)
        await place.put("two.example", rules=[{"path": "/pages/2", "read": "pass"}])

        async def statuses(host: str, path: str, **options: Any) -> list[str]:
            return [(await place.ask(host, path, **options)).cache_status for _ in range(2)]

        assert "hit" in (await statuses("one.example", "/pages/2"))[1]
        assert "detail=rule" in (await statuses("two.example", "/pages/2"))[1]
        assert "hit" in (await statuses("two.example", "/pages/1"))[1]
        for path in ("/pages/a.php", "/pages/2?preview=1", "/admin/x"):
            assert "detail=excluded" in (await statuses("one.example", path))[1]
        assert "detail=excluded" in (await statuses("one.example", "/pages/2", headers={"Cookie": "logged_in=1"}))[1]


async def test_the_lifetime_of_a_site_takes_the_place_of_the_settings(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        place.world.origin.cache_control = ""
        place.world.origin.documents["/pages/1"] = {}
        await place.put("one.example", ttl=60)
        await place.put("two.example")
        for _ in range(2):
            one, two = await place.ask("one.example"), await place.ask("two.example")
        assert "; hit" in one.cache_status
        assert "; hit" not in two.cache_status


async def test_two_sites_share_nothing(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        await place.put("one.example", rules=BEHIND)
        await place.put("two.example", rules=BEHIND)
        user = {"Authorization": "Bearer a"}
        place.world.origin.gate.clear()
        answer = await place.ask("one.example", "/items/1", "PUT", json={"n": 1}, headers=user)
        assert answer.status == 202
        own = await place.ask("one.example", "/items/1", headers=user)
        assert json.loads(own.body) == {"n": 1}
        assert (await place.ask("two.example", "/items/1", headers=user)).status == 404
        status = answer.headers["Location"]
        assert (await place.ask("one.example", status, headers=user)).status == 200
        assert (await place.ask("two.example", status, headers=user)).status == 404


async def test_another_epoch_begins_anew_and_an_unrelated_setting_does_not(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        stores = list(place.edge.cache.stores.values())
        site = await place.put("shop.example")
        await place.ask("shop.example")
        assert "; hit" in (await place.ask("shop.example")).cache_status
        site = await put_site(stores, msgspec.structs.replace(site, health_path="/up", aliases=("new.example",)))

        async def has_alias() -> bool:
            return (await place.ask("new.example")).status != 421

        await eventually(has_alias)
        assert "; hit" in (await place.ask("shop.example")).cache_status
        await put_site(stores, msgspec.structs.replace(site, epoch=1))

        async def is_anew() -> bool:
            return "; hit" not in (await place.ask("shop.example")).cache_status

        await eventually(is_anew)
        assert "; hit" in (await place.ask("shop.example")).cache_status


# --- queued writes ---


async def _queued(place: Tenants, host: str) -> None:
    """Queue a write that its origin does not take now."""
    assert (await place.ask(host, "/items/1", "PUT", json={"n": 1})).status == 202


async def test_queued_writes_follow_an_origin_that_moves(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place, Origin() as moved:
        site = await place.put("shop.example", origin=f"http://127.0.0.1:{free_port()}", rules=BEHIND)
        await _queued(place, "shop.example")
        await put_site(list(place.edge.cache.stores.values()), msgspec.structs.replace(site, origin=moved.url))
        await eventually(lambda: len(moved.effects) == 1)
        assert moved.requests[0].headers["Host"] == "shop.example"
        assert moved.requests[0].headers["X-Forwarded-For"] == "127.0.0.1"


async def test_queued_writes_stay_with_their_site_when_the_domain_is_given_away(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place, Origin() as other:
        port = free_port()
        site = await place.put("shop.example", origin=f"http://127.0.0.1:{port}", rules=BEHIND)
        await _queued(place, "shop.example")
        await place.put("shop.example", origin=other.url, rules=BEHIND)

        async def is_given() -> bool:
            return (await place.ask("shop.example")).status == 404

        await eventually(is_given)
        with pytest.raises(SiteBusyError):
            await delete_site(list(place.edge.cache.stores.values()), site.id)
        await put_site(
            list(place.edge.cache.stores.values()), msgspec.structs.replace(site, origin=place.world.origin.url)
        )
        await eventually(lambda: len(place.world.origin.effects) == 1)
        assert not other.effects
        await eventually(lambda: _deletes(place, site.id))


@pytest.mark.parametrize("bulk", [None, {"endpoint": "/bulk", "max_writes": 2}])
async def test_a_site_whose_origin_hangs_holds_up_no_other(tmp_path: Path, bulk: dict[str, Any] | None) -> None:
    concurrency = 8 if bulk else 2  # more than the bulk requests that go out at once
    async with tenants(tmp_path, sync=Sync(concurrency=concurrency, claim=4)) as place, Origin() as hanging:
        hanging.gate.clear()
        await place.put("slow.example", origin=hanging.url, rules=[{**BEHIND[0], "bulk": bulk}])
        await place.put("quick.example", rules=BEHIND)
        for number in range(40):
            assert (await place.ask("slow.example", f"/items/{number}", "PUT", json={})).status == 202
        await eventually(lambda: hanging.in_flight.total() >= 2)
        for number in range(10):
            assert (await place.ask("quick.example", f"/items/{number}", "PUT", json={})).status == 202
        await eventually(lambda: len(place.world.origin.effects) == 10, within=6)  # before anything times out
        assert not hanging.effects
        hanging.gate.set()
        await eventually(lambda: len(hanging.effects) >= 40)


async def _deletes(place: Tenants, site_id: str) -> bool:
    try:
        await delete_site(list(place.edge.cache.stores.values()), site_id)
    except SiteBusyError:
        return False
    return True


async def test_the_service_credential_is_for_the_origin_of_the_settings_alone(tmp_path: Path) -> None:
    rule = Rule("/items/{id}", write="behind", authorized=True)
    sync = Sync(authorization="Bearer service")
    async with Origin() as own, tenants(tmp_path, rules=[rule], origin=own.url, sync=sync) as place:
        await place.put("shop.example")
        user = {"Authorization": "Bearer user"}
        assert (await place.ask("shop.example", "/items/1", "PUT", json={}, headers=user)).status == 202
        await eventually(lambda: len(place.world.origin.effects) == 1)
        assert place.world.origin.requests[-1].headers["Authorization"] == "Bearer user"


async def test_no_site_can_be_the_one_of_the_settings(tmp_path: Path) -> None:
    """Its keys would be those of the settings' own, and its writes would go there with the service's credential."""
    async with Origin() as own, tenants(tmp_path, origin=own.url) as place:
        with pytest.raises(SettingsError, match=r"sites\[shop.example\].id: 'default'"):
            await place.put("shop.example", id=DEFAULT_SITE.id)


# --- origins ---


async def test_several_origins_share_the_requests_and_one_that_is_down_is_left_alone(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place, Origin() as other:
        down = f"http://127.0.0.1:{free_port()}"
        addresses = [OriginAddress(url) for url in (place.world.origin.url, other.url, down)]
        await place.put("shop.example", origin=addresses)
        for number in range(60):
            assert (await place.ask("shop.example", f"/pages/{number}")).status == 404
        assert min(len(place.world.origin.requests), len(other.requests)) > 5
        assert len(place.world.origin.requests) + len(other.requests) == 60


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://localhost:{port}", "http://127.1:{port}"])
async def test_a_sites_origin_may_not_lie_inwards(tmp_path: Path, origin: str) -> None:
    async with tenants(tmp_path, sites=Sites(enabled=True)) as place:
        await place.put(
            "shop.example", origin=origin.format(port=place.world.origin.url.rpartition(":")[2]), rules=BEHIND
        )
        assert (await place.ask("shop.example")).status == 502
        await _queued(place, "shop.example")
        assert not place.world.origin.requests


async def test_a_site_that_leads_back_to_the_edge_is_a_loop(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        await place.put("shop.example", origin=place.edge.url)
        assert (await place.ask("shop.example")).status == 508
        assert (await place.ask("shop.example", "/x/..%2f_regioncache/writes/1")).status == 508


# --- purging ---


async def test_a_purge_finds_its_site_by_the_host(tmp_path: Path) -> None:
    async with tenants(tmp_path) as place:
        await place.put("one.example")
        await place.put("two.example")
        for host in ("one.example", "two.example"):
            await place.ask(host)
        await place.edge.cache.purge(Purge(url="http://ONE.example/pages/1"))
        assert "; hit" not in (await place.ask("one.example")).cache_status
        assert "; hit" in (await place.ask("two.example")).cache_status
        with pytest.raises(PurgeError, match="the host of no site"):
            await place.edge.cache.purge(Purge(url="http://three.example/"))


async def test_every_site_is_read_once_for_many_requests(tmp_path: Path) -> None:
    async with tenants(tmp_path, sites=SITES) as place:
        stores, heard = list(place.edge.cache.stores.values()), list[str]()
        for store in stores:
            store.events.on_change(lambda change: heard.append(change.site))
        await eventually(lambda: all(store.events.is_connected for store in stores))
        await place.put("shop.example")
        for _ in range(20):
            await place.ask("shop.example")
            await place.ask("nobody.example")
        directory = place.edge.cache.sites
        assert directory.read <= 3 + len(heard)  # the number of the newest change, both hosts, and what was announced
        assert directory.asked >= 40


async def test_a_site_of_several_hosts_is_made_ready_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(site: Site, settings: Any, default: Any) -> ServedSite:
        made.append(site.id)
        return served_site(site, settings, default)

    monkeypatch.setattr("aiohttp_regioncache.sites.serving.served_site", counted)
    async with tenants(tmp_path) as place:
        await place.put("shop.example", aliases=("www.shop.example",), id="shop")
        for _ in range(5):
            for host in ("shop.example", "www.shop.example"):
                await place.ask(host)
        assert made == ["shop"]
