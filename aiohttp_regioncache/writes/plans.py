"""Writes like one that was accepted before: what is queued for them, without finding out everything anew.

A plan is made of a write that was accepted, and of which nothing but its fields, its target, its peer and its site
decided how. All of that is a part of the plan's key, or is looked at again each time.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
from aiohttp import web

from ..bounded import Bounded
from ..durability import MEMORY
from ..effects import DELETE, UNKNOWN_EFFECT
from ..exchange import Exchange, peer_of
from ..pin import PIN_HEADER
from ..principal import Signer
from ..records import WriteRecord
from ..regions import TrustedProxies
from ..replays import CDN_LOOP, REPLAY_HEADER
from ..rules import CompiledRule
from ..served import ServedSite
from ..settings import Settings
from ..sites.serving import Sites
from ..store.keyspace import Partition
from ..store.queue import Acceptance, tags_of
from ..store.region import RegionStore

_LENGTH: Final = b"content-length"
_LEFT: Final = frozenset({
    CDN_LOOP.lower(), REPLAY_HEADER.lower(), PIN_HEADER.lower(), "content-encoding", "expect", "idempotency-key",
    "prefer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Fields whose requests go the whole way."""
_OVERHEAD: Final = 4096
"""Octets that a plan takes beside its key, about."""
MAX_OCTETS: Final = 4096
"""Octets of the longest head for which a plan is made."""

Key = tuple[str, str, str, str, bool, str | None, tuple[tuple[bytes, bytes], ...]]


class WritePlan(msgspec.Struct, frozen=True):
    """How the writes of one kind are queued: `like` is one of them without its body.

    `principal` is its id under the oldest secret; `url` and `is_secure` as the user's request had them, `size` the
    octets of the fields.
    """

    served: ServedSite
    host: str
    principal: str
    url: str
    is_secure: bool
    store: RegionStore
    partition: Partition
    like: Acceptance
    size: int

    def acceptance(self, signer: Signer, body: bytes, inline: int) -> Acceptance:
        """The next one; a body of more than `inline` octets is stored beside it."""
        like, store = self.like, self.store
        write_id = new_write_id(store, self.partition)
        stored = len(body) > inline
        record = msgspec.structs.replace(
            like.record,
            id=write_id,
            body=b"" if stored else body,
            body_stored=stored,
            idempotency_key=origin_key(signer, self.principal, like.record.method, self.url, write_id),
            accepted=int(store.now() * 1000),
        )
        return Acceptance(
            record,
            like.target,
            tuple([(resource, _copied(copy, record)) for resource, copy in like.affected]),
            "",
            len(body) + self.size,
            body if stored else b"",
            tags=like.tags,
        )


class WritePlans:
    """Make plans of writes, and find them; `sites` None when the settings' site is the only one."""

    def __init__(self, settings: Settings, sites: Sites | None) -> None:
        self._sites = sites
        self._trusted = TrustedProxies(settings.trusted_proxies)
        self._plans: Bounded[Key, WritePlan] = Bounded(settings.cache.table_bytes)

    def find(self, request: web.Request) -> WritePlan | None:
        """Find the plan for a request."""
        if not len(self._plans):
            return None
        plan = self._plans.get(self._key(request))
        if plan is None or (self._sites is not None and self._sites.current(plan.host) is not plan.served):
            return None
        return plan

    def learn(self, exchange: Exchange, rule: CompiledRule, partition: Partition, accepted: Acceptance) -> None:
        """Make a plan of a write that was accepted, unless the next one may go another way."""
        request, said = exchange.request, rule.rule
        if callable(said.authorize) or callable(said.principal) or said.when_region_down == "through":
            return
        if accepted.durability != MEMORY or said.answer != "accepted" or exchange.said.has_pin or exchange.is_pinned:
            return
        if any(name.startswith("if-") or name in _LEFT for name in map(str.lower, request.headers)):
            return
        key = self._key(request)
        size = len(key[1]) + sum(len(name) + len(value) for name, value in key[6])
        if size > MAX_OCTETS:
            return
        record = accepted.record
        like = msgspec.structs.replace(
            accepted,
            record=_emptied(record),
            affected=tuple((resource, _emptied(copy)) for resource, copy in accepted.affected),
            body=b"",
            tags=tuple(map(tags_of, accepted.records)),
        )
        plan = WritePlan(
            exchange.served,
            exchange.target.host,
            exchange.principal.oldest,
            exchange.target.url,
            exchange.target.scheme == "https",
            exchange.stores[0],
            partition,
            like,
            accepted.size - len(accepted.body or record.body),
        )
        self._plans.put(key, plan, size + _OVERHEAD)

    def _key(self, request: web.Request) -> Key:
        peer = peer_of(request)
        fields = tuple([pair for pair in request.raw_headers if pair[0].lower() != _LENGTH])
        trusts = self._trusted.trusts(peer)
        return request.method, request.raw_path, request.host, request.scheme, trusts, peer, fields


def new_write_id(store: RegionStore, partition: Partition) -> str:
    """Make the id of a write, which says where it is queued."""
    return f"{store.name}-{partition.number}-{secrets.token_hex(16)}"


def origin_key(signer: Signer, principal: str, method: str, url: str, named: str) -> str:
    """The key by which an origin knows a write again; `named` is the client's own key, or the write's id."""
    return signer.sign_oldest("origin-key", principal, method, url, named)


def _emptied(record: WriteRecord) -> WriteRecord:
    return msgspec.structs.replace(record, body=b"", body_stored=False)


def _copied(copy: WriteRecord, record: WriteRecord) -> WriteRecord:
    """The copy of a write that stands with a resource that it affects."""
    replace = msgspec.structs.replace
    if copy.effect in (UNKNOWN_EFFECT, DELETE):
        return replace(copy, id=record.id, idempotency_key=record.idempotency_key, accepted=record.accepted)
    return replace(
        copy,
        id=record.id,
        body=record.body,
        body_stored=record.body_stored,
        idempotency_key=record.idempotency_key,
        accepted=record.accepted,
    )
