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
    """`failures` of requests and `unfit` checks in a row; `pause` is seconds, `until` when it is over."""

    __slots__ = ("failures", "on_trial", "pause", "unfit", "until")

    def __init__(self) -> None:
        self.unfit = 0
        self.recover()

    def recover(self) -> None:
        self.failures, self.pause, self.until, self.on_trial = 0, 0.0, 0.0, False


class Balance:
    """Choose among addresses.

    One that failed three times in a row is left alone, for a time that doubles up to a minute; then one request tries
    it, while the others still leave it alone. One that three checks in a row found unfit is left alone until a check
    finds it fit, whatever it answers to requests. When all are left alone, the one whose time is over first is asked
    all the same.
    """

    def __init__(self, addresses: Sequence[OriginAddress], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._health = {address: _Health() for address in addresses}

    def order(self) -> Iterator[OriginAddress]:
        """The addresses in the order in which a request may try them."""
        well = [address for address in self._health if self.is_well(address)]
        out = [address for address in self._health if address not in well]
        while well:
            (chosen,) = random.choices(well, [address.weight for address in well]) if len(well) > 1 else well  # noqa: S311 - no secret
            well.remove(chosen)
            self._begin_trial(chosen)
            yield chosen
        yield from sorted(out, key=lambda address: self._health[address].until)

    def _begin_trial(self, address: OriginAddress) -> None:
        """Have the others leave an address alone, if it was left alone before, until it is known how it is."""
        health = self._health[address]
        if health.failures >= FAILURES:
            health.on_trial, health.until = True, self._clock() + health.pause

    def succeeded(self, address: OriginAddress) -> None:
        """Note that an address answered."""
        self._health[address].recover()

    def failed(self, address: OriginAddress) -> bool:
        """Note that an address did not answer, or said that it cannot; gives whether it is left alone from now on."""
        health = self._health[address]
        health.failures += 1
        now = self._clock()
        # Of those that were asked at once and fail together, the first counts.
        if health.failures < FAILURES or (health.until > now and not health.on_trial):
            return False
        health.on_trial = False
        health.pause = min(_LONGEST_PAUSE, 2 * health.pause or _FIRST_PAUSE)
        health.until = now + health.pause
        return True

    def checked(self, address: OriginAddress, *, is_fit: bool) -> bool:
        """Note what a check found; gives whether the address is left alone from now on."""
        health = self._health[address]
        if is_fit:
            health.unfit = 0
            health.recover()
            return False
        health.unfit += 1
        return health.unfit == FAILURES

    def is_well(self, address: OriginAddress) -> bool:
        """Whether an address is asked."""
        health = self._health[address]
        return health.unfit < FAILURES and health.until <= self._clock()
