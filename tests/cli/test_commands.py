"""Every command on real regions: what it prints, and the exit status."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aiohttp_regioncache import Rule
from tests.cli.tools import REGIONS, command, write_config
from tests.sites.world import SITES as SETTINGS
from tests.support import eventually
from tests.support.servers import free_port
from tests.support.world import Edge, World

SITES = '[sites]\nenabled = true\nallow_private_origins = true\n[[rules]]\npath = "/items/{id}"\nwrite = "behind"\n'


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "world") as world:
        yield world


@pytest_asyncio.fixture
async def edge(world: World) -> Edge:
    return await world.edge(rules=[Rule("/items/{id}", write="behind", max_tries=1), Rule("/pages/**")])


@pytest.fixture
def config(tmp_path: Path, world: World) -> Path:
    return write_config(tmp_path, world, origin=world.origin.url)


RUNS_CODE = """
[[sites]]
domain = "a.example"
origin = "http://o.example"
rules = [{path = "/x", authorize = "os:system"}]
"""
COMMANDS = (
    (), ("serve",), ("check-config",), ("regions",), ("sites",), ("sites", "put"), ("sites", "import"), ("writes",),
    ("writes", "list"), ("writes", "retry"), ("purge",), ("key",),
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
async def test_help_has_examples_and_exit_statuses(name: tuple[str, ...]) -> None:
    shown = await command(*name, "--help")
    assert shown.status == 0
    assert "exit status:" in shown.out
    assert not name or f"aiohttp-regioncache {' '.join(name)}" in shown.out.partition("examples:")[2]


@pytest.mark.parametrize("given", [(), ("nothing",), ("purge",), ("writes", "list", "--limit", "0"), ("writes",)])
async def test_wrong_usage_is_status_2(given: tuple[str, ...]) -> None:
    assert (await command(*given)).status == 2


async def test_settings_that_are_wrong_or_missing_are_status_2(tmp_path: Path) -> None:
    missing = await command("regions", "-c", tmp_path / "none.toml")
    assert (missing.status, missing.err.count("none.toml")) == (2, 1)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("regoins = []")
    outcome = await command("check-config", "-c", wrong)
    assert outcome.status == 2
    assert "regoins" in outcome.err
    assert "Traceback" not in outcome.err


async def test_check_config_tries_regions_and_origin(world: World, config: Path, tmp_path: Path) -> None:
    good = await command("check-config", "-c", config, "--json")
    assert good.status == 0, good.err
    assert [row["state"] for row in good.document["regions"]] == ["ok", "ok"]
    assert good.document["origin"]["status"] == 404
    away = write_config(tmp_path, world, origin=f"http://127.0.0.1:{free_port()}")
    assert (await command("check-config", "-c", away)).status == 4
    await world.servers[REGIONS[0]].kill()
    down = await command("check-config", "-c", config)
    assert down.status == 4
    assert "unreachable" in down.out


async def test_looking_changes_nothing_in_an_empty_region(world: World, config: Path) -> None:
    for given in (("regions",), ("check-config",), ("sites", "list"), ("key", "http://a.example/"), ("writes", "list")):
        await command(*given, "-c", config)
    async with world.servers[REGIONS[0]].client() as client:
        assert await client.dbsize() == 0


async def test_regions_are_in_the_order_for_a_country(edge: Edge, config: Path) -> None:
    assert edge.url
    outcome = await command("regions", "--for", "br", "-c", config, "--json")
    assert outcome.status == 0
    assert [row["region"] for row in outcome.document] == ["sa-east-1", "ap-northeast-1"]
    assert outcome.document[0]["distance_km"] < outcome.document[1]["distance_km"]
    assert "pending" in (await command("regions", "-c", config)).out
    assert (await command("regions", "--for", "XX", "-c", config)).status == 3


async def _dead_write(world: World, edge: Edge) -> str:
    world.origin.refuse["/items/1"] = 400
    answer = await edge.put("/items/1", {"n": 1}, headers={"Authorization": "Bearer secret-of-user"})
    write_id = str(json.loads(answer.body)["id"])

    async def is_rejected() -> bool:
        return (await edge.cache.writes.show(write_id)).summary.state == "rejected"

    await eventually(is_rejected)
    return write_id


async def test_writes_are_listed_shown_retried_and_dropped(world: World, edge: Edge, config: Path) -> None:
    write_id = await _dead_write(world, edge)
    listed = await command("writes", "list", "--state", "rejected", "-c", config, "--json")
    assert [write["id"] for write in listed.document["writes"]] == [write_id]
    assert write_id in (await command("writes", "list", "--state", "rejected", "-c", config)).out
    shown = await command("writes", "show", write_id, "-c", config)
    assert shown.status == 0
    assert '{"n": 1}' in shown.out
    assert "secret-of-user" not in shown.out
    world.origin.refuse.clear()
    assert (await command("writes", "retry", write_id, "-c", config)).out == "1 of 1 done\n"
    await eventually(lambda: len(world.origin.effects) == 1)
    assert (await command("writes", "show", "nobody-0-1", "-c", config)).status == 3
    assert (await command("writes", "drop", "nobody-0-1", "-c", config)).status == 3
    assert (await command("writes", "drop", "-c", config)).status == 2


async def test_many_writes_are_dropped_by_what_they_are(world: World, edge: Edge, config: Path) -> None:
    await _dead_write(world, edge)
    dropped = await command("writes", "drop", "--all", "--state", "rejected", "-c", config, "--json")
    assert dropped.document == {"meant": 1, "done": 1, "failed": {}, "more": False}
    again = await command("writes", "list", "--state", "rejected", "-c", config, "--json")
    assert again.document == {"writes": [], "more": False}


async def test_a_purge_is_seen_by_the_edge_and_key_tells_what_is_there(world: World, edge: Edge, config: Path) -> None:
    world.origin.documents["/pages/1"] = {}
    await edge.get("/pages/1")
    url = f"{edge.url}/pages/1"
    key = await command("key", url, "-c", config, "--json")
    assert key.status == 0, key.err
    assert {row["state"] for row in key.document["regions"]} == {"usable", "nothing"}
    assert key.document["origins"] == [world.origin.url]
    purged = await command("purge", url, "-c", config)
    assert purged.status == 0
    assert purged.out.startswith("done in ap-northeast-1; told sa-east-1")

    async def is_gone() -> bool:
        return "; hit" not in (await edge.get("/pages/1")).cache_status

    await eventually(is_gone)
    assert (await command("key", f"{edge.url}/pages/2", "-c", config)).status == 3
    assert (await command("key", "no-url", "-c", config)).status == 2
    assert (await command("purge", "--everything", "--region", "nowhere", "-c", config)).status == 2


async def test_key_shows_who_would_be_believed(world: World, tmp_path: Path) -> None:
    config = write_config(tmp_path, world, origin=world.origin.url, more='trusted_proxies = ["10.0.0.0/8"]')
    header = "CF-IPCountry: BR"
    nobody = await command("key", "http://a.example/", "-H", header, "-c", config, "--json")
    proxy = await command("key", "http://a.example/", "-H", header, "--from", "10.1.1.1", "-c", config, "--json")
    assert nobody.document["regions_in_order"][0] == "ap-northeast-1"
    assert proxy.document["regions_in_order"][0] == "sa-east-1"


async def test_sites_are_put_changed_exported_imported_and_deleted(world: World, tmp_path: Path) -> None:
    config = write_config(tmp_path, world, more=SITES)
    put = await command(
        "sites", "put", "shop.example", "--origin", world.origin.url, "--alias", "www.shop.example", "--id", "shop",
        "--feature", "polish=lossy", "-c", config, "--json",
    )  # fmt: skip
    assert put.status == 0, put.err
    key = await command("key", "http://www.shop.example?x=1", "-H", "Accept: image/webp", "-c", config, "--json")
    assert key.document["site"] == "shop"
    assert key.document["features"]["polish"].startswith("lossy 75 webp ")
    changed = await command(
        "sites", "put", "shop.example", "--feature", "polish=null", "--disable", "-c", config, "--json"
    )
    assert changed.document["id"] == "shop"
    assert changed.document["revision"] > put.document["revision"]
    assert (changed.document.get("features"), changed.document["enabled"]) == (None, False)
    shown = await command("sites", "show", "www.shop.example", "-c", config)
    assert 'id = "shop"' in shown.out
    for name in ("sites.toml", "sites.json"):
        file = tmp_path / name
        assert (await command("sites", "export", file, "-c", config)).status == 0
        assert (await command("sites", "import", file, "--dry-run", "-c", config)).out == "1 sites are right\n"
        assert (await command("sites", "import", file, "-c", config)).out == "1 sites are stored\n"
    assert [site["id"] for site in (await command("sites", "list", "-c", config, "--json")).document] == ["shop"]
    assert "www.shop.example" in (await command("sites", "list", "-c", config)).out
    assert (await command("sites", "delete", "shop", "-c", config)).status == 0
    assert (await command("sites", "show", "shop", "-c", config)).status == 3
    assert (await command("sites", "delete", "shop", "-c", config)).status == 3


async def test_a_site_is_the_same_however_its_host_is_written(world: World, tmp_path: Path) -> None:
    config = write_config(tmp_path, world, more=SITES)
    await command("sites", "put", "bücher.example", "--origin", world.origin.url, "--id", "books", "-c", config)
    for host in ("BÜCHER.example.", "xn--bcher-kva.example"):
        outcome = await command("sites", "put", host, "--origin", world.origin.url, "-c", config, "--json")
        assert (outcome.status, outcome.document["id"]) == (0, "books")


async def test_an_import_gives_no_site_the_id_of_a_former_tenant(world: World, tmp_path: Path) -> None:
    config = write_config(tmp_path, world, more=SITES)
    for site_id in ("z-former", "present"):  # the former one still lists the host
        text = f"[[sites]]\nid = '{site_id}'\ndomain = 'shop.example'\norigin = '{world.origin.url}'"
        assert (await command("sites", "import", "-c", config, given=text)).status == 0
    text = f"[[sites]]\ndomain = 'shop.example'\norigin = '{world.origin.url}'"
    outcome = await command("sites", "import", "-c", config, "--json", given=text)
    assert [site["id"] for site in outcome.document["stored"]] == ["present"]


async def test_an_import_that_parts_a_site_loses_neither(world: World, tmp_path: Path) -> None:
    config = write_config(tmp_path, world, more=SITES)
    origin = f"origin = '{world.origin.url}'"
    whole = f"[[sites]]\nid = 'shop'\ndomain = 'shop.example'\naliases = ['www.shop.example']\n{origin}"
    assert (await command("sites", "import", "-c", config, given=whole)).status == 0
    parts = "\n".join(f"[[sites]]\ndomain = '{host}'\n{origin}" for host in ("shop.example", "www.shop.example"))
    assert (await command("sites", "import", "-c", config, given=parts)).status == 0
    listed = (await command("sites", "list", "-c", config, "--json")).document
    assert [site["domain"] for site in listed] == ["shop.example", "www.shop.example"]
    assert listed[0]["id"] == "shop"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[sites]]\ndomain = 'a.example'", "origin"),
        (RUNS_CODE, "names code"),
        ("[[sites]]\ndomain = 'a.example:80'\norigin = 'http://o.example'", "without a port"),
        ("[[sites]]\ndomain = 'a.example'\nid = 'default'\norigin = 'http://o.example'", "that the settings describe"),
        ("[[sites]]\ndomain = 'a.example'\norigin = 'http://o.example/_regioncache'", "an edge keeps its own pages"),
        ("nonsense", "no TOML"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_site_is_named(world: World, tmp_path: Path, text: str, problem: str) -> None:
    config = write_config(tmp_path, world, more=SITES)
    outcome = await command("sites", "import", "-c", config, given=text)
    assert outcome.status == 2
    assert problem in outcome.err


async def test_an_edge_hears_of_a_site_that_the_command_line_puts(world: World, tmp_path: Path) -> None:
    config = write_config(tmp_path, world, more=SITES)
    edge = await world.edge(origin=None, rules=[], sites=SETTINGS)
    assert (await edge.get("/pages/1", headers={"Host": "shop.example"})).status == 421
    await command("sites", "put", "shop.example", "--origin", world.origin.url, "-c", config)

    async def is_served() -> bool:
        return (await edge.get("/pages/1", headers={"Host": "shop.example"})).status == 404

    await eventually(is_served)
    purged = await command("purge", "--everything", "--site", "shop.example", "-c", config)
    assert purged.status == 0
    assert (await command("purge", "--everything", "--site", "nobody.example", "-c", config)).status == 3
