"""Find what a region knows of a request's target."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import msgspec

from ..effects import UNKNOWN_EFFECT
from ..errors import RegionUnavailableError
from ..exchange import Exchange, Inquiry
from ..keys import record_key
from ..overlay import Base, Fold, Folder, Listed, Outcome, own, steps
from ..purges import HARD
from ..records import CacheRecord
from ..semantics.vary import NOTHING_KNOWN, Known, is_as_known, selecting
from ..store import entries
from ..store.entries import Glance, Look, State
from ..store.keyspace import Partition
from ..store.purging import purged
from ..store.region import RegionStore
from .decide import Standing, entry_base, needs_lists, softened, standing


class Found(msgspec.Struct, frozen=True):
    """An entry as it stands, and what the principal's view of it folds to.

    `purge` is the number of the newest purge, 0 when nothing is known of any; `made_stale` that one made the entry
    stale. `lacking` is how many landed writes a usable entry does not contain; `known` what is known of the selecting
    fields.
    """

    store: RegionStore
    partition: Partition
    key: str
    entry: CacheRecord | None
    state: State | None
    standing: Standing
    fold: Fold
    purge: int
    made_stale: bool = False
    has_pending: bool = False
    lacking: int = 0
    known: Known = NOTHING_KNOWN

    @property
    def usable(self) -> CacheRecord | None:
        """The entry, if it may be served."""
        return self.entry if self.standing is Standing.USABLE else None


_CLEAN = Fold(Outcome.CLEAN)


def entry_key(inquiry: Inquiry, names: tuple[str, ...] = (), known: Known = NOTHING_KNOWN) -> str:
    """The key of the entry for a request, given the fields that select among the resource's entries."""
    # The names themselves keep a request without any such field apart from the resource's plain key.
    selected = [(":vary", ",".join(names)), *selecting(inquiry.selecting_headers, names, known)] if names else ()
    return record_key(
        inquiry.site, inquiry.cached_as, "GET", selected, principal=inquiry.owner, parts=inquiry.key_parts
    )


def is_known(inquiry: Inquiry, names: tuple[str, ...], known: Known, entry: CacheRecord | None) -> bool:
    """Whether an entry is what `known` has led a request to expect; so is none at all."""
    return entry is None or not known.languages or is_as_known(known, names, inquiry.headers, entry.headers)


async def find(store: RegionStore, exchange: Exchange, folder: Folder) -> Found:
    """Look up entry, state and, where they count, the lists of writes. Raises `RegionUnavailableError`."""
    partition = store.partition(exchange.resource)
    key, known = entry_key(exchange), NOTHING_KNOWN
    seen = await entries.glance(store, partition, key, exchange.resource)
    if seen.entry is not None and seen.entry.is_marker:
        names, known = seen.entry.vary, seen.entry.known
        key = entry_key(exchange, names, known)
        seen = await entries.glance(store, partition, key, exchange.resource)
        if not is_known(exchange, names, known, seen.entry):
            known = known._replace(languages=())
            key = entry_key(exchange, names, known)
            seen = await entries.glance(store, partition, key, exchange.resource)
    entry, stands, made_stale = await _weighed(store, partition, exchange, seen)
    if not needs_lists(entry, seen.state, stands):
        return Found(store, partition, key, entry, seen.state, stands, _CLEAN, seen.purge, made_stale, known=known)
    url = exchange.cached_as.url
    looked = await entries.look(store, partition, key, exchange.resource, exchange.principal.ids, url)
    found = await _folded(store, partition, exchange, folder, key, looked)
    return msgspec.structs.replace(found, known=known)


async def _folded(
    store: RegionStore, partition: Partition, exchange: Exchange, folder: Folder, key: str, looked: Look
) -> Found:
    entry, stands, made_stale = await _weighed(store, partition, exchange, looked)
    usable = entry if stands is Standing.USABLE else None
    if usable is not None and looked.state and usable.asof < looked.state.landed and not looked.is_whole:
        stands, usable = Standing.INVALIDATED, None  # landed writes that it lacks have been evicted
    # Without a usable base the origin's next answer contains whatever has landed.
    landed = looked.landed if usable is not None else ()
    base = entry_base(usable, selected=bool(exchange.key_parts)) if usable is not None else None
    result = await refold(store, partition, exchange, folder, base, landed, looked.pending)
    has_pending = looked.state is not None and looked.state.pending > 0
    lacking = sum(item.number > usable.asof for item in landed) if usable is not None else 0
    return Found(
        store, partition, key, entry, looked.state, stands, result, looked.purge, made_stale, has_pending, lacking
    )


async def _weighed(
    store: RegionStore, partition: Partition, exchange: Exchange, seen: Glance | Look
) -> tuple[CacheRecord | None, Standing, bool]:
    """An entry as its purges leave it, how it stands, and whether a purge made it stale."""
    entry = _response(seen.entry)
    if entry is not None and not exchange.is_current(entry):
        entry = None  # its site has other features by now: that is another variant
    is_untold = exchange.resource.digest in store.untold
    covered = HARD if is_untold else await purged(store, partition, exchange.resource, entry, seen.purge)
    entry = softened(entry, covered, exchange.policy.soft_purge)
    return entry, standing(entry, seen.state, store.run, covered), covered.since is not None


async def look_again(found: Found, exchange: Exchange, folder: Folder) -> Found:
    """Look once more; what was found before stands while the region cannot be reached."""
    with contextlib.suppress(RegionUnavailableError):
        return await find(found.store, exchange, folder)
    return found


async def wait_until_told(
    found: Found, exchange: Exchange, folder: Folder, limit: float, unknown: Sequence[Outcome]
) -> Found:
    """Wait for one's own writes to land while the fold over them comes to one of `unknown`.

    At most `limit` seconds, or what the rules say.
    """
    deadline = time.monotonic() + (limit if exchange.dirty_wait is None else exchange.dirty_wait)
    with found.store.events.watch(exchange.resource.digest) as changed:
        while True:
            changed.clear()
            found = await look_again(found, exchange, folder)
            remaining = deadline - time.monotonic()
            if remaining <= 0 or found.fold.outcome not in unknown:
                return found
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), min(remaining, 1.0))  # an announcement may get lost


async def refold(
    store: RegionStore,
    partition: Partition,
    exchange: Exchange,
    folder: Folder,
    base: Base | None,
    landed: tuple[Listed, ...],
    pending: tuple[Listed, ...],
) -> Fold:
    """Fold writes over a base as the request's principal sees them. Raises `RegionUnavailableError`."""
    ids = exchange.principal.ids
    if any(item.record is not None and item.record.body_stored for item in pending):
        pending = tuple(await asyncio.gather(*(_with_body(store, partition, item, ids) for item in pending)))
    landed = tuple(_without_body(item) for item in landed)
    return folder.fold(base, steps(base, landed, pending, ids), url=exchange.cached_as.url, principals=ids)


def _response(entry: CacheRecord | None) -> CacheRecord | None:
    return None if entry is None or entry.is_marker else entry


async def _with_body(store: RegionStore, partition: Partition, item: Listed, ids: tuple[str, ...]) -> Listed:
    record = item.record
    if record is None or not record.body_stored or not own(record, ids):
        return item
    body = await entries.body_of(store, partition, record.id)
    if body is None:  # it has settled since
        return _without_body(item)
    return Listed(item.number, msgspec.structs.replace(record, body=body))


def _without_body(item: Listed) -> Listed:
    """A landed write whose large body is gone: it did something that cannot be told any more."""
    if item.record is None or not item.record.body_stored:
        return item
    return Listed(item.number, msgspec.structs.replace(item.record, effect=UNKNOWN_EFFECT))
