"""What a region said last for the requests of a plan: of what says the same only the body is taken. Pure."""

from __future__ import annotations

from typing import Final

from ..records import around_body
from ..semantics.vary import Known
from ..store.glances import Values
from .ready import Ready

Variant = tuple[tuple[str, ...], Known, str]
"""The fields that select, what the marker knows of them, and the key under it."""

_OVERHEAD: Final = 1536
"""Octets that one takes beside those of the fields, about."""
_TAG: Final = 64
"""Octets that a tag takes beside its own, about."""


class Seen:
    """An answer of a region that was a plain hit in its `run`, all but the body: the octets before it and behind it.

    `values` are entry, state and purge; where a `variant` was asked for, the marker that names it comes first.
    """

    __slots__ = ("_after", "_before", "_body", "_head", "_marker", "_purge", "_run", "_size", "_state", "_variant")

    def __init__(
        self, variant: Variant | None, values: Values, run: str, around: tuple[bytes, bytes], ready: Ready
    ) -> None:
        self._before, self._after = around
        length = len(ready.body)
        self._body = slice(len(self._before), len(self._before) + length)
        self._size = len(self._before) + length + len(self._after)
        self._variant = variant
        self._marker = None if variant is None else values[0]
        self._state, self._purge = values[-2:]
        self._run = run
        self._head = ready.headless()

    @classmethod
    def of(cls, variant: Variant | None, values: Values, run: str, ready: Ready) -> Seen | None:
        """Keep what was read and found to be `ready`; None for an entry that is not written as we would."""
        raw = values[-3]
        around = None if raw is None else around_body(raw, ready.record)
        return None if around is None else cls(variant, values, run, around, ready)

    @property
    def size(self) -> int:
        """The octets that it keeps, about: the fields lie there in the record, in its octets and in the head."""
        fields = 4 * (len(self._before) + len(self._after)) + len(self._marker or b"")
        return _OVERHEAD + fields + _TAG * len(self._head.record.tags)

    def again(self, variant: Variant | None, values: Values, run: str) -> Ready | None:
        """What goes out when a region says the same, but for the body; None when it does not."""
        raw = values[-3]
        if raw is None or len(raw) != self._size or values[-2] != self._state or values[-1] != self._purge:
            return None
        if not (raw.startswith(self._before) and raw.endswith(self._after)) or run != self._run:
            return None
        if variant is not self._variant or (variant is not None and values[0] != self._marker):
            return None
        return Ready(self._head, raw[self._body])
