"""Writes like one that was accepted before: what is queued for them, without finding out everything anew.

A plan is made of a write that was accepted, and of which nothing but its fields, its target, its peer and its site
decided how. All of that is a part of the plan's key, or is looked at again each time.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from ..bounded import Bounded
from ..durability import MEMORY
from ..exchange import Exchange, match_of, peer_of
from ..pin import PIN_HEADER
from ..records import WriteRecord, encode
from ..replays import CDN_LOOP, REPLAY_HEADER
from ..rules import CompiledRule
from ..served import ServedSite
from ..settings import Settings
from ..sites.serving import Sites
from ..store.accepting import Acceptance, Accepted, Batch, Blank, Joins, Kind, taking
from ..store.collector import Collector
from ..store.keyspace import Partition
from ..store.region import RegionStore
from .receipts import Receipts

_LENGTH: Final = b"content-length"
_LENGTH_SIZE: Final = len(_LENGTH)
_LEFT: Final = frozenset({
    CDN_LOOP.lower(), REPLAY_HEADER.lower(), PIN_HEADER.lower(), "content-encoding", "expect", "idempotency-key",
    "prefer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Fields whose requests go the whole way."""
_OVERHEAD: Final = 4096
"""Octets that a plan takes beside its key, about."""
MAX_OCTETS: Final = 4096
"""Octets of the longest head for which a plan is made."""

Key = tuple[str, str, str, str, str | None, tuple[tuple[bytes, bytes], ...]]


class WritePlan(msgspec.Struct, frozen=True):
    """How the writes of one kind are queued.

    `blank` makes what is queued of them where it is not encrypted. `receipts` are their answers; `match` is the route,
    as in `match_of`.
    """

    served: ServedSite
    host: str
    store: RegionStore
    partition: Partition
    queue: Collector[Joins, Batch, Accepted]
    kind: Kind
    blank: Blank | None
    receipts: Receipts
    match: web.UrlMappingMatchInfo | None

    def record(self, write_id: str) -> WriteRecord:
        """One that is queued now, without its body."""
        return msgspec.structs.replace(self.kind.records[0], id=write_id, accepted=int(self.store.now() * 1000))

    def next(self, body: bytes) -> Joins:
        """The next one, with this body."""
        if self.blank is None:
            return self.kind.pack(self.store, self.partition, body).join
        return partial(self.blank.fill, body)


class WritePlans:
    """Make plans of writes, and find them; `sites` None when the settings' site is the only one."""

    def __init__(self, settings: Settings, sites: Sites | None) -> None:
        self._caps = settings.queue
        self._sites = sites
        self._plans: Bounded[Key, WritePlan] = Bounded(settings.cache.table_bytes)

    def find(self, request: web.Request) -> WritePlan | None:
        """Find the plan for a request."""
        if not self._plans.size:
            return None
        plan = self._plans.get(self._key(request))
        if plan is None or (self._sites is not None and self._sites.current(plan.host) is not plan.served):
            return None
        return plan

    def learn(
        self,
        exchange: Exchange,
        rule: CompiledRule,
        partition: Partition,
        accepted: Acceptance,
        receipts: Receipts,
    ) -> None:
        """Make a plan of a write that was accepted, unless the next one may go another way."""
        request, said = exchange.request, rule.rule
        if callable(said.authorize) or callable(said.principal) or said.when_region_down == "through":
            return
        if accepted.durability != MEMORY or said.answer != "accepted" or exchange.said.has_pin or exchange.is_pinned:
            return
        if any(name.startswith("if-") or name in _LEFT for name in map(str.lower, request.headers)):
            return
        key = self._key(request)
        size = len(key[1]) + sum(len(name) + len(value) for name, value in key[5])
        if size > MAX_OCTETS:
            return
        store = exchange.stores[0]
        kind = Kind.of(partition, accepted, self._caps.inline_body)
        plan = WritePlan(
            exchange.served,
            exchange.target.host,
            store,
            partition,
            taking(store, partition, MEMORY, self._caps),
            kind,
            None if store.cipher.encrypts else Blank(store, partition, kind),
            receipts,
            match_of(request),
        )
        self._plans.put(key, plan, _OVERHEAD + size + 2 * sum(len(encode(each)) for each in kind.records))

    def _key(self, request: web.Request) -> Key:
        message = request._message
        fields = tuple(
            [pair for pair in message.raw_headers if len(pair[0]) != _LENGTH_SIZE or pair[0].lower() != _LENGTH]
        )
        return message.method, message.path, request.host, request.scheme, peer_of(request), fields
