"""Collecting what did not work."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Checks:
    """How many checks held, and how often each failure was seen."""

    passed: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def expect(self, condition: bool, failure: str) -> bool:
        """Note whether `condition` holds, with the line to show when it does not; return it."""
        if condition:
            self.passed += 1
        else:
            self.failures[failure] += 1
        return condition
