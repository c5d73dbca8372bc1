"""What the writers of a campaign saw, and what is wrong with what the origin did."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Numbers = Mapping[str, Sequence[int]]
"""The numbers written to each path, in order."""


@dataclass(slots=True)
class Ledger:
    """The writers' side: what was acknowledged, what went wrong, and reads that lacked an acknowledged write."""

    acknowledged: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    reads: int = 0
    unmarked_old_reads: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return how many writes were acknowledged."""
        return sum(map(len, self.acknowledged.values()))


@dataclass(frozen=True, slots=True)
class Damage:
    """Writes, as `path number`, that were lost, applied more than once, or applied out of order."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    disordered: tuple[str, ...]


def damage(acknowledged: Numbers, applied: Numbers) -> Damage:
    """Compare what was acknowledged with what the origin applied.

    Each path has one writer with rising numbers. A write without an acknowledgement may have been applied or not, but
    neither twice nor after a later one.
    """
    lost, doubled, disordered = [], [], []
    for path in {*acknowledged, *applied}:
        numbers = applied.get(path, ())
        lost += [f"{path} {n}" for n in acknowledged.get(path, ()) if n not in numbers]
        doubled += [f"{path} {n}" for n, count in Counter(numbers).items() if count > 1]
        first = list(dict.fromkeys(numbers))
        disordered += [f"{path} {after}" for before, after in pairwise(first) if after < before]
    return Damage(tuple(lost), tuple(doubled), tuple(disordered))
