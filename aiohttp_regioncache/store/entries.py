"""Entries and states: what a read needs, in one round trip."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..errors import RecordError, UnreadableRecordError
from ..keys import Resource, url_digest
from ..overlay import Listed
from ..records import CacheRecord, decode_cache_record, encode
from .events import announcement
from .keyspace import Partition, events_channel
from .pipe import packed
from .region import RegionStore
from .scripts import script
from .sealed import open_body, open_record

STATE_SECONDS: Final = 8 * 86_400
"""Lifetime of a clean state; longer than any entry's."""
BEGUN_SECONDS: Final = 120
"""Lifetime of a state that a fetch has made, until its answer is stored; longer than a fetch takes."""
MAX_ENTRY_SECONDS: Final = 7 * 86_400
"""Longest lifetime of an entry in Redis."""
OUTBOX_LENGTH: Final = 100_000
"""Invalidations that a partition's outbox holds; a region that is further behind is flushed."""
MAX_FOLDED: Final = 512
"""Pending writes that a read folds at most; with more its reader waits for them."""
_LANDED_PREFIX: Final = 13
_SHORT: Final = 128


class State(msgspec.Struct, frozen=True):
    """What is known of a resource: its token, landing numbers trimmed and newest, and how many writes are pending."""

    token: str
    trimmed: int
    landed: int
    pending: int


def parse_state(raw: bytes | None) -> State | None:
    """Read a state; None, nothing known, for what is missing or broken."""
    if raw is None:
        return None
    return (_parse_state if len(raw) <= _SHORT else _parse_state.__wrapped__)(raw)


@functools.lru_cache(maxsize=4096)  # what many read seldom changes
def _parse_state(raw: bytes) -> State | None:
    try:
        token, *counts = raw.decode().rsplit("|", 4)
        trimmed, landed, pending, _ = map(int, counts)  # the octets are for `accept` alone
        return State(token, trimmed, landed, pending)
    except ValueError:
        return None


class Glance(msgspec.Struct, frozen=True):
    """Entry, state and number of the newest purge (0: nothing is known of any) of one moment."""

    entry: CacheRecord | None
    state: State | None
    purge: int


class Look(msgspec.Struct, frozen=True):
    """Entry, state, lists and newest purge of one moment. `is_whole` is false when landed writes have been evicted.

    Of the pending writes to other resources only those that the asker sees are listed.
    """

    entry: CacheRecord | None
    state: State | None
    pending: tuple[Listed, ...]
    landed: tuple[Listed, ...]
    purge: int

    @property
    def is_whole(self) -> bool:
        """Whether the list of landed writes reaches up to the newest."""
        newest = self.landed[-1].number if self.landed else 0
        return self.state is None or newest >= self.state.landed or self.state.landed <= self.state.trimmed


class Remembered(msgspec.Struct, frozen=True):
    """What a fetch remembers of the resource before it asks the origin; nothing is stored under an empty token.

    `purge` is the number of the newest purge: what is purged later covers the answer.
    """

    token: str
    asof: int
    purge: int


class Exchanged(msgspec.Struct, frozen=True):
    """The token that a resource had, empty when nothing was known of it, and the one that it has now."""

    before: str
    after: str


def glanced_at(partition: Partition, resource: Resource, *keys: str) -> tuple[bytes, ...]:
    """The keys of entries, of the state of their resource and of the newest purge, as `Glances` take them."""
    found = (*map(partition.entry, keys), partition.state(resource.digest), partition.purge)
    return tuple(map(packed, found))


def remembered(store: RegionStore, state: State | None, purge: int) -> Remembered | None:
    """What a fetch remembers where everything is known already; None where that has to be made."""
    if state is None or not purge or not state.token.startswith(store.run):
        return None
    return Remembered(state.token, state.landed, purge)


async def glance(store: RegionStore, partition: Partition, key: str, resource: Resource) -> Glance:
    """Read an entry, the state of its resource and the newest purge. Raises `RegionUnavailableError`."""
    entry, state, purge = await store.glances.get(partition, glanced_at(partition, resource, key))
    return Glance(decode_cache_record(entry) if entry is not None else None, parse_state(state), purge_number(purge))


async def look(
    store: RegionStore, partition: Partition, key: str, resource: Resource, principals: Sequence[str], url: str
) -> Look:
    """Read an entry, the state and the lists of its resource in one script, as the bearer of `principals` sees `url`.

    Raises `RegionUnavailableError`.
    """
    keys = (partition.entry(key), *partition.resource(resource.digest), partition.purge)
    arguments: list[str | int] = [url_digest(url), MAX_FOLDED, *principals]
    entry, raw_state, pending, affected, landed, purge = await store.reads.run(script("look"), keys, arguments)
    waiting = sorted((*_listed(store, pending), *_listed(store, affected)), key=lambda item: item.number)
    state = parse_state(raw_state)
    return Look(
        decode_cache_record(entry) if entry is not None else None,
        state,
        tuple(waiting),
        # Where nothing has landed by the state, what is listed landed by one that is forgotten.
        _listed(store, landed, _LANDED_PREFIX) if state is not None and state.landed else (),
        purge_number(purge),
    )


async def begin(store: RegionStore, partition: Partition, resource: Resource) -> Remembered:
    """Remember the state of a resource before a fetch, making one if nothing is known, and the newest purge.

    What changed or was purged within the region's `holdoff` the origin's readers may not show yet: then the token is
    empty. Raises `RegionUnavailableError`.
    """
    arguments = (store.new_token(), store.run, int(store.holdoff * 1000), BEGUN_SECONDS * 1000)
    keys = (*partition.resource(resource.digest), partition.purge, partition.purges)
    token, asof, purge = await store.reads.run(script("begin"), keys, arguments)
    return Remembered(token.decode(), asof, purge)


async def fill(
    store: RegionStore,
    partition: Partition,
    resource: Resource,
    key: str,
    record: CacheRecord,
    lifetime: float,
    marker: tuple[str, CacheRecord] | None,
) -> bool:
    """Store a fetched response unless the resource's state has changed since (C1).

    `lifetime` is seconds; `marker` the key and record that name the selecting fields of a resource that varies.
    Raises `RegionUnavailableError`.
    """
    marker_key, marker_bytes = (marker[0], encode(marker[1])) if marker else (key, b"")
    keys = (partition.entry(key), partition.entry(marker_key), *partition.resource(resource.digest))
    milliseconds = max(1, int(min(lifetime, MAX_ENTRY_SECONDS) * 1000))
    arguments = (
        record.token, record.asof, encode(record), milliseconds, marker_bytes, STATE_SECONDS * 1000, store.run,
    )  # fmt: skip
    answer: bytes = await store.fills.run(script("fill"), keys, arguments)
    return answer == b"stored"


async def invalidate(
    store: RegionStore, partition: Partition, digests: Sequence[str], *, announce: bytes = b"", intent: bytes = b""
) -> Exchanged:
    """Stop serving every entry of some resources of a partition.

    `announce` goes to the outbox for the other regions; `intent` is fulfilled. Gives the tokens of the first resource.
    Raises `RegionUnavailableError`.
    """
    keys = [partition.out, partition.intents, *(key for digest in digests for key in partition.resource(digest))]
    message = announcement(partition.number, "", tuple(digests))
    arguments = (
        store.new_token(), STATE_SECONDS * 1000, events_channel(store.name), message, announce, OUTBOX_LENGTH, intent,
        int(store.holdoff * 1000),
    )  # fmt: skip
    before, after = await store.queue.run(script("invalidate"), keys, arguments)
    return Exchanged(before.decode(), after.decode())


async def body_of(store: RegionStore, partition: Partition, write_id: str) -> bytes | None:
    """Read the body of a large write; None when it has settled or cannot be decrypted here.

    Raises `RegionUnavailableError`.
    """
    body = await store.reads.command("GET", partition.body(write_id))
    try:
        return open_body(store.cipher, body, write_id)
    except UnreadableRecordError:
        return None


def purge_number(raw: bytes | None) -> int:
    """Read the number of the newest purge; 0, nothing is known of any, for what is missing or broken."""
    return int(raw) if raw is not None and raw.isdigit() else 0


def _listed(store: RegionStore, flat: list[Any], prefix: int = 0) -> tuple[Listed, ...]:
    items = []
    for element, number in zip(flat[::2], flat[1::2], strict=True):
        try:
            record = open_record(store.cipher, element[prefix:])
        except RecordError:
            record = None
        items.append(Listed(int(float(number)), record))
    return tuple(items)
