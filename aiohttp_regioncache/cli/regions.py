"""`regions`: how the regions are, and which is nearest to whom."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, Final

from yarl import URL

from ..control.writes import WriteDesk
from ..errors import RegionUnavailableError, StoreError
from ..regions import Ranking, countries, distance
from ..settings import Settings
from ..store.region import RegionStore
from .arguments import FAILED, OK, UNREACHABLE, Commands, add_command, opened, settings_of
from .output import say_json, say_table

_PROBES: Final = 5
_MS: Final = 1000


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "regions",
        run,
        summary="show how each region is: reachable, how fast from here, what is pending",
        examples=[
            "aiohttp-regioncache regions",
            "aiohttp-regioncache regions --for BR",
            "aiohttp-regioncache regions --json | jq -r '.[] | select(.state != \"ok\") | .region'",
        ],
    )
    parser.add_argument("--for", dest="country", metavar="CC", help="in the order for a country, with the distances")


async def run(arguments: argparse.Namespace) -> int:
    """Print one row for each region."""
    settings = settings_of(arguments)
    country = arguments.country.upper() if arguments.country else None
    if country is not None and country not in countries():
        raise LookupError(f"{arguments.country!r} is no country; give two letters (ISO 3166-1) such as BR")
    async with opened(settings) as stores:
        rows = await asyncio.gather(*(examine(store) for store in stores.values()))
        depths = {depth.region: depth for depth in await WriteDesk(stores, settings).depths()}
    found = {row["region"]: row | _depth(depths[row["region"]]) for row in rows}
    order = _order(settings, country)
    shown = [found[name] | _distance(settings, name, country) for name in order]
    if arguments.json:
        say_json(shown)
    else:
        columns = list(dict.fromkeys(name for row in shown for name in row if name != "problem"))
        problems = any(row["problem"] for row in shown)
        columns += ["problem"] if problems else []
        say_table(columns, [[row.get(name, "") for name in columns] for row in shown])
    return status_of(shown)


def status_of(rows: list[dict[str, Any]]) -> int:
    """The exit status for what regions were found to be."""
    states = {row["state"] for row in rows}
    return UNREACHABLE if "unreachable" in states else OK if states <= {"ok"} else FAILED


async def examine(store: RegionStore) -> dict[str, Any]:
    """Find out how a region is: `ok`, `refused` (it holds something else, or must not be used) or `unreachable`."""
    row: dict[str, Any] = {
        "region": store.name,
        "address": shown_address(store.address),
        "state": "ok",
        "latency_ms": None,
        "version": "",
        "policy": "",
        "problem": "",
    }
    try:
        row["latency_ms"] = await _latency(store)
        await store.check()
    except RegionUnavailableError as error:
        return row | {"state": "unreachable", "problem": str(error)}
    except StoreError as error:
        row |= {"state": "refused", "problem": str(error)}
    facts = store.facts
    return row | {"version": ", ".join(facts.versions), "policy": ", ".join(facts.policies)}


async def _latency(store: RegionStore) -> float:
    """The median of some round trips, in milliseconds; the first, which connects, does not count."""
    taken = []
    for _ in range(1 + _PROBES):
        began = time.perf_counter()
        await store.try_script()
        taken.append(time.perf_counter() - began)
    return round(sorted(taken[1:])[_PROBES // 2] * _MS, 2)


def shown_address(address: str) -> str:
    """An address without what is secret in it."""
    url = URL(address)
    return str(url.with_user(None).with_query(None)) if url.host else address


def _depth(depth: Any) -> dict[str, Any]:
    figures = {
        "pending": depth.writes,
        "dead": depth.dead,
        "rejected": depth.rejected,
        "oldest_s": round(depth.oldest, 1),
    }
    return figures if not depth.problem else dict.fromkeys(figures)


def _order(settings: Settings, country: str | None) -> tuple[str, ...]:
    if country is None:
        return tuple(region.name for region in settings.regions)
    ranking = Ranking(settings.regions, default_region=settings.default_region, home_region=settings.home_region)
    return ranking.for_country(country)


def _distance(settings: Settings, name: str, country: str | None) -> dict[str, Any]:
    if country is None:
        return {}
    region = next(region for region in settings.regions if region.name == name)
    return {"distance_km": round(distance(countries()[country].position, region.position))}
