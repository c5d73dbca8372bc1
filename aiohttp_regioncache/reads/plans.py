"""Requests that have been answered before: how, is found again by what they say, without finding out everything anew.

A plan is made of a request that was a plain hit. Whatever the same request depends on is a part of its key, or is
looked at again each time: the entry, the state of its resource, purges, freshness, the site. Where that is not plain
any more, the request goes the whole way as if there were no plan.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Final

from aiohttp import web

from ..bounded import Bounded
from ..exchange import Exchange, Inquiry, match_of, peer_of
from ..keys import ascii_only
from ..pin import PIN_HEADER
from ..purges import UNPURGED
from ..records import CacheRecord, decode_cache_record
from ..regions import TrustedProxies
from ..replays import CDN_LOOP, REPLAY_HEADER
from ..semantics.requests import PLAIN_REQUEST
from ..semantics.vary import NOTHING_KNOWN
from ..settings import Settings
from ..sites.serving import Sites
from ..store import entries
from ..store.entries import State
from ..store.glances import Values
from ..store.purging import purged_as_known
from ..store.region import RegionStore
from .decide import Standing, needs_lists, standing
from .filling import Fills
from .lookup import entry_key, is_known
from .memory import Kept, Memory
from .misses import Key, MissPlan
from .ready import Ready
from .seen import Seen, Variant

INERT: Final = frozenset(
    name.encode()
    for name in (
        "accept", "accept-encoding", "accept-language", "cf-connecting-ip", "cf-ray", "dnt", "priority", "referer",
        "sec-ch-ua", "sec-ch-ua-arch", "sec-ch-ua-mobile", "sec-ch-ua-model", "sec-ch-ua-platform", "sec-fetch-dest",
        "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-gpc", "traceparent", "tracestate",
        "upgrade-insecure-requests", "user-agent", "x-amzn-trace-id", "x-forwarded-for", "x-real-ip", "x-request-id",
    )
)  # fmt: skip
"""Fields on which no hit depends, unless a rule, the settings, the site or `Vary` name them, or features are on."""
_NOTHING: Final[frozenset[bytes]] = frozenset()
_LEFT: Final = ("expect", "range", "upgrade", CDN_LOOP.lower(), REPLAY_HEADER.lower(), PIN_HEADER.lower())
"""Fields whose requests go the whole way."""
_READ: Final = ("GET", "HEAD")
MAX_OCTETS: Final = 4096
"""Octets of the longest head for which a plan is made."""
_AIM_OVERHEAD: Final = 512
_UNLIKELIEST: Final = 37.0
"""More than -log() of the smallest chance that is drawn for an early refresh."""

SAMPLE: Final = 8
"""Of so many requests one has remembered what makes the next ones cheaper: those that come often soon have it.

What is remembered where more comes than there is place for is soon forgotten, and would cost more than it saves.
"""

Aim = tuple[str, str, str, str, bool]
"""A key without the fields."""


class Plan:
    """How the requests of one kind are answered.

    `variant` is what the marker said last of the fields that select, with the key under it; `checked` the number of
    what is kept in memory that was found to be for these requests. `counting` are the inert fields that count all the
    same, None when every field does: requests may differ in the others. `is_void`: it serves none. `size`: the octets
    of it and its key, about.
    """

    overhead: ClassVar = 2048
    """Octets that a plan takes beside its key, about."""
    __slots__ = (
        "_has_features", "_raw_state", "_state", "base_key", "checked", "counting", "host", "inquiry",
        "is_void", "keys", "match", "memory", "partition", "size", "store", "variant",
    )  # fmt: skip

    def __init__(
        self,
        inquiry: Inquiry,
        store: RegionStore,
        memory: Memory,
        counting: frozenset[bytes] | None,
        match: web.UrlMappingMatchInfo | None,
        size: int,
    ) -> None:
        self.size = size
        self.inquiry = inquiry
        self.match = match
        self.host = inquiry.target.host
        self.store = store
        self.memory = memory
        self.partition = store.partition(inquiry.resource)
        self.base_key = entry_key(inquiry)
        self.variant: Variant | None = None
        self.keys = self._redis_keys()
        self.checked = 0
        self.counting = counting
        self.is_void = False
        self._has_features = bool(inquiry.features)
        self._raw_state: bytes | None = None
        self._state: State | None = None

    def selected(self, marker: CacheRecord) -> str | None:
        """The key of the entry that a marker leads to; None when that depends on a field that was not looked at."""
        variant = self.variant
        if variant is None or variant[0] != marker.vary or variant[1] != marker.known:
            if self.counting is not None and not _inert_among(marker.vary) <= self.counting:
                self.is_void = True
                return None
            key = entry_key(self.inquiry, marker.vary, marker.known)
            variant = self.variant = (marker.vary, marker.known, key)
            self.keys = self._redis_keys()
        return variant[2]

    def forget_variant(self) -> None:
        """Look at no field that selects, when none does any more."""
        self.variant = None
        self.keys = self._redis_keys()

    def takes(self, record: CacheRecord) -> bool:
        """Whether a stored response is one for these requests."""
        if self.inquiry.method == "HEAD" and not record.body:
            return False  # of no length nothing is said then
        if not (record.vary or self._has_features):
            return not record.is_marker
        names, known, _ = self.variant or ((), NOTHING_KNOWN, "")
        inquiry = self.inquiry
        return not record.is_marker and is_known(inquiry, names, known, record) and inquiry.is_current(record)

    def read_state(self, raw: bytes | None) -> State | None:
        """Read the state of the resource, which seldom is another one than the last time."""
        if raw != self._raw_state:
            self._raw_state, self._state = raw, entries.parse_state(raw)
        return self._state

    def is_fresh(self, ready: Ready, now: float) -> bool:
        """Whether a response is served, and by no chance fetched anew before it has to be."""
        return ready.ttl(now) > ready.record.cost * self.inquiry.policy.early_refresh * _UNLIKELIEST

    def _redis_keys(self) -> tuple[bytes, ...]:
        found = [self.base_key] if self.variant is None else [self.base_key, self.variant[2]]
        return entries.glanced_at(self.partition, self.inquiry.resource, *found)


ReadPlan = Plan | MissPlan
"""How requests that read are answered again."""


class Plans:
    """Make plans, find them, and answer by them.

    `memories` by region name; `fills` are what is being stored; `sites` None when the settings' site is the only one.
    """

    def __init__(self, settings: Settings, memories: Mapping[str, Memory], fills: Fills, sites: Sites | None) -> None:
        self._memories = memories
        self._fills = fills
        self._sites = sites
        self._most = settings.cache.table_bytes
        self._exact: Bounded[Key, ReadPlan] = Bounded(self._most)
        self._alike: Bounded[Key, Plan] = Bounded(self._most)
        self._counting: Bounded[Aim, frozenset[bytes]] = Bounded(self._most)
        # In place of what memory would keep, where that is off.
        self._seen: Bounded[Plan, Seen] = Bounded(settings.cache.memory_bytes)
        self._trusted = TrustedProxies(settings.trusted_proxies)
        self._trusts_nobody = not settings.trusted_proxies
        positions = (name for pair in settings.position_headers for name in pair)
        self._named = _inert_among((*settings.country_headers, *positions))

    # --- finding ---

    def trusts(self, peer: str | None) -> bool:
        """Whether what a peer says of others counts."""
        return not self._trusts_nobody and self._trusted.trusts(peer)

    def find(self, request: web.Request) -> ReadPlan | None:
        """Find the plan for a request."""
        if request.method not in _READ or request.body_exists:
            return None
        is_trusted = not self._trusts_nobody and self._trusted.trusts(peer_of(request))
        return self.find_by(
            (request.method, request.raw_path, request.host, request.scheme, is_trusted, request.raw_headers)
        )

    def find_by(self, key: Key) -> ReadPlan | None:
        """Find the plan for a request without a body.

        Its key is its method, raw path, host, scheme, whether its peer is trusted, and its fields as they came.
        """
        plan = self._exact.get(key)
        if plan is None:
            counting = self._counting.get(key[:5])
            plan = None if counting is None else self._alike.get(_alike(key, counting))
            if plan is None or plan.is_void:
                return None
            if self.is_sampled():
                self._exact.put(key, plan, _size(key))
        if plan.is_void:
            self._exact.drop(key)
            return None
        return plan if self._is_current(plan) else None

    def is_sampled(self) -> bool:
        """Whether it is this request's turn to have more of it remembered."""
        return random.random() * SAMPLE < 1  # noqa: S311 - in turn, some would never have theirs

    def _is_current(self, plan: ReadPlan) -> bool:
        """Whether the site of a plan is still the one that it was made for."""
        return self._sites is None or self._sites.current(plan.host) is plan.inquiry.served

    def is_good(self, plan: ReadPlan) -> bool:
        """Whether a plan that was found before may still be used."""
        return not plan.is_void and (self._sites is None or self._is_current(plan))

    def table(self) -> Bounded[bytes, ReadPlan]:
        """Make a table of plans by the octets of whole requests."""
        return Bounded(self._most)

    # --- making ---

    def learn(self, exchange: Exchange, store: RegionStore, vary: Sequence[str]) -> None:
        """Make a plan of a request that was a hit in a region, unless it may go another way the next time.

        `vary` are the fields that selected the entry.
        """
        key = _key_of(exchange, store)
        if key is None:
            return
        size = _size(key)
        # Whoever made a feature may look at any field.
        counting = None if exchange.features else self._named_by(exchange) | _inert_among(vary)
        if counting is None:
            self._exact.put(key, self._made(exchange, store, None, size), size)
            return
        self._counting.put(key[:5], counting, _AIM_OVERHEAD + len(key[1]))
        alike = _alike(key, counting)
        known = self._alike.get(alike)
        if known is None or known.is_void or known.inquiry.served is not exchange.served or known.counting != counting:
            self._alike.put(alike, self._made(exchange, store, counting, size), size)

    def learn_miss(self, exchange: Exchange, store: RegionStore, entry: str) -> None:
        """Make a plan of a GET that was a miss in a region, and whose answer is not stored.

        `entry` is the key of what was looked for: where that depends on fields that select, no plan is made.
        """
        key = None if exchange.features else _key_of(exchange, store)
        if key is None:
            return
        request = exchange.request
        path = ascii_only(request.rel_url.raw_path_qs)
        plan = MissPlan(key, _inquiry_of(exchange), path, store, match_of(request))
        if plan.key == entry:
            self._exact.put(key, plan, MissPlan.overhead + 3 * _octets(key))  # the origin may look at any field

    def _made(self, exchange: Exchange, store: RegionStore, counting: frozenset[bytes] | None, size: int) -> Plan:
        memory = self._memories[store.name]
        return Plan(_inquiry_of(exchange), store, memory, counting, match_of(exchange.request), size)

    def _named_by(self, exchange: Exchange) -> frozenset[bytes]:
        """The inert fields that the settings, the site or the rules of a request name."""
        named: list[str] = list(exchange.served.exclusions.headers)
        # What is stored is a GET's, and by its rule are the keys.
        for found in (exchange.rule, exchange.served.rules.find("GET", exchange.target.path)):
            if found is not None:
                parts = (*(found.rule.key or ()), str(found.rule.principal or ""))
                named += [part.partition(":")[2] for part in parts]
                named += found.rule.bypass_headers
        return self._named | _inert_among(named)

    # --- answering ---

    def kept(self, plan: Plan, now: float) -> Ready | None:
        """What the process's own memory answers `now` by the region's clock, if that is plain."""
        memory = plan.memory
        kept: Kept | None = memory.find(plan.base_key)
        if kept is None:
            return None
        if kept.record.is_marker:
            key = plan.selected(kept.record)
            kept = None if key is None else memory.find(key)
            if kept is None:
                return None
        if kept.number != plan.checked:
            if not plan.takes(kept.record):
                return None
            plan.checked = kept.number
        ready = kept.ready or memory.ready(kept)
        return ready if ready is not None and plan.is_fresh(ready, now) else None

    def ask(self, plan: Plan, told: Callable[[Ready | None], None]) -> bool:
        """Ask the region; `told` hears what it answers, None where that is not plain. False: it was not asked."""
        if self._fills.is_under_way(plan.store, plan.inquiry.resource):
            return False
        generation, variant = plan.memory.generation, plan.variant

        def glanced(values: Values | Exception) -> None:
            ready = None
            try:
                if not isinstance(values, Exception):
                    ready = self._answered(plan, variant, values, generation)
            finally:  # whatever it is, nobody may wait for ever
                told(ready)

        plan.store.glances.ask(plan.partition, plan.keys, glanced)
        return True

    def read(self, plan: Plan) -> asyncio.Future[Ready | None]:
        """What the region answers now, if that is plain."""
        answer: asyncio.Future[Ready | None] = asyncio.get_running_loop().create_future()

        def told(ready: Ready | None) -> None:
            if not answer.done():
                answer.set_result(ready)

        if not self.ask(plan, told):
            told(None)
        return answer

    def _answered(self, plan: Plan, variant: Variant | None, values: Values, generation: int) -> Ready | None:
        """What was read, weighed anew where it is not what was `Seen` last."""
        store = plan.store
        seen = self._seen.get(plan)
        if seen is not None and (ready := seen.again(variant, values, store.run)) is not None:
            is_told = plan.inquiry.resource.digest not in store.untold
            return ready if is_told and plan.is_fresh(ready, store.now()) else None
        ready = self._weighed(plan, variant, values, generation)
        # What memory keeps is seldom asked for here.
        if ready is not None and plan.memory.is_off and self.is_sampled():
            seen = Seen.of(variant, values, store.run, ready)
            if seen is not None:
                self._seen.put(plan, seen, seen.size + plan.size)  # it may be the last to hold the plan
        return ready

    def _weighed(self, plan: Plan, variant: Variant | None, values: Values, generation: int) -> Ready | None:
        """What was read, weighed as `find` and `judge` do, for the case in which nothing else has to be looked at."""
        store, inquiry = plan.store, plan.inquiry
        first = values[0]
        entry = None if first is None else decode_cache_record(first)
        marker = None
        if entry is not None and (variant is not None or entry.is_marker):
            marker = entry
            if not marker.is_marker:
                plan.forget_variant()
                return None
            if plan.selected(marker) is None or plan.variant != variant:
                return None
            entry = None if values[1] is None else decode_cache_record(values[1])
        if entry is None or not plan.takes(entry) or inquiry.resource.digest in store.untold:
            return None
        covered = purged_as_known(store, plan.partition, inquiry.resource, entry, entries.purge_number(values[-1]))
        if covered is not UNPURGED:
            return None
        state = plan.read_state(values[-2])
        stands = standing(entry, state, store.run)
        if stands is not Standing.USABLE or needs_lists(entry, state, stands):
            return None
        ready = Ready.of(entry, store.name, None)
        if ready is None or not plan.is_fresh(ready, store.now()):
            return None
        if marker is not None and variant is not None:
            plan.memory.put(plan.base_key, marker, inquiry.resource.digest, generation)
        key = plan.base_key if variant is None else variant[2]
        plan.memory.put(key, entry, inquiry.resource.digest, generation)
        return ready


def _inquiry_of(exchange: Exchange) -> Inquiry:
    return Inquiry(**{name: getattr(exchange, name) for name in Inquiry.__struct_fields__})


def _key_of(exchange: Exchange, store: RegionStore) -> Key | None:
    """What the plan of a request is found by; None for a request that may go another way the next time."""
    request, rule = exchange.request, exchange.rule
    if exchange.terms is not PLAIN_REQUEST or exchange.touching or exchange.is_pinned:
        return None
    if store is not exchange.stores[0] or (rule is not None and callable(rule.rule.principal)):
        return None
    if any(_goes_the_whole_way(name) for name in request.headers):
        return None
    host, scheme = request.host, request.scheme
    key = (request.method, request.raw_path, host, scheme, exchange.asker.is_trusted, request.raw_headers)
    return key if _octets(key) <= MAX_OCTETS else None


def _alike(key: Key, counting: frozenset[bytes]) -> Key:
    """A key without what does not count."""
    method, path, host, scheme, is_trusted, headers = key
    dropped = INERT - counting if counting else INERT
    kept = tuple([pair for pair in headers if pair[0].lower() not in dropped])
    return method, path, host, scheme, is_trusted, kept


def _size(key: Key) -> int:
    return Plan.overhead + _octets(key)


def _octets(key: Key) -> int:
    return len(key[1]) + sum(len(name) + len(value) for name, value in key[5])


def _goes_the_whole_way(name: str) -> bool:
    lowered = name.lower()
    return lowered.startswith("if-") or lowered in _LEFT


def _inert_among(names: Iterable[str]) -> frozenset[bytes]:
    found = {name.lower().encode("utf-8", "replace") for name in names}
    return INERT & found if found else _NOTHING
