"""What a stored entry is worth. Pure."""

from __future__ import annotations

from enum import Enum

import msgspec

from ..effects import Representation
from ..overlay import Base
from ..purges import UNPURGED, Purged
from ..records import CacheRecord
from ..semantics.fields import Headers, first
from ..semantics.freshness import current_age, softly_purged
from ..store.entries import State


class Standing(Enum):
    """How an entry stands to the state of its resource."""

    ABSENT = "absent"
    USABLE = "usable"
    OTHER_RUN = "other-run"  # another run of the server stored it: to be revalidated
    INVALIDATED = "invalidated"  # only good as a validator


def standing(entry: CacheRecord | None, state: State | None, run: str, purged: Purged = UNPURGED) -> Standing:
    """Judge an entry by its token, its landing number and the purges; `run` is the mark of the server's present run."""
    if entry is None:
        return Standing.ABSENT
    if purged.hard or state is None or entry.token != state.token or entry.asof < state.trimmed:
        return Standing.INVALIDATED
    return Standing.USABLE if state.token.startswith(run) else Standing.OTHER_RUN


def needs_lists(entry: CacheRecord | None, state: State | None, stands: Standing) -> bool:
    """Whether what a reader sees depends on the resource's lists of writes."""
    if state is None:
        return False
    usable = stands is Standing.USABLE
    return state.pending > 0 or (usable and entry is not None and state.landed > entry.asof)


def softened(entry: CacheRecord | None, purged: Purged, grace: float) -> CacheRecord | None:
    """See an entry as its purges leave it: a soft one makes it stale. `grace` as in `softly_purged`."""
    if entry is None or purged.since is None:
        return entry
    age = current_age(entry.initial_age, entry.response_time, purged.since)
    return msgspec.structs.replace(entry, terms=softly_purged(entry.terms, age, grace))


def base_of(status: int, headers: Headers, body: bytes, asof: int, *, private: bool) -> Base:
    """See a response as something to fold over: only a 200 of a known media type in identity coding."""
    coding = (first(headers, "content-encoding") or "identity").strip().lower()
    content_type = first(headers, "content-type")
    foldable = status == 200 and coding == "identity" and content_type is not None
    return Base(asof, Representation(body, content_type or "") if foldable else None, private)


def entry_base(entry: CacheRecord, *, selected: bool = False) -> Base:
    """See a stored entry as something to fold over; `selected` by more than its target, as `Vary` does."""
    private = bool(entry.owner or entry.vary or selected)
    return base_of(entry.status, entry.headers, entry.body, entry.asof, private=private)
