"""Whether a library is still the one that something was made for. Pure."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any


def digest_of(relied_on: Iterable[Any]) -> str:
    """A digest of the sources of functions and classes; empty when they are not there."""
    try:
        with _uncollected():
            sources = "\n".join(inspect.getsource(each) for each in relied_on)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage: it may have Python 3.11 before 3.11.8 fail to parse what is right (gh-106905)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
