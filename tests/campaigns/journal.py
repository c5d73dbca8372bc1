"""What the clients of a campaign saw."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.campaigns.origin import Effect


@dataclass(slots=True)
class Sent:
    """A write that a client sent: its number is unique on its path. Times are monotonic seconds."""

    path: str
    number: int
    principal: str
    region: str
    method: str
    sent: float
    acknowledged: float | None = None
    id: str = ""

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.path} {self.number} of {self.principal} in {self.region}"


@dataclass(slots=True)
class Known:
    """What a principal knows of its writes to a resource.

    `floor` is the newest number acknowledged. What is in `loose` was never acknowledged: nobody knows when it was
    accepted, if ever. `deletes` are the numbers that deleted.
    """

    floor: int = 0
    loose: set[int] = field(default_factory=set)
    deletes: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Probe:
    """How many seconds it took until an edge of another region showed an effect, or until nobody asked any more."""

    effect: Effect
    url: str
    seconds: float


@dataclass(slots=True)
class Journal:
    """Everything that is counted or judged; `faults` by kind, `findings` by check."""

    writes: dict[tuple[str, int], Sent] = field(default_factory=dict)
    known: dict[tuple[str, str], Known] = field(default_factory=lambda: defaultdict(Known))
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    convergence: list[Probe] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Sent]:
        """The writes that were acknowledged."""
        return [write for write in self.writes.values() if write.acknowledged is not None]

    def found(self, check: str, what: Iterable[str]) -> None:
        """Note findings of a check."""
        self.findings[check] += what
