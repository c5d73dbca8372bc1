"""What is wrong with what was seen. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.campaigns.journal import Known, Sent
from tests.campaigns.origin import Effect
from tests.campaigns.rules import shelf_of

Name = tuple[str, int]
"""Path and number of a write."""


def admits(cache_status: str) -> bool:
    """Whether an answer says that it may lack pending writes. A `hit` that is dirty has them folded in."""
    return "detail=behind-unreachable" in cache_status or (
        "detail=dirty" in cache_status and "; hit" not in cache_status
    )


def is_older(seen: int | None, floor: int, known: Known) -> bool:
    """Whether a read that showed the number `seen`, None for nothing, went back behind what was acknowledged (W4)."""
    if seen is not None:
        return seen < floor and seen not in known.loose
    return floor > 0 and not any(number >= floor or number in known.loose for number in known.deletes)


def lost(acknowledged: Iterable[Sent], effects: Sequence[Effect], forgiven: set[Name]) -> list[str]:
    """Acknowledged writes that the origin never applied, but for the `forgiven`, whose end was told (W1)."""
    applied = {(effect.path, effect.number) for effect in effects}
    names = applied | forgiven
    return [write.name for write in acknowledged if (write.path, write.number) not in names]


def duplicated(effects: Sequence[Effect], allowed: set[str]) -> list[str]:
    """Writes applied more than once (W3), but for those to the paths in `allowed`."""
    counts = Counter((effect.path, effect.number) for effect in effects)
    return [f"{path} {number}: {n} times" for (path, number), n in counts.items() if n > 1 and path not in allowed]


def invented(writes: Mapping[Name, Sent], effects: Sequence[Effect]) -> list[str]:
    """Effects of writes that nobody sent, or that somebody else sent."""
    wrong = []
    for effect in effects:
        write = writes.get((effect.path, effect.number))
        if write is None or f"Bearer {write.principal}" != effect.principal or write.method != effect.method:
            wrong.append(f"{effect.method} {effect.path} {effect.number} as {effect.principal!r}")
    return wrong


def reordered(writes: Mapping[Name, Sent], effects: Sequence[Effect], forgiven: set[Name]) -> list[str]:
    """Writes of one resource whose first effects came in another order than they were accepted in (W2).

    One was accepted before another when it was acknowledged before the other was sent. Writes that were not
    acknowledged may have been accepted at any time.
    """
    return [
        f"{late.name} after {early.name}"
        for order in _first_effects(writes, effects, forgiven).values()
        for late, early in _inversions(order)
    ]


def _first_effects(
    writes: Mapping[Name, Sent], effects: Sequence[Effect], forgiven: set[Name]
) -> dict[str, list[Sent]]:
    order: dict[str, list[Sent]] = defaultdict(list)
    seen = set(forgiven)
    for effect in effects:
        name = effect.path, effect.number
        write = writes.get(name)
        if name not in seen and write is not None and write.acknowledged is not None:
            seen.add(name)
            order[effect.path].append(write)
    return order


def _inversions(order: Sequence[Sent]) -> Iterator[tuple[Sent, Sent]]:
    """Pairs of which the first was acknowledged before the second was sent, yet stands behind it."""
    newest: Sent | None = None
    for write in order:
        assert write.acknowledged is not None
        if newest is not None and write.acknowledged < newest.sent:
            yield write, newest
        if newest is None or write.sent > newest.sent:
            newest = write


def rekeyed(keys: Mapping[Name, set[str]]) -> list[str]:
    """Writes whose attempts carried different idempotency keys (W3)."""
    return [f"{path} {number}: {len(found)} keys" for (path, number), found in keys.items() if len(found) > 1]


def gone_back(effects: Iterable[Effect]) -> set[str]:
    """Resources, with the lists they stand in, that a plain origin last changed with a write it had applied before.

    An attempt that was given up came late: nobody at the edges can know.
    """
    seen: set[Name] = set()
    last: dict[str, bool] = {}
    for effect in effects:
        name = effect.path, effect.number
        last[effect.path] = name in seen
        seen.add(name)
    found = {path for path, again in last.items() if again}
    return found | {shelf[0] for path in found if (shelf := shelf_of(path))}


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; 0.0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
