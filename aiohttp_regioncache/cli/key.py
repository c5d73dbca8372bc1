"""`key`: how a request would be keyed, routed and judged."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final
from unittest.mock import Mock

from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from yarl import URL

from ..effects import Effects
from ..errors import RegionUnavailableError
from ..exchange import Asker, Exchange
from ..exchanges import Exchanges
from ..features import PREFIX
from ..keys import Target
from ..overlay import Folder
from ..principal import Signer
from ..reads.bypass import bypass_reason
from ..reads.judging import judged
from ..reads.lookup import Found, find
from ..semantics.methods import is_read
from ..semantics.vary import selecting
from ..store.embedded import secrets_of
from ..store.region import RegionStore
from .arguments import NOT_FOUND, OK, UNREACHABLE, Commands, add_command, opened, settings_of
from .output import moment, say, say_fields, say_json
from .purge import site_for

_NOBODY: Final = "192.0.2.1"
"""An address of nobody, that trusts no proxy."""

_VALIDATORS: Final = ("etag", "last-modified")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "key",
        run,
        summary="show how a request would be keyed, routed and judged",
        examples=[
            "aiohttp-regioncache key https://shop.example/items/1",
            "aiohttp-regioncache key https://shop.example/ -H 'CF-IPCountry: BR' --from 10.0.0.1",
            "aiohttp-regioncache key https://shop.example/items/1 --method PUT --json",
        ],
    )
    parser.add_argument("url", help="the absolute URL of the request")
    parser.add_argument("-X", "--method", default="GET", help="its method (default: %(default)s)")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")
    parser.add_argument(
        "--from", dest="peer", default=_NOBODY, metavar="ADDRESS", help="who it comes from: one of trusted_proxies, say"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Print what an edge makes of the request, and what the regions know of it."""
    settings = settings_of(arguments)
    url = URL(arguments.url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{arguments.url!r} is no absolute URL such as https://shop.example/items/1")
    async with opened(settings) as stores:
        served = await site_for(settings, stores, arguments.url, is_named=False)
        request, secrets = _request(arguments, url), secrets_of(settings)
        exchanges = Exchanges(settings, stores, Signer(secrets) if secrets else None)
        asker = Asker.of(request, exchanges.trusted)
        target = Target.of(url.scheme, request.host, url.raw_path, url.raw_query_string)
        exchange = exchanges.make(request, asker, served, target)
        regions = [await _known(store, exchange) for store in exchange.stores] if is_read(arguments.method) else []
    described = _described(exchange)
    if arguments.json:
        say_json(described | {"regions": regions})
    else:
        _say(described, regions)
    if any(region["state"] == "unreachable" for region in regions):
        return UNREACHABLE
    return NOT_FOUND if regions and all(region["state"] == "nothing" for region in regions) else OK


def _request(arguments: argparse.Namespace, url: URL) -> Any:
    headers = CIMultiDict({"Host": url.raw_authority})
    for line in arguments.header:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"{line!r} is no header field; write 'NAME: VALUE'")
        headers.add(name.strip(), value.strip())
    transport = Mock()
    transport.get_extra_info = {"peername": (arguments.peer, 0)}.get
    path = url.raw_path_qs or "/"
    return make_mocked_request(arguments.method.upper(), path, headers, transport=transport)


def _described(exchange: Exchange) -> dict[str, Any]:
    served, rule = exchange.served, exchange.rule
    upstream = served.upstream
    return {
        "site": served.key.id,
        "enabled": served.is_enabled,
        "target": exchange.target.url,
        "cached_as": exchange.cached_as.url,
        "group": exchange.resource.group,
        "resource": exchange.resource.digest,
        "rule": rule.rule.path if rule else None,
        "write": rule.rule.write if rule else "through",
        "bypass": bypass_reason(exchange),
        "principal": exchange.principal.id,
        "has_credentials": exchange.has_credentials,
        "own_entries": bool(exchange.owner),
        "key_parts": [list(part) for part in exchange.key_parts],
        "features": {
            name.removeprefix(PREFIX): selected for name, selected in exchange.features.selectors(exchange.asked)
        },
        "touched_by": [other.rule.path for other in exchange.touching],
        "regions_in_order": [store.name for store in exchange.stores],
        "origins": [address.url for address in upstream.addresses] if upstream else [],
        "origin_host": upstream.host_for(exchange.request.host) if upstream else None,
    }


async def _known(store: RegionStore, exchange: Exchange) -> dict[str, Any]:
    row: dict[str, Any] = {"region": store.name, "partition": store.partition(exchange.resource).number}
    try:
        found = await find(store, exchange, Folder(Effects({})))
    except RegionUnavailableError as error:
        return row | {"state": "unreachable", "problem": str(error)}
    return (
        row
        | {"key": found.key, "pending_writes": found.state.pending if found.state else 0}
        | _entry(store, exchange, found)
    )


def _entry(store: RegionStore, exchange: Exchange, found: Found) -> dict[str, Any]:
    record = found.entry
    if record is None:
        return {"state": "nothing"}
    judgement = judged(exchange, record, store)
    return {
        "state": found.standing.name.lower(),
        "verdict": judgement.verdict.name.lower(),
        "status": record.status,
        "age": round(judgement.age, 1),
        "ttl": round(judgement.ttl, 1),
        "stored": moment(record.response_time),
        "bytes": len(record.body),
        "vary": list(record.vary),
        "selected": dict(selecting(exchange.selecting_headers, record.vary, found.known)),
        "tags": list(record.tags),
        "validators": [f"{name}: {value}" for name, value in record.headers if name.lower() in _VALIDATORS],
        "writes_over_it": found.fold.outcome.name.lower(),
    }


def _say(described: Mapping[str, Any], regions: list[dict[str, Any]]) -> None:
    say_fields([(name.replace("_", " "), _shown(value)) for name, value in described.items()])
    for region in regions:
        say("")
        say_fields([(name.replace("_", " "), _shown(value)) for name, value in region.items()])


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(each if isinstance(each, str) else "=".join(each) for each in value)
    return value
