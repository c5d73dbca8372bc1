"""The process's own memory: fresh entries for a short time, bounded in bytes, emptied by what a region announces."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from ..records import CacheRecord
from ..store.events import Changed, Events
from .ready import Ready

_OVERHEAD: Final = 1024


class Kept:
    """An entry that is kept; `until` is a time of the memory's clock, `ready` None until it is sent for the first time.

    `number` is its own, so that who has looked at it need not hold on to it. `is_ordinary`: it cannot be made ready.
    """

    __slots__ = ("digest", "is_ordinary", "number", "ready", "record", "size", "until")

    def __init__(self, record: CacheRecord, until: float, size: int, digest: str, number: int) -> None:
        self.number = number
        self.record = record
        self.until = until
        self.size = size
        self.digest = digest
        self.ready: Ready | None = None
        self.is_ordinary = False


class Memory:
    """Entries of one region by their key.

    `seconds` is how long one stays, `max_bytes` what all may take; 0 turns it off. It is off as well while the region's
    subscription does not stand (C3).
    """

    def __init__(
        self,
        region: str,
        events: Events,
        *,
        seconds: float,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._region = region
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._keys: defaultdict[str, set[str]] = defaultdict(set)
        self._bytes = 0
        self._numbers = itertools.count(1)
        self._events = events
        self.generation = 0
        events.on_change(self._changed)
        events.on_link(self._link)

    def get(self, key: str) -> CacheRecord | None:
        """Find an entry that is still kept."""
        kept = self.find(key)
        return None if kept is None else kept.record

    def find(self, key: str) -> Kept | None:
        """Find an entry that is still kept, with what has been made of it."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until < self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def ready(self, kept: Kept) -> Ready | None:
        """What goes out for an entry that is kept; None for one that cannot be made ready."""
        if kept.ready is None and not kept.is_ordinary:
            kept.ready = Ready.of(kept.record, self._region, "memory")
            kept.is_ordinary = kept.ready is None
            if kept.ready is not None:
                kept.size += kept.ready.size
                self._bytes += kept.ready.size
                self._shrink()
        return kept.ready

    def put(self, key: str, record: CacheRecord, digest: str, generation: int) -> None:
        """Keep an entry, unless something was announced since `generation` was read."""
        if self.is_off:
            return
        size = len(record.body) + len(record.sent_lines) + _OVERHEAD
        if not self._events.is_connected or generation != self.generation or size > self._max_bytes:
            return
        self._drop(key)
        self._kept[key] = Kept(record, self._clock() + self._seconds, size, digest, next(self._numbers))
        self._keys[digest].add(key)
        self._bytes += size
        self._shrink()

    def forget(self, digests: Iterable[str]) -> None:
        """Drop the entries of some resources, and what is being read of them now."""
        self.generation += 1
        for digest in digests:
            for key in tuple(self._keys.get(digest, ())):
                self._drop(key)

    def clear(self) -> None:
        """Forget everything, and what is being read now."""
        self.generation += 1
        self._kept.clear()
        self._keys.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def is_off(self) -> bool:
        """Whether it never keeps anything."""
        return self._seconds <= 0

    @property
    def size(self) -> int:
        """The octets that all take."""
        return self._bytes

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _changed(self, change: Changed) -> None:
        if change.purged:
            self.clear()
        else:
            self.forget(change.digests)

    def _link(self, _up: bool) -> None:
        self.clear()

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._bytes -= kept.size
        keys = self._keys[kept.digest]
        keys.discard(key)
        if not keys:
            del self._keys[kept.digest]
