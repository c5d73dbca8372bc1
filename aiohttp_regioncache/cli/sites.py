"""`sites`: the configuration of sites."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import SettingsError
from ..rules import Rules
from ..served import default_site, served_site
from ..settings import Settings
from ..site import Site, normalize_host, site_data, site_from
from ..sites.forms import Form, export_sites, import_sites
from ..sites.store import delete_site, get_site, list_sites, put_site
from ..store.region import RegionStore
from .arguments import OK, Commands, add_command, add_group, first_reachable, opened, settings_of
from .output import Progress, say, say_json, say_table

_COLUMNS: Final = ("id", "domain", "aliases", "origin", "enabled", "features", "revision")


def add(commands: Commands) -> None:
    """Add the command with its own commands."""
    group = add_group(
        commands,
        "sites",
        summary="list, show, put, delete, import and export sites",
        examples=["aiohttp-regioncache sites list", "aiohttp-regioncache sites import sites.toml"],
    )
    add_command(group, "list", run_list, summary="list all sites", examples=["aiohttp-regioncache sites list --json"])
    show = add_command(
        group,
        "show",
        run_show,
        summary="show one site",
        examples=[
            "aiohttp-regioncache sites show shop.example",
            "aiohttp-regioncache sites show www.shop.example --json",
        ],
    )
    show.add_argument("name", metavar="HOST|ID")
    _add_put(group)
    delete = add_command(
        group,
        "delete",
        run_delete,
        summary="delete a site, unless it has pending writes",
        examples=["aiohttp-regioncache sites delete shop.example"],
    )
    delete.add_argument("name", metavar="HOST|ID")
    for name, run, what in (
        ("import", run_import, "read sites from a file"),
        ("export", run_export, "write all sites to a file"),
    ):
        parser = add_command(group, name, run, summary=what, examples=[f"aiohttp-regioncache sites {name} sites.toml"])
        parser.add_argument("file", nargs="?", default="-", help="TOML, or JSON by its name; - is the standard stream")
        parser.add_argument("--format", choices=("toml", "json"), help="whatever the name says")
        if name == "import":
            parser.add_argument("--dry-run", action="store_true", help="check all of it, and store nothing")


def _add_put(group: Commands) -> None:
    put = add_command(
        group,
        "put",
        run_put,
        summary="store a site: a new one, or what is given of one that is there",
        examples=[
            "aiohttp-regioncache sites put shop.example --origin https://203.0.113.7:8443 --alias www.shop.example",
            "aiohttp-regioncache sites put shop.example --feature polish=lossy --feature minify=true",
            "aiohttp-regioncache sites put shop.example --disable",
            'aiohttp-regioncache sites put shop.example --set \'exclude={"prefixes": ["/admin/"]}\'',
        ],
    )
    put.add_argument("domain", help="a host of the site; * as its first label stands for any")
    put.add_argument("--id", help="the id of a new site (default: a random one)")
    put.add_argument("--origin", action="append", metavar="URL", help="where requests go; may be repeated")
    put.add_argument("--origin-host", metavar="HOST", help="the host that the origin is asked for")
    put.add_argument("--health-path", metavar="PATH", help="the path that says whether an origin is well")
    put.add_argument(
        "--alias", action="append", metavar="HOST", help="another host, besides those it has; may be repeated"
    )
    put.add_argument(
        "--feature", action="append", metavar="NAME=JSON", help="its options, null to remove; may be repeated"
    )
    put.add_argument("--set", action="append", metavar="KEY=JSON", help="any key of a site; may be repeated")
    state = put.add_mutually_exclusive_group()
    state.add_argument("--enable", action="store_true", help="serve it")
    state.add_argument("--disable", action="store_true", help="serve it no more; its queued writes wait")


@asynccontextmanager
async def _changing(settings: Settings) -> AsyncIterator[dict[str, RegionStore]]:
    """Open the regions for a change, and let each know of the others, so that they hear of it."""
    async with opened(settings, looks_only=False) as stores:

        async def register(store: RegionStore) -> None:
            await store.check()
            await store.register({other.name: other.address for other in stores.values()})

        await first_reachable(stores, register)
        yield stores


async def run_list(arguments: argparse.Namespace) -> int:
    """Print all sites."""
    async with opened(settings_of(arguments)) as stores:
        sites = await first_reachable(stores, list_sites)
    if arguments.json:
        say_json([_data(site) for site in sites])
    else:
        say_table(_COLUMNS, [_row(site) for site in sites])
    return OK


def _row(site: Site) -> Sequence[object]:
    origins = [origin.url for origin in site.origins]
    return site.id, site.domain, site.aliases, origins, site.enabled, sorted(site.features), site.revision


def _data(site: Site) -> dict[str, Any]:
    return {**site_data(site), "revision": site.revision}


async def run_show(arguments: argparse.Namespace) -> int:
    """Print one site, as an import would read it."""
    async with opened(settings_of(arguments)) as stores:
        site = await _named(stores, arguments.name)
    if arguments.json:
        say_json(_data(site))
    else:
        say(export_sites([site], "toml").rstrip("\n"))
        say(f"# revision {site.revision}")
    return OK


async def run_put(arguments: argparse.Namespace) -> int:
    """Store a site, and print it."""
    settings = settings_of(arguments)
    async with _changing(settings) as stores:
        known = await first_reachable(stores, lambda store: _having(store, arguments.domain))
        site = site_from(_merged(arguments, known))
        _check(settings, [site])
        stored = await put_site(list(stores.values()), site)
    if arguments.json:
        say_json(_data(stored))
    else:
        say(f"{stored.domain} is site {stored.id}, revision {stored.revision}")
    return OK


async def _having(store: RegionStore, domain: str) -> Site | None:
    """The site that has a host, however it is written; not one of which a wildcard covers it."""
    found = await get_site(store, domain)
    return found if found is not None and normalize_host(domain, wildcard=True) in found.hosts else None


def _merged(arguments: argparse.Namespace, known: Site | None) -> dict[str, Any]:
    """What is known of a site with what the command line says. Raises `SettingsError`."""
    data: dict[str, Any] = {"domain": arguments.domain} if known is None else site_data(known)
    for name in ("origin_host", "health_path", "id"):
        if (value := getattr(arguments, name)) is not None:
            data[name] = value
    if arguments.origin:
        urls = arguments.origin
        data["origin"] = urls[0] if len(urls) == 1 else [{"url": url} for url in urls]
    if arguments.alias:
        data["aliases"] = list(dict.fromkeys([*data.get("aliases", []), *arguments.alias]))
    if arguments.enable or arguments.disable:
        data["enabled"] = arguments.enable
    for name, value in _pairs("--feature", arguments.feature):
        data["features"] = {**data.get("features", {}), name: value}
    data["features"] = {name: value for name, value in data.get("features", {}).items() if value is not None}
    data |= dict(_pairs("--set", arguments.set))
    if "origin" not in data:
        raise SettingsError(f"sites[{arguments.domain}].origin", "is missing; give --origin")
    return data


def _pairs(option: str, given: Sequence[str] | None) -> list[tuple[str, Any]]:
    pairs = []
    for text in given or ():
        name, _, value = text.partition("=")
        try:
            pairs.append((name, msgspec.json.decode(value or "true")))
        except msgspec.DecodeError:
            pairs.append((name, value))  # a word need not be quoted
        if not name:
            raise SettingsError(option, f"{text!r} names nothing; write NAME=JSON")
    return pairs


async def run_delete(arguments: argparse.Namespace) -> int:
    """Delete a site."""
    async with _changing(settings_of(arguments)) as stores:
        site = await _named(stores, arguments.name)
        await delete_site(list(stores.values()), site.id)
    if arguments.json:
        say_json({"deleted": site.id})
    else:
        say(f"site {site.id} is deleted")
    return OK


async def run_import(arguments: argparse.Namespace) -> int:
    """Store every site of a file; those whose domain or id is there already become their new revision."""
    settings = settings_of(arguments)
    given = import_sites(_read(arguments.file), _form(arguments))
    _check(settings, given)
    stored = [] if arguments.dry_run else await _put_all(settings, given)
    if arguments.json:
        say_json({"given": len(given), "stored": [_data(site) for site in stored]})
    else:
        say(f"{len(given)} sites are right" if arguments.dry_run else f"{len(stored)} sites are stored")
    return OK


async def _put_all(settings: Settings, given: Sequence[Site]) -> list[Site]:
    stored: list[Site] = []
    progress = Progress("import")
    async with _changing(settings) as stores:
        # Found out before any is stored: what is stored moves hosts.
        taken = frozenset(site.id for site in given)
        named = [await first_reachable(stores, functools.partial(_identified, site, taken)) for site in given]
        for number, site in enumerate(named, 1):
            stored.append(await put_site(list(stores.values()), site))
            progress(number, len(given))
    progress.clear()
    return stored


async def _identified(site: Site, taken: Collection[str], store: RegionStore) -> Site:
    """A site with the id of the one whose domain is the same: not that of a former tenant, nor of two the same."""
    before = None if site.id else await _having(store, site.domain)
    if before is None or before.domain != site.domain or before.id in taken:
        return site
    return msgspec.structs.replace(site, id=before.id)


async def run_export(arguments: argparse.Namespace) -> int:
    """Write every site into a file that an import reads."""
    async with opened(settings_of(arguments)) as stores:
        sites = await first_reachable(stores, list_sites)
    text = export_sites(sites, "json" if arguments.json else _form(arguments))
    _write(arguments.file, text)
    if arguments.file != "-":
        say(f"{len(sites)} sites are in {arguments.file}")
    return OK


def _read(file: str) -> str:
    return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text, "utf-8")


def _form(arguments: argparse.Namespace) -> Form:
    by_name: Form = "json" if str(arguments.file).endswith(".json") else "toml"
    return arguments.format or by_name


def _check(settings: Settings, sites: Sequence[Site]) -> None:
    """Refuse sites whose rules contradict those of the settings: no edge could serve them."""
    default = default_site(settings, Rules(settings.rules))
    for site in sites:
        try:
            served_site(site, settings, default)
        except SettingsError as error:
            raise SettingsError(f"sites[{site.domain}].{error.key}", str(error).partition(": ")[2]) from None


async def _named(stores: dict[str, RegionStore], name: str) -> Site:
    site = await first_reachable(stores, lambda store: get_site(store, name))
    if site is None:
        raise LookupError(f"{name!r} is no site")
    return site
