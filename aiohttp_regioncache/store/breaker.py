"""A circuit breaker: what failed several times in a row is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Count failures in a row; after `failures` of them stay open for `seconds`, then let attempts through.

    A failure after that opens it again at once; a success closes it.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether attempts should not be made now."""
        return self._open_until > 0.0 and self._clock() < self._open_until

    @property
    def is_half_open(self) -> bool:
        """Whether it has been open and no attempt has succeeded since."""
        return self._open_until > 0.0 and not self.is_open

    @property
    def remaining(self) -> float:
        """Seconds until the next attempt makes sense; 0 when closed."""
        return max(0.0, self._open_until - self._clock()) if self._open_until else 0.0

    def succeeded(self) -> None:
        """Note a success."""
        self._failures = 0
        self._open_until = 0.0

    def failed(self) -> None:
        """Note a failure."""
        self._failures += 1
        if self._failures >= self._limit:
            self._open_until = self._clock() + self._seconds
