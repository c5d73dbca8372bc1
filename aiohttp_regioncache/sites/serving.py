"""The sites of requests and of queued writes, made ready once for each of their revisions."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import msgspec

from ..errors import PurgeError, SettingsError
from ..purges import Purge
from ..served import DEFAULT_SITE, ServedSite, served_site
from ..settings import Settings
from ..site import Site
from .directory import UNKNOWN, Directory

logger = logging.getLogger(__name__)


class Sites:
    """Find the site of a host or of an id, ready for use; `default` holds what the settings say for all."""

    def __init__(self, directory: Directory, settings: Settings, default: ServedSite) -> None:
        self.directory = directory
        self._settings = settings
        self._most = settings.sites.max_known
        self._default = default
        self._ready: dict[str, tuple[Site, ServedSite | SettingsError]] = {}

    async def of_host(self, host: str) -> ServedSite | None:
        """Find the site that a host belongs to; None when it is none's.

        Raises `RegionUnavailableError` when nobody can say, and `SettingsError` when its rules contradict those of the
        settings.
        """
        known = self.directory.known(host)
        site = await self.directory.find(host) if known is UNKNOWN else known
        return None if site is None else self._made_ready(site)

    def current(self, host: str) -> ServedSite | None:
        """Say at once what site a host belongs to; None when it is none's, cannot be served or has to be looked up."""
        site = self.directory.known(host)
        if site is UNKNOWN or site is None:
            return None
        held = self._ready.get(site.id)
        is_same = held is not None and (held[0] is site or held[0] == site)
        return held[1] if held is not None and is_same and isinstance(held[1], ServedSite) else None

    async def of_id(self, site_id: str) -> ServedSite | None:
        """Find a site by its id; None when there is none. Raises as `of_host`."""
        site = await self.directory.by_id(site_id)
        return None if site is None else self._made_ready(site)

    async def named(self, purge: Purge) -> Purge:
        """Name the site of a purge by the host of its URL, where the purge does not name one.

        Raises `PurgeError` when the host is none's, and as `of_host`.
        """
        host = urlsplit(purge.url or "").netloc
        if purge.site != DEFAULT_SITE.id or not host:
            return purge
        served = await self.of_host(host.lower())
        if served is None:
            raise PurgeError(f"url: {host!r} is the host of no site")
        return msgspec.structs.replace(purge, site=served.key.id)

    def _made_ready(self, site: Site) -> ServedSite:
        held = self._ready.get(site.id)
        # Each host has been read by itself.
        if held is None or (held[0] is not site and held[0] != site):
            if held is None and len(self._ready) >= self._most:
                del self._ready[next(iter(self._ready))]
            held = self._ready[site.id] = (site, self._compiled(site))
        ready = held[1]
        if isinstance(ready, SettingsError):
            raise ready
        return ready

    def _compiled(self, site: Site) -> ServedSite | SettingsError:
        try:
            return served_site(site, self._settings, self._default)
        except SettingsError as error:
            if site.features and error.key.startswith("features."):
                logger.error("site %s (%s) is served without features: %s", site.id, site.domain, error)
                return self._compiled(msgspec.structs.replace(site, features={}))
            logger.error("site %s (%s) cannot be served: %s", site.id, site.domain, error)
            return error
