"""How safe a write behind is in its region before it is acknowledged. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

_REPLICATED: Final = re.compile(r"replicated=([1-9]\d?)", re.ASCII)


class Durability(msgspec.Struct, frozen=True):
    """What a write has survived when it is acknowledged.

    `memory`: nothing but the edge's own end. `replicated`: as many replicas as `replicas` have it in memory (`WAIT`).
    `fsync`: the server has it on disk (`WAITAOF 1 0`, or `appendfsync always`).
    """

    level: Literal["memory", "replicated", "fsync"] = "memory"
    replicas: int = 0

    def __str__(self) -> str:
        return f"replicated={self.replicas}" if self.level == "replicated" else self.level


MEMORY: Final = Durability()
FSYNC: Final = Durability("fsync")


def parse_durability(text: str) -> Durability:
    """Read `memory`, `replicated=N` with N from 1 to 99, or `fsync`. Raises `ValueError` for anything else."""
    if text == "memory":
        return MEMORY
    if text == "fsync":
        return FSYNC
    found = _REPLICATED.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is none of 'memory', 'replicated=N' (1 to 99 replicas), 'fsync'")
    return Durability("replicated", int(found[1]))
