"""`check-config`: whether an edge with these settings would work, before it is started."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, Final

import aiohttp

from ..origins.origins import Origins
from ..regions import TrustedProxies
from ..rules import Rules
from ..served import default_site
from ..settings import Settings
from ..sites.store import list_sites
from ..store.region import RegionStore
from ..upstream import Upstream, plain_upstream
from .arguments import UNREACHABLE, Commands, add_command, opened, settings_of
from .output import say, say_json, say_table
from .regions import examine, status_of

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_MS: Final = 1000
_EVERYBODY: Final = ("192.0.2.1", "2001:db8::1")
"""Addresses of nobody: who trusts them trusts everybody."""


def add(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "check-config",
        run,
        summary="read the settings, and try every region and the origin",
        examples=[
            "aiohttp-regioncache check-config --config regioncache.toml",
            "aiohttp-regioncache check-config --json && systemctl reload regioncache",
        ],
    )


async def run(arguments: argparse.Namespace) -> int:
    """Print what was found; the exit status is 0 only when all of it is well."""
    settings = settings_of(arguments)
    default_site(settings, Rules(settings.rules))
    async with opened(settings) as stores:
        regions = list(await asyncio.gather(*(examine(store) for store in stores.values())))
        sites = await _sites(settings, stores, regions)
    origin = None if settings.origin is None else await _try(plain_upstream(settings.origin))
    warnings = list(_warnings(settings, regions))
    if arguments.json:
        say_json({"regions": regions, "origin": origin, "sites": sites, "warnings": warnings})
    else:
        _say(regions, origin, sites, warnings)
    if origin is not None and origin["state"] != "ok":
        return UNREACHABLE
    return status_of(regions)


def _say(regions: list[dict[str, Any]], origin: dict[str, Any] | None, sites: int | None, warnings: list[str]) -> None:
    columns = ("region", "address", "state", "latency_ms", "version", "policy", "problem")
    say_table(columns, [[region[name] for name in columns] for region in regions])
    if origin is not None:
        say(
            f"\norigin {origin['address']}: {origin['state']}" + (f", {origin['problem']}" if origin["problem"] else "")
        )
    if sites is not None:
        say(f"\n{sites} sites")
    for warning in warnings:
        say(f"\nwarning: {warning}")


async def _sites(settings: Settings, stores: dict[str, RegionStore], regions: list[dict[str, Any]]) -> int | None:
    if not settings.sites.enabled:
        return None
    reachable = [row["region"] for row in regions if row["state"] == "ok"]
    return len(await list_sites(stores[reachable[0]])) if reachable else 0


async def _try(upstream: Upstream) -> dict[str, Any]:
    """Ask the origin for something; any answer is one."""
    row: dict[str, Any] = {"address": upstream.addresses[0].url, "state": "ok", "problem": "", "status": None}
    began = time.perf_counter()
    async with Origins() as origins:
        (way,) = origins.ways(upstream)
        try:
            async with way.session().head(way.url("/"), allow_redirects=False, timeout=_TIMEOUT) as answer:
                row["status"] = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return row | {"state": "unreachable", "problem": str(error) or type(error).__name__}
    return row | {"latency_ms": round((time.perf_counter() - began) * _MS, 2)}


def _warnings(settings: Settings, regions: list[dict[str, Any]]) -> Any:
    trusted = TrustedProxies(settings.trusted_proxies)
    if any(trusted.trusts(address) for address in _EVERYBODY):
        yield "trusted_proxies covers everybody: any client may say where it is, and who it is forwarded for"
    for region in regions:
        is_embedded = region["address"].startswith("unix:")
        if region["policy"] == "noeviction" and not is_embedded:
            name = region["region"]
            yield f"region {name}: maxmemory-policy noeviction stores nothing more when full; set volatile-lru"
    if settings.origin is None and not settings.sites.enabled:
        yield "neither origin nor sites.enabled: serve would have nothing to forward to"
