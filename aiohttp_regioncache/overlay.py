"""Folding: a base representation and the effects of writes that it may not contain yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from .effects import ABSOLUTE, UNKNOWN, Effects, Representation, Unknown, Write
from .records import WriteRecord


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

    `absolute`: it begins with a pending write, so that no base, however fresh, could add anything.
    """

    outcome: Outcome
    representation: Representation | None = None
    absolute: bool = False


class Step(msgspec.Struct, frozen=True):
    """One write of a fold, in order."""

    record: WriteRecord | None
    landed: bool


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
    chosen += [Step(item.record, False) for item in pending if item.record is None or own(item.record, principals)]
    return chosen


def fold(base: Base | None, chosen: Sequence[Step], *, url: str, principals: Sequence[str], effects: Effects) -> Fold:
    """Fold `chosen` over `base` for the exact target `url`, from the last write that needs no base."""
    if not chosen:
        return Fold(Outcome.CLEAN)
    if base is None and all(step.landed for step in chosen):
        return Fold(Outcome.NEEDS_BASE)  # the origin has them all: better its answer than a guess
    start = _start(base, chosen, url, principals, effects)
    absolute = start is not None
    applied = chosen[start or 0 :]
    # The newest first: what is pending may be waited for, what has landed is asked of the origin afterwards.
    if blind := next((step for step in reversed(applied) if _blind(base, step, url, principals, effects)), None):
        return _unknown(blind)
    if not absolute and (base is None or base.representation is None):
        return Fold(Outcome.NEEDS_BASE)
    current = None if absolute or base is None else base.representation
    for step in applied:
        result = _apply(step, current, effects)
        if isinstance(result, Unknown):
            return _unknown(step)
        current = result
    unconfirmed = start is not None and not chosen[start].landed
    if current is None:
        return Fold(Outcome.GONE, absolute=unconfirmed)
    return Fold(Outcome.FOLDED, current, unconfirmed)


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
    if record is None or record.url != url or not effects.knows(record.effect) or _is_partial(record):
        return True
    # What another principal wrote says nothing about an entry that is one user's own, nor about an absent base.
    foreign = record.principal not in principals and not record.shared
    return foreign and (base is None or base.private)


def _is_partial(record: WriteRecord) -> bool:
    """Whether the body is a coded form or a part of what the effect speaks of (RFC 9110 sections 8.4 and 14.5)."""
    return any(
        name.lower() == b"content-range" or (name.lower() == b"content-encoding" and value.lower() != b"identity")
        for name, value in record.headers
    )


def _apply(step: Step, current: Representation | None, effects: Effects) -> Representation | Unknown | None:
    if step.record is None:
        return UNKNOWN
    return effects.apply(step.record.effect, current, write_of(step.record))


def _unknown(step: Step) -> Fold:
    return Fold(Outcome.UNKNOWN_LANDED if step.landed else Outcome.UNKNOWN_PENDING)


def write_of(record: WriteRecord) -> Write:
    """The request of a stored write as effect functions see it."""
    content_type = next(
        (value.decode("utf-8", "surrogateescape") for name, value in record.headers if name.lower() == b"content-type"),
        "",
    )
    return Write(record.method, record.url, record.body, content_type)
