"""The part `micro`: what the small parts cost by themselves, in nanoseconds."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import Mock

from aiohttp.test_utils import make_mocked_request

from aiohttp_regioncache.effects import MERGE_PATCH, REPLACE, Effects, Representation
from aiohttp_regioncache.exchange import Asker, Exchange
from aiohttp_regioncache.exchanges import Exchanges
from aiohttp_regioncache.keys import Groups, SiteKey, Target, record_key
from aiohttp_regioncache.overlay import Base, Folder, Step
from aiohttp_regioncache.reads.bypass import bypass_reason
from aiohttp_regioncache.reads.lookup import entry_key
from aiohttp_regioncache.records import CacheRecord, WriteRecord, decode_cache_record, encode, form_of, to_lines
from aiohttp_regioncache.regions import Location, Position, Ranking, Region, known_regions
from aiohttp_regioncache.rules import Rules
from aiohttp_regioncache.semantics.freshness import Policy, judge, terms
from aiohttp_regioncache.semantics.requests import RequestTerms, request_terms
from aiohttp_regioncache.served import default_site
from aiohttp_regioncache.settings import Settings

from .bodies import KIB, body_at
from .figures import median, quartiles
from .report import Cell, Found, Say, Table

Small = Callable[[], object]
_URL: Final = "http://bench.example/items/1"
_REGION: Final = "eu-west-1"
_DATE: Final = "Thu, 26 Nov 2026 01:00:00 GMT"
_HEADERS: Final = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "max-age=60"),
    ("Date", _DATE),
    ("ETag", '"1"'),
    ("Server", "origin"),
)
_ASKED: Final = {"Host": "bench.example", "Accept": "*/*", "Accept-Encoding": "gzip, br", "User-Agent": "x" * 80}
_NOTE: Final = "Nanoseconds on the core for each call: median and quartiles of batches."


def micro(say: Say, *, quick: bool = False) -> Found:
    """Time every small part."""
    batches, each = (5, 0.01) if quick else (15, 0.03)
    rows: list[list[Cell]] = []
    for name, small in _smalls().items():
        say(f"micro: {name}")
        times = _times(small, batches, each)
        low, high = quartiles(times)
        rows.append([name, round(median(times)), f"{low:,.0f} - {high:,.0f}"])
    return Found([Table("Small parts", ("what", "ns", "quartiles"), rows, _NOTE)])


def _times(small: Small, batches: int, seconds: float) -> list[float]:
    """Nanoseconds of a call, in each of some batches that take about so many seconds."""
    clock = time.thread_time  # others on the core do not count
    started, count = clock(), 0
    while clock() - started < seconds:
        small()
        count += 1
    times = []
    for _ in range(batches):
        started = clock()
        for _ in range(count):
            small()
        times.append((clock() - started) / count * 1e9)
    return times


def _smalls() -> dict[str, Small]:
    return _keys() | _records() | _freshness() | _ranking() | _folds() | _exchanges()


def _keys() -> dict[str, Small]:
    target, groups = Target.of("http", "bench.example", "/items/1", ""), Groups()
    return {
        "target of a request line": lambda: Target.of("http", "bench.example", "/items/1", ""),
        "key of an entry": lambda: record_key(SiteKey(), target, "GET", ()),
        "resource and its hash": lambda: groups.resource("default", "/items/1"),
    }


def _records() -> dict[str, Small]:
    found: dict[str, Small] = {}
    for size in (KIB, 64 * KIB):
        lines = to_lines(_HEADERS).sent
        form = form_of(200, "OK", lines)
        record = CacheRecord(url=_URL, status=200, reason=b"OK", sent_lines=lines, form=form, body=body_at(f"/{size}"))
        data = encode(record)
        found[f"record of {size // KIB} KiB encoded"] = functools.partial(encode, record)
        found[f"record of {size // KIB} KiB decoded"] = functools.partial(decode_cache_record, data)
    return found


def _freshness() -> dict[str, Small]:
    asked = RequestTerms()
    policy = Policy()
    known = terms(200, _HEADERS, policy, response_time=0.0, shared=True)
    return {
        "terms of a response": lambda: terms(200, _HEADERS, policy, response_time=0.0, shared=True),
        "terms of a request": lambda: request_terms(list(_ASKED.items())),
        "freshness decided": lambda: judge(asked, known, initial_age=0.0, response_time=1.0, now=2.0),
    }


def _ranking() -> dict[str, Small]:
    regions = [Region(name, redis="redis://127.0.0.1") for name in list(known_regions())[:20]]
    ranking, country, place = Ranking(regions), Location("BR", None), Location("BR", Position(-23.5, -46.6))
    return {
        "20 regions ranked for a country": lambda: ranking.choose(country),
        "20 regions ranked for a position": lambda: ranking.choose(place),
    }


def _folds() -> dict[str, Small]:
    folder = Folder(Effects({}))
    base = Base(0, Representation(b'{"name": "one"}', "application/json"))
    found: dict[str, Small] = {}
    for effect, count in ((REPLACE, 1), (MERGE_PATCH, 1), (MERGE_PATCH, 10)):
        chosen = [Step(_write(number, effect), landed=False, number=number) for number in range(1, count + 1)]
        name = f"fold of {count} {effect}"
        found[name] = functools.partial(folder.fold, base, chosen, url=_URL, principals=("me",))
    return found


def _write(number: int, effect: str) -> WriteRecord:
    kind = b"application/merge-patch+json" if effect == MERGE_PATCH else b"application/json"
    return WriteRecord(
        id=f"{number}", site="default", url=_URL, endpoint="/items/1", method="PUT",
        headers=((b"Content-Type", kind),), body=b'{"n": %d}' % number, principal="me", effect=effect,
        path="/items/1", group="default:/items",
    )  # fmt: skip


def _exchanges() -> dict[str, Small]:
    settings = Settings(regions=[Region(_REGION, redis="redis://127.0.0.1")])
    store: Any = SimpleNamespace(name=_REGION, holdoff=0)
    served = default_site(settings, Rules(()))
    exchanges = Exchanges(settings, {_REGION: store}, None)
    transport = Mock()
    transport.get_extra_info = {"peername": ("127.0.0.1", 0)}.get
    request = make_mocked_request("GET", "/items/1", _ASKED, transport=transport)

    def exchange() -> Exchange:
        asker = Asker.of(request, exchanges.trusted)
        return exchanges.make(request, asker, served, Target.of("http", "bench.example", "/items/1", ""))

    made = exchange()
    return {
        "exchange of a request": exchange,
        "whether the cache is bypassed": lambda: bypass_reason(made),
        "key of an exchange": lambda: entry_key(made),
    }
