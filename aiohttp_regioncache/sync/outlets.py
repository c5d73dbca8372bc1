"""Where queued writes go: to the origin of their site, as it is when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..rules import Bulk
from .sender import Sender


class Outlet:
    """The way to one site's origin: its sender, and the bulk forms of its rules by endpoint."""

    def __init__(self, sender: Sender, bulks: Mapping[str, Bulk] | None = None) -> None:
        self.sender = sender
        self.bulks = bulks or {}


class Outlets(Protocol):
    """Find the outlet of a write."""

    @property
    def is_closed(self) -> bool:
        """Whether every origin is left alone now."""

    @property
    def may_bulk(self) -> bool:
        """Whether any site may send writes together."""

    async def find(self, site: str) -> Outlet | None:
        """Find the outlet of a site by its id; None while the site is missing or disabled, and its writes are held."""


class OneOutlet(Outlets):
    """One origin for every write."""

    def __init__(self, sender: Sender, bulks: Mapping[str, Bulk] | None = None) -> None:
        self._outlet = Outlet(sender, bulks)

    @property
    def is_closed(self) -> bool:
        """Whether the origin is left alone now."""
        return self._outlet.sender.breaker.is_open

    @property
    def may_bulk(self) -> bool:
        """Whether any rule sends writes together."""
        return bool(self._outlet.bulks)

    async def find(self, site: str) -> Outlet | None:
        """Give the one outlet."""
        return self._outlet
