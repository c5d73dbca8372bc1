"""The part `growth`: what more of everything costs."""

from __future__ import annotations

from .growths import bodies, connections, entries, pending, regions, sites
from .report import Found, Say
from .stage import Stage

_ALL = (entries.grow, pending.grow, regions.grow, sites.grow, bodies.grow, connections.grow, connections.idle)


def growth(stage: Stage, say: Say, *, quick: bool = False) -> Found:
    """Draw every curve; `quick` leaves its far end out."""
    found = [grow(stage, say, quick=quick) for grow in _ALL]
    tables = [table for each in found for table in each.tables]
    curves = [curve for each in found for curve in each.curves]
    return Found(tables, curves, wrong=sum(each.wrong for each in found))
