"""The bodies of answers: a path says how long its body is, and what is in it."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
SIZES: Final = (KIB, 64 * KIB)
"""The sizes that everything is compared at."""


def paths(size: int) -> list[str]:
    """The paths of the bodies of one size that are asked for: some, since one alone could be read once for many."""
    return [f"/{size}/{number}" for number in range(64)]


def size_in(path: str) -> int:
    """The size that a path asks for: its first segment that is a number."""
    return next((int(segment) for segment in path.split("/") if segment.isdigit()), 0)


def body_at(path: str) -> bytes:
    """The body that belongs to a path, another one for each."""
    size = size_in(path)
    line = path.encode() + b" "
    return (line * (size // len(line) + 1))[:size]
