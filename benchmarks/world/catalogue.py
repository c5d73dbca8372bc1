"""What is asked for: objects by their popularity, lifetime and size."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Final

import msgspec

ZIPF: Final = 0.9
"""The exponent. Seen at proxies: 0.64 to 0.83 (Breslau and others, Web Caching and Zipf-like Distributions, 1999); at
the server of one busy site: 1.4 to 1.8 (Padmanabhan and Qiu, The Content and Access Dynamics of a Busy Web Site, 2000).
"""
LIFETIMES: Final = ((60.0, 0.25), (600.0, 0.35), (3600.0, 0.25), (86_400.0, 0.10), (0.0, 0.05))
"""Seconds of freshness and the part of the objects that have it, 0 for what is never stored (an assumption)."""
MEDIAN_SIZE: Final = 6 * 1024
SIZE_SPREAD: Final = 1.2
"""Octets and sigma of sizes, log-normal (an assumption: answers of an API and pages, not images and films)."""
_LARGE: Final = 0.002
"""The part of all requests from which on a block is played once with every lifetime."""


class Catalogue(msgspec.Struct, frozen=True):
    """Objects that stand for all of them, one in `every`.

    `reads` and `writes` are their cumulative loads; of the reads of each only the part `chances` counts. `playing`: how
    many reads are played for one that counts, on the mean.
    """

    every: int
    reads: Sequence[float]
    writes: Sequence[float]
    chances: Sequence[float]
    lifetimes: Sequence[float]
    sizes: Sequence[int]
    playing: float

    def __len__(self) -> int:
        return len(self.reads)


def catalogue(objects: int, every: int, seed: int, *, zipf: float = ZIPF) -> Catalogue:
    """Make a catalogue of `objects`: of each block of `every` neighbours in rank, one at the load of a single one.

    So hit ratios are those of the whole load, though only a part of it is played (spatial sampling: Waldspurger and
    others, SHARDS, 2015). A block that many ask for is played with every lifetime and counts as often as such a
    lifetime is, so that the result does not hang on the one that its object happens to have. What is written much need
    not be what is read much.
    """
    draw = random.Random(f"catalogue {seed}")
    blocks = [
        sum(rank**-zipf for rank in range(first, min(first + every, objects + 1)))
        for first in range(1, objects + 1, every)
    ]
    total = sum(blocks)
    weights, chances, lifetimes = list[float](), list[float](), list[float]()
    for block in blocks:
        kinds = LIFETIMES if block > _LARGE * total else ((_lifetime(draw), 1.0),)
        for lifetime, share in kinds:
            weights.append(block)
            chances.append(share)
            lifetimes.append(lifetime)
    written = [*blocks, *(blocks[-1:] * (len(weights) - len(blocks)))]
    draw.shuffle(written)
    sizes = [round(MEDIAN_SIZE * math.exp(draw.gauss(0, SIZE_SPREAD))) for _ in weights]
    return Catalogue(
        every,
        list(itertools.accumulate(weights)),
        list(itertools.accumulate(written)),
        chances,
        lifetimes,
        sizes,
        sum(weights) / total,
    )


def _lifetime(draw: random.Random) -> float:
    return draw.choices([seconds for seconds, _ in LIFETIMES], [share for _, share in LIFETIMES])[0]
