"""What has become of the state that an entity tag of ours names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from ..semantics.conditional import is_strong_etag
from ..semantics.fields import first
from ..tags import DirtyTag, parse_dirty_tag
from . import queue
from .keyspace import Partition
from .region import RegionStore

MAX_ENDED: Final = 1_000
"""Dead and rejected writes that are looked through, each; after more of them a state counts as vanished."""
MAX_NAMED: Final = 4
"""Tags of ours in one If-Match that are looked up, which is dear; the states of those behind count as vanished."""
_TELLS_ETAG: Final = frozenset({"200", "201", "204"})


class Fate(Enum):
    """Where the state is now."""

    PENDING = "pending"  # on its way to the origin
    SYNCED = "synced"  # the origin has it
    REPLACED = "replaced"  # a later write took its place before it was sent
    VANISHED = "vanished"  # a write in it was refused or given up, or it never was a state of the resource
    FORGOTTEN = "forgotten"  # no write is known that led to it: it settled too long ago, or elsewhere


class Named(msgspec.Struct, frozen=True):
    """The fate of a named state; `etag` is the origin's strong entity tag for it, or empty, `seq` its last write's."""

    fate: Fate
    etag: str = ""
    seq: int = 0


_VANISHED: Final = Named(Fate.VANISHED)


async def fates_of(
    store: RegionStore, partition: Partition, etags: Sequence[str], digest: str, principals: Sequence[str]
) -> dict[str, Named]:
    """Find the fates of the states that those of `etags` name which are ours, by tag; else as `fate_of`."""
    if not etags:
        return {}
    ours = {etag: tag for etag in etags if (tag := parse_dirty_tag(etag)) is not None}
    looked_up = list(ours)[:MAX_NAMED]
    found = await asyncio.gather(*(fate_of(store, partition, ours[etag], digest, principals) for etag in looked_up))
    return dict.fromkeys(ours, _VANISHED) | dict(zip(looked_up, found, strict=True))


async def fate_of(
    store: RegionStore, partition: Partition, tag: DirtyTag, digest: str, principals: Sequence[str]
) -> Named:
    """Find what has become of a state of the resource `digest` that the bearer of `principals` has seen.

    Raises `RegionUnavailableError`.
    """
    known = await queue.status(store, partition, f"{store.name}-{partition.number}-{tag.write}")
    if known is None or "state" not in known:
        return Named(Fate.FORGOTTEN)
    if known.get("digest") != digest or not _has_seen(known, principals):
        return _VANISHED
    named = Named(_FATES.get(known["state"], Fate.VANISHED), etag_after(known), int(known["seq"]))
    if named.fate is Fate.VANISHED or not 0 < tag.first < named.seq:
        return named
    lost = await _lost_since(store, partition, int(known["accepted"]))
    is_lost = lost is None or any(
        tag.first <= int(fields["seq"]) < named.seq
        and digest in (fields.get("digest"), *fields.get("affected", "").split())
        and _has_seen(fields, principals)
        for fields in lost
    )
    return _VANISHED if is_lost else named


_FATES: Final = {"pending": Fate.PENDING, "synced": Fate.SYNCED, "superseded": Fate.REPLACED}


def _has_seen(status: Mapping[str, str], principals: Sequence[str]) -> bool:
    """Whether a write showed to the bearer of `principals`, as it does to all once it has landed."""
    return status.get("principal") in principals or status.get("shared") == "1" or status.get("state") == "synced"


def etag_after(status: Mapping[str, str]) -> str:
    """The strong entity tag that the origin gave the resource with a write, from its status; empty without one.

    Only the answers to PUT and PATCH speak of the target (RFC 9110 sections 8.8.3 and 9.3.4).
    """
    if status.get("method") not in ("PUT", "PATCH") or status.get("answer") not in _TELLS_ETAG:
        return ""
    etag = first(queue.answer_headers(status), "etag") or ""
    return etag.strip() if is_strong_etag(etag) else ""


async def _lost_since(store: RegionStore, partition: Partition, since: int) -> list[dict[str, str]] | None:
    """The statuses of writes that were refused or given up since then; None when there are too many."""
    found = await asyncio.gather(
        *(
            store.queue.command("ZRANGEBYSCORE", partition.ended(outcome), since, "+inf", "LIMIT", 0, MAX_ENDED + 1)
            for outcome in ("rejected", "dead")
        )
    )
    if any(len(names) > MAX_ENDED for names in found):
        return None
    names = [name.decode() for part in found for name in part]
    statuses = await asyncio.gather(*(queue.status(store, partition, name) for name in names))
    return [fields for fields in statuses if fields is not None]
