"""Lists of ranges with weights: Accept-Encoding, Accept-Language, Accept-Charset (RFC 9110 12.4.2 and 12.5)."""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby

from .fields import OWS, split_list

_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}  # RFC 9110 8.4.1


def qualities(lines: Iterable[str]) -> dict[str, float]:
    """Read the weight of every range by its lower-case name; 1 without a valid one, of equal names the first.

    `x-gzip` and `x-compress` are `gzip` and `compress` (RFC 9110 8.4.1.1, 8.4.1.3).
    """
    found: dict[str, float] = {}
    for line in lines:
        for element in split_list(line):
            name, *parameters = (part.strip(OWS) for part in element.lower().split(";"))
            found.setdefault(_ALIASES.get(name, name), _weight(parameters))
    return found


def _weight(parameters: list[str]) -> float:
    given = next((text[2:].strip(OWS) for text in parameters if text.startswith("q=")), "1")
    return float(given) if _WEIGHT.fullmatch(given) else 1.0


def ranked(weights: Mapping[str, float]) -> str:
    """Write ranges so that two lists with the same meaning are the same text, which is a list of ranges again.

    Only the order of preference counts, not the weights, nor the place among equals (RFC 9110 12.4.2).
    """
    wanted = sorted((-weight, name) for name, weight in weights.items() if weight)
    tiers = [[name for _, name in members] for _, members in groupby(wanted, key=lambda pair: pair[0])]
    written = [f"{name}{_rank(tier)}" for tier, names in enumerate(tiers) for name in names]
    return ", ".join([*written, *sorted(f"{name};q=0" for name, weight in weights.items() if not weight)])


def _rank(tier: int) -> str:
    return f";q={max(1, 1000 - tier) / 1000:.3f}" if tier else ""


def preferred(weights: Mapping[str, float]) -> str | None:
    """Return the one range that is preferred to all others; None when there is none, or several are equal."""
    best = max(weights.values(), default=0.0)
    names = [name for name, weight in weights.items() if weight == best]
    return names[0] if best and len(names) == 1 and names[0] != "*" else None


def weight_of(weights: Mapping[str, float], coding: str) -> float:
    """Return how much a content coding is wanted, 0 for not at all (RFC 9110 12.5.3)."""
    name = _ALIASES.get(coding, coding)
    return weights.get(name, weights.get("*", 1.0 if name == "identity" else 0.0))
