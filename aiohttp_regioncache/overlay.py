"""Folding: a base representation and the effects of writes that it may not contain yet. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from .effects import ABSOLUTE, Effects, Representation, Unknown, Write
from .principal import is_anonymous
from .records import WriteRecord

MEMO_BYTES: Final = 16 * 1024 * 1024
"""Bytes of folds that a process remembers."""
MEMO_FROM: Final = 8
"""Fewer writes are folded afresh: that costs no more than to remember them."""
_STEP_BYTES: Final = 200


class Listed(msgspec.Struct, frozen=True):
    """A write in a resource's lists: its number there and its record; None for one that this edge cannot read."""

    number: int
    record: WriteRecord | None


class Base(msgspec.Struct, frozen=True):
    """A stored or fetched response as a fold sees it.

    `asof` is the landing number up to which it contains the landed writes. `representation` is None when the
    response cannot be folded over: no 200, a coding, no media type. `private` says that it is one principal's own.
    """

    asof: int
    representation: Representation | None
    private: bool = False


class Outcome(Enum):
    """What a fold came to."""

    CLEAN = "clean"  # nothing to fold: the base is what the principal sees
    FOLDED = "folded"  # a representation
    GONE = "gone"  # the resource is deleted
    NEEDS_BASE = "needs-base"  # the effects are known but there is nothing to fold over
    UNKNOWN_PENDING = "unknown-pending"  # a write of the principal's own does something unknown
    UNKNOWN_LANDED = "unknown-landed"  # the base lacks a landed write that does something unknown


class Fold(msgspec.Struct, frozen=True):
    """The result of a fold; `representation` with `Outcome.FOLDED` only.

    `absolute`: it begins with a pending write, so that no base, however fresh, could add anything. `last` is the id
    of the last write in it, `first` the number of the first pending one, 0 when all have landed.
    """

    outcome: Outcome
    representation: Representation | None = None
    absolute: bool = False
    last: str = ""
    first: int = 0


class Step(msgspec.Struct, frozen=True):
    """One write of a fold, in order; `number` is that of a pending one."""

    record: WriteRecord | None
    landed: bool
    number: int = 0


Names = tuple[tuple[str, str], ...]
"""Writes in order, each by its id and its effect."""


class Memo:
    """What folds came to, so that one of the same writes and a few more goes on from there.

    It holds `max_bytes` at most; what was asked for least recently goes first. A write is known by its id and its
    effect: these never stand for anything else.
    """

    def __init__(self, max_bytes: int = MEMO_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[object, tuple[Names, Representation | None, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, key: object, names: Names) -> tuple[int, Representation | None]:
        """How many of these writes a remembered fold took, and what it came to; 0 when none can be gone on from."""
        known, result, _ = self._kept.get(key, ((), None, 0))
        if not known or names[: len(known)] != known:
            return 0, None
        self._kept.move_to_end(key)
        return len(known), result

    def keep(self, key: object, names: Names, size: int, result: Representation | None) -> None:
        """Remember what a fold came to; `size` is the bytes of its base."""
        self._forget(key)
        weight = size + (len(result.body) if result else 0) + _STEP_BYTES * len(names)
        if len(names) < MEMO_FROM or weight > self._max_bytes:
            return
        self._kept[key] = (names, result, weight)
        self._bytes += weight
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: object) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._bytes -= kept[2]


def own(record: WriteRecord, principals: Sequence[str]) -> bool:
    """Whether a pending write shows to the bearer of any of `principals` (W6)."""
    return record.shared or record.principal in principals


def steps(
    base: Base | None, landed: Sequence[Listed], pending: Sequence[Listed], principals: Sequence[str]
) -> list[Step]:
    """Choose the writes to fold: landed ones that the base lacks, then the principal's own pending ones.

    A pending write that cannot be read may be the principal's own and counts as such, of unknown effect.
    """
    asof = base.asof if base else 0
    chosen = [Step(item.record, True) for item in landed if item.number > asof]
    chosen += [
        Step(item.record, False, item.number)
        for item in pending
        if item.record is None or own(item.record, principals)
    ]  # fmt: skip
    return chosen


def fold(
    base: Base | None,
    chosen: Sequence[Step],
    *,
    url: str,
    principals: Sequence[str],
    effects: Effects,
    memo: Memo | None = None,
) -> Fold:
    """Fold `chosen` over `base` for the exact target `url`, from the last write that needs no base.

    With a `memo`, which may serve one set of `effects` only, it comes to the same at less cost.
    """
    if not chosen:
        return Fold(Outcome.CLEAN)
    if base is None and all(step.landed for step in chosen):
        return Fold(Outcome.NEEDS_BASE)  # the origin has them all: better its answer than a guess
    start = _start(base, chosen, url, principals, effects)
    over = base.representation if base is not None and start is None else None
    applied = chosen[start or 0 :]
    key = (url, tuple(principals), base is None or base.private, over)
    names = _names(applied) if memo is not None and len(applied) >= MEMO_FROM else ()
    done, remembered = memo.recall(key, names) if memo is not None and names else (0, None)
    # The newest first: what is pending may be waited for, what has landed is asked of the origin afterwards.
    rest = applied[done:]
    if blind := next((step for step in reversed(rest) if _blind(base, step, url, principals, effects)), None):
        return _unknown(blind)
    if start is None and over is None:
        return Fold(Outcome.NEEDS_BASE)
    changes = [(step.record.effect, write_of(step.record)) for step in rest if step.record is not None]
    result, count = effects.apply_all(remembered if done else over, changes)
    if isinstance(result, Unknown):
        return _unknown(rest[count])
    if memo is not None and names and rest:
        memo.keep(key, names, len(over.body) if over else 0, result)
    return _folded(applied, result, absolute=start is not None and not chosen[start].landed)


class Folder:
    """Fold with an edge's effects, going on from what was folded before."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._memo = Memo()

    def fold(self, base: Base | None, chosen: Sequence[Step], *, url: str, principals: Sequence[str]) -> Fold:
        """Fold `chosen` over `base` for the exact target `url`."""
        return fold(base, chosen, url=url, principals=principals, effects=self._effects, memo=self._memo)


def _folded(applied: Sequence[Step], result: Representation | None, *, absolute: bool) -> Fold:
    last = applied[-1].record
    return Fold(
        Outcome.GONE if result is None else Outcome.FOLDED,
        result,
        absolute,
        last.id if last else "",
        next((step.number for step in applied if not step.landed), 0),
    )


def _names(applied: Sequence[Step]) -> Names:
    return tuple((step.record.id, step.record.effect) if step.record else ("", "") for step in applied)


def _start(
    base: Base | None, chosen: Sequence[Step], url: str, principals: Sequence[str], effects: Effects
) -> int | None:
    for index in range(len(chosen) - 1, -1, -1):
        step = chosen[index]
        absolute = step.record is not None and step.record.effect in ABSOLUTE
        if absolute and not _blind(base, step, url, principals, effects):
            return index
    return None


def _blind(base: Base | None, step: Step, url: str, principals: Sequence[str], effects: Effects) -> bool:
    """Whether a write's effect cannot be known here whatever the base says."""
    record = step.record
    if record is None or record.url != url or not effects.knows(record.effect) or is_partial(record):
        return True
    # What another principal wrote says nothing about an entry that is one user's own, nor about an absent base; and
    # what the origin shows to others of a write that came with credentials, only the origin knows.
    foreign = record.principal not in principals and not record.shared
    return foreign and (base is None or base.private or not is_anonymous(record.principal))


def is_partial(record: WriteRecord) -> bool:
    """Whether the body is a coded form or a part of what the effect speaks of (RFC 9110 sections 8.4 and 14.5)."""
    return any(
        name.lower() == b"content-range" or (name.lower() == b"content-encoding" and value.lower() != b"identity")
        for name, value in record.headers
    )


def _unknown(step: Step) -> Fold:
    return Fold(Outcome.UNKNOWN_LANDED if step.landed else Outcome.UNKNOWN_PENDING)


def write_of(record: WriteRecord) -> Write:
    """The request of a stored write as effect functions see it."""
    content_type = next(
        (value.decode("utf-8", "surrogateescape") for name, value in record.headers if name.lower() == b"content-type"),
        "",
    )
    return Write(record.method, record.url, record.body, content_type)
