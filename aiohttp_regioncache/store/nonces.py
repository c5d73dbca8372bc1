"""Numbers that nobody has had before and nobody can guess."""

from __future__ import annotations

import secrets
import time
from typing import Final

_RANDOM: Final = 24
"""Digits of each that come from the system: 96 bits."""
_AT_ONCE: Final = 64
"""How many are made of what the system is asked for at once, as to ask takes longer than all else."""
_CLOCK: Final = 0xFFFF_FFFF


class Nonces:
    """Make numbers of 32 hexadecimal digits.

    The last eight are the clock's, in nanoseconds: a process that was forked, or a machine that was copied, has the
    same random digits at hand for a while, and makes other numbers of them all the same.
    """

    def __init__(self) -> None:
        self._left: list[str] = []

    def new(self) -> str:
        """Make one."""
        if not self._left:
            self._ask()
        return self._left.pop() + "%08x" % (time.time_ns() & _CLOCK)

    def two(self) -> tuple[str, str]:
        """Make two, for little more than one costs."""
        if len(self._left) < 2:
            self._ask()
        left, clock = self._left, "%08x" % (time.time_ns() & _CLOCK)
        return left.pop() + clock, left.pop() + clock

    def _ask(self) -> None:
        digits = secrets.token_hex(_RANDOM // 2 * _AT_ONCE)
        self._left = [digits[at : at + _RANDOM] for at in range(0, len(digits), _RANDOM)]
