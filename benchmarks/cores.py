"""Which core does what (servers on the first, load, Redis and the origin on the second), and who comes first there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
ARE_PINNED: Final = len(_CORES) >= 2
"""Whether there are two cores to divide the work between."""
SERVER: Final = frozenset(_CORES[:1])
LOAD: Final = frozenset(_CORES[1:2] or _CORES)
BOTH: Final = SERVER | LOAD


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Run on `cores`, and let what is started meanwhile inherit them; without two cores nothing is changed."""
    if not ARE_PINNED:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def first_in_line(threads: Iterable[int]) -> Iterator[bool]:
    """Let these threads, by number, run before all others of their cores, if the system allows that; whether it does.

    Each runs until it waits for something. They have to leave some of every second to others, or Linux stops them for
    50 ms of it.
    """
    given: list[int] = []
    try:
        yield hasattr(os, "sched_setscheduler") and all(_is_first(thread, given) for thread in threads)
    finally:
        for thread in given:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _is_first(thread: int, given: list[int]) -> bool:
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    except ProcessLookupError:  # it has ended meanwhile
        return True
    given.append(thread)
    return True
