"""Writes like one that was accepted before: what is queued for them, without finding out everything anew.

A plan is made of a write that was accepted, and of which nothing but its fields, its target, its peer and its site
decided how. All of that is a part of the plan's key, or is looked at again each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from ..bounded import Bounded
from ..durability import MEMORY
from ..effects import DELETE, UNKNOWN_EFFECT
from ..exchange import Exchange, match_of, peer_of
from ..pin import PIN_HEADER
from ..records import WriteRecord
from ..replays import CDN_LOOP, REPLAY_HEADER
from ..rules import CompiledRule
from ..served import ServedSite
from ..settings import Settings
from ..sites.serving import Sites
from ..store.accepting import Acceptance, Accepted, Blank, Common, Listing, Packed, Particulars, pack, taking
from ..store.collector import Collector
from ..store.keyspace import Partition
from ..store.region import RegionStore
from ..store.sealed import seal_encoded
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
    """How the writes of one kind are queued: `like` is one of them.

    `lists` make what stands of them in the lists of what they touch, `blank` all that is queued of them where it is not
    encrypted. `overhead` are the octets that a write counts for beside its body. `receipts` are their answers; `match`
    is the route, as in `match_of`.
    """

    served: ServedSite
    host: str
    store: RegionStore
    partition: Partition
    queue: Collector[Packed, Accepted]
    like: WriteRecord
    common: Common
    lists: Sequence[Listing]
    blank: Blank | None
    overhead: int
    receipts: Receipts
    match: web.UrlMappingMatchInfo | None

    def record(self, write_id: str) -> WriteRecord:
        """One that is queued now, without its body."""
        return msgspec.structs.replace(self.like, id=write_id, accepted=int(self.store.now() * 1000))

    def pack(self, body: bytes, inline: int) -> Packed:
        """Make what is queued of the next one; a body of more than `inline` octets is stored beside it."""
        store = self.store
        write_id = new_write_id(store, self.partition)
        is_stored = len(body) > inline
        particulars = Particulars.of(write_id, store.nonces.new(), int(store.now() * 1000), body, is_stored=is_stored)
        size, beside = len(body) + self.overhead, body if is_stored else None
        if self.blank is not None:
            return self.blank.fill(write_id, size, particulars, beside)
        elements = [each.line + seal_encoded(store.cipher, each.record(particulars)) for each in self.lists]
        return pack(store, self.partition, self.common, write_id, size, elements, body=beside)


class WritePlans:
    """Make plans of writes, and find them; `sites` None when the settings' site is the only one."""

    def __init__(self, settings: Settings, sites: Sites | None) -> None:
        self._caps = settings.queue
        self._sites = sites
        self._plans: Bounded[Key, WritePlan] = Bounded(settings.cache.table_bytes)

    def find(self, request: web.Request) -> WritePlan | None:
        """Find the plan for a request."""
        if not len(self._plans):
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
        record = accepted.record
        store = exchange.stores[0]
        common = Common.of(partition, accepted)
        lists = [Listing.of(each, has_body=_has_body(each, record)) for each in accepted.records]
        plan = WritePlan(
            exchange.served,
            exchange.target.host,
            store,
            partition,
            taking(store, partition, MEMORY, self._caps),
            msgspec.structs.replace(record, body=b""),
            common,
            lists,
            None if store.cipher.encrypts else Blank(partition, common, lists),
            accepted.size - len(accepted.body or record.body),
            receipts,
            match_of(request),
        )
        self._plans.put(key, plan, _OVERHEAD + size + 2 * sum(each.size for each in lists))

    def _key(self, request: web.Request) -> Key:
        fields = tuple(
            [pair for pair in request.raw_headers if len(pair[0]) != _LENGTH_SIZE or pair[0].lower() != _LENGTH]
        )
        return request.method, request.raw_path, request.host, request.scheme, peer_of(request), fields


def new_write_id(store: RegionStore, partition: Partition) -> str:
    """Make the id of a write, which says where it is queued."""
    return f"{store.name}-{partition.number}-{store.nonces.new()}"


def _has_body(listed: WriteRecord, record: WriteRecord) -> bool:
    """Whether what stands of a write with a resource has its body: a copy that nothing can be folded from has none."""
    return listed is record or listed.effect not in (UNKNOWN_EFFECT, DELETE)
