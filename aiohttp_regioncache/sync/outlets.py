"""Where queued writes go: to the origin of their site, as it is when they are sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ..errors import RegionUnavailableError, SettingsError
from ..rules import Bulk
from ..served import DEFAULT_SITE, ServedSite
from ..upstream import Upstream
from .sender import Sender

MakeSender = Callable[[ServedSite, Upstream], Sender]
"""Make what sends to the origin of a site."""
FindSite = Callable[[str], Awaitable[ServedSite | None]]
"""The site of an id, as it is now."""


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

    @property
    def are_many(self) -> bool:
        """Whether there are several origins, of which none may hold up the others."""

    async def find(self, site: str) -> Outlet | None:
        """Find the outlet of a site by its id; None while the site is missing or disabled, and its writes are held."""


class OneOutlet(Outlets):
    """One origin for every write."""

    are_many = False

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

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


class SiteOutlets(Outlets):
    """An outlet for each site, at most `most` at once.

    `find_site` finds the sites, and `make_sender` makes what sends to the origin of one; `default` takes the writes of
    the site that the settings describe.
    """

    is_closed = False
    may_bulk = True
    are_many = True

    def __init__(self, find_site: FindSite, make_sender: MakeSender, default: Outlet | None, most: int) -> None:
        self._find_site = find_site
        self._make_sender = make_sender
        self._default = default
        self._most = most
        self._outlets: dict[str, tuple[ServedSite, Outlet]] = {}

    async def find(self, site: str) -> Outlet | None:
        """Find the outlet of a site; None while the site is missing, disabled, contradictory or not to be found out."""
        if site == DEFAULT_SITE.id:
            return self._default
        try:
            served = await self._find_site(site)
        except (RegionUnavailableError, SettingsError):  # the log has it already
            return None
        if served is None or served.upstream is None or not served.is_enabled:
            return None
        held = self._outlets.pop(site, None)
        if held is None or held[0] is not served:
            held = (served, self._outlet(served, served.upstream, held))
        if len(self._outlets) >= self._most:
            del self._outlets[next(iter(self._outlets))]
        self._outlets[site] = held  # the last that is let go
        return held[1]

    def _outlet(self, served: ServedSite, upstream: Upstream, held: tuple[ServedSite, Outlet] | None) -> Outlet:
        """Make an outlet; what is known of an origin's health stays while the origin stays."""
        is_same = held is not None and held[0].upstream == upstream
        sender = held[1].sender if held is not None and is_same else self._make_sender(served, upstream)
        return Outlet(sender, served.rules.bulks())
