"""`purge`: let go of what is stored."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

import msgspec

from ..control.purger import Purger
from ..keys import SiteKey
from ..purges import Purge
from ..rules import Rules
from ..served import ServedSite, default_site, served_site
from ..settings import Settings
from ..sites.store import get_site
from ..store.region import RegionStore
from .arguments import FAILED, OK, Commands, add_command, first_reachable, opened, settings_of
from .output import complain, say, say_json

_DEFAULT = SiteKey().id


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "purge",
        run,
        summary="let go of stored responses, in every region or in some",
        examples=[
            "aiohttp-regioncache purge https://shop.example/items/1",
            "aiohttp-regioncache purge --prefix /items/ --soft",
            "aiohttp-regioncache purge --tag product-42 --site shop.example",
            "aiohttp-regioncache purge --everything --region eu-west-1",
        ],
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("url", nargs="?", help="a URL or a path: all that is stored under its path, whatever the query")
    what.add_argument("--prefix", metavar="PATH", help="all paths that begin so")
    what.add_argument("--tag", help="all that the origin put into this group")
    what.add_argument("--everything", action="store_true", help="all of the site")
    parser.add_argument("--site", metavar="HOST|ID", help="of this site (default: that of the URL, or of the settings)")
    parser.add_argument("--soft", action="store_true", help="make it stale: it may be served while it is revalidated")
    parser.add_argument("--region", action="append", metavar="NAME", help="in this region alone; may be repeated")


async def run(arguments: argparse.Namespace) -> int:
    """Purge, and say where."""
    settings = settings_of(arguments)
    purge = Purge(
        url=arguments.url, prefix=arguments.prefix, tag=arguments.tag, everything=arguments.everything,
        soft=arguments.soft,
    )  # fmt: skip
    async with opened(settings) as stores:
        served = await site_for(settings, stores, arguments.site or arguments.url or "", is_named=bool(arguments.site))

        async def find_site(_site_id: str) -> ServedSite:
            return served

        named = msgspec.structs.replace(purge, site=served.key.id)
        purger = Purger(stores, find_site, {})
        regions = arguments.region
        report = await (purger.somewhere(named, regions) if regions else purger.everywhere(named))
    if arguments.json:
        say_json(report)
    else:
        say(f"done in {', '.join(report.done)}" + (f"; told {', '.join(report.told)}" if report.told else ""))
    for region in report.unreached:
        complain(f"region {region} cannot be reached")
    return FAILED if report.unreached else OK


async def site_for(settings: Settings, stores: dict[str, RegionStore], name: str, *, is_named: bool) -> ServedSite:
    """The site of a host, an id or a URL; that of the settings where sites are off, or none is named.

    Raises `LookupError` for a name that is none's.
    """
    default = default_site(settings, Rules(settings.rules))
    host = urlsplit(name).netloc if "://" in name else name if is_named else ""
    if not host or (not settings.sites.enabled and not is_named):
        return default
    if host == _DEFAULT:
        return default
    site = await first_reachable(stores, lambda store: get_site(store, host))
    if site is None:
        raise LookupError(f"{host!r} is no site")
    return served_site(site, settings, default)
