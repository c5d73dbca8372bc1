"""Which queued writes need not be sent, because the next one replaces what they write. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..overlay import is_partial
from ..records import WriteRecord
from ..store.queue import Queued

_PRECONDITIONS: Final = frozenset({b"if-match", b"if-none-match", b"if-unmodified-since", b"if-modified-since"})


def candidates(queued: Sequence[Queued]) -> Sequence[Queued]:
    """The writes at the head of a queue of which all but the last may be left out, if none was ever sent."""
    head = queued[0].record if queued else None
    if head is None or not _is_replacement(head):
        return ()
    end = 1
    while end < len(queued) and _replaces(queued[end].record, head):
        end += 1
    return queued[:end] if end > 1 else ()


def untried(candidates: Sequence[Queued], statuses: Sequence[Mapping[str, str]]) -> Sequence[Queued]:
    """Those candidates, from the first on, that nobody has tried to send; their statuses are in the same order."""
    end = next((n for n, known in enumerate(statuses) if not _is_untried(known)), len(candidates))
    return candidates[:end] if end > 1 else ()


def _replaces(record: WriteRecord | None, before: WriteRecord) -> bool:
    return (
        record is not None
        and _is_replacement(record)
        and (record.principal, record.url, record.endpoint) == (before.principal, before.url, before.endpoint)
    )


def _is_replacement(record: WriteRecord) -> bool:
    plain = record.coalesce and record.effect == "replace" and not record.chained and not is_partial(record)
    return plain and all(name.lower() not in _PRECONDITIONS for name, _ in record.headers)


def _is_untried(known: Mapping[str, str]) -> bool:
    tried = known.get("tries", "0") != "0" or known.get("unknown", "0") != "0"
    return known.get("state") == "pending" and not tried and "revived" not in known
