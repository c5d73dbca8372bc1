"""Which core does what: servers on the first, the load, Redis and the origin on the second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
