"""Which of an origin's addresses gets a request: by weight, and by what became of those before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ..upstream import OriginAddress

FAILURES: Final = 3
"""Failures in a row after which an address is left alone."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


class _Health:
    __slots__ = ("failures", "pause", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.pause = 0.0
        self.until = 0.0


class Balance:
    """Choose among addresses.

    One that failed three times in a row is left alone, for a time that doubles up to a minute. When all are left alone,
    the one whose time is over first is asked all the same.
    """

    def __init__(self, addresses: Sequence[OriginAddress], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._health = {address: _Health() for address in addresses}

    def order(self) -> Iterator[OriginAddress]:
        """The addresses in the order in which a request may try them."""
        now = self._clock()
        well = [address for address, health in self._health.items() if health.until <= now]
        while well:
            (chosen,) = random.choices(well, [address.weight for address in well]) if len(well) > 1 else well  # noqa: S311 - no secret
            well.remove(chosen)
            yield chosen
        out = [address for address, health in self._health.items() if health.until > now]
        yield from sorted(out, key=lambda address: self._health[address].until)

    def succeeded(self, address: OriginAddress) -> None:
        """Note that an address answered."""
        health = self._health[address]
        health.failures, health.pause, health.until = 0, 0.0, 0.0

    def failed(self, address: OriginAddress) -> None:
        """Note that an address did not answer, or said that it cannot."""
        health = self._health[address]
        health.failures += 1
        now = self._clock()
        if health.failures >= FAILURES and health.until <= now:
            health.pause = min(_LONGEST_PAUSE, 2 * health.pause or _FIRST_PAUSE)
            health.until = now + health.pause

    def is_well(self, address: OriginAddress) -> bool:
        """Whether an address is asked."""
        return self._health[address].until <= self._clock()
