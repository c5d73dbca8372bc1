"""Purge on demand: in every region, or in some."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from ..errors import PurgeError, RegionUnavailableError
from ..purges import Purge
from ..reads.memory import Memory
from ..served import ServedSite
from ..store import purging
from ..store.entries import invalidate
from ..store.outbox import announce, announce_purge
from ..store.region import RegionStore

FindSite = Callable[[str], Awaitable[ServedSite]]

logger = logging.getLogger(__name__)


class PurgeReport(msgspec.Struct, frozen=True):
    """What became of a purge.

    `done`: the regions in which nothing that it covers is served as before. `told`: those that hear of it from a region
    that did it, as soon as they can be reached. `unreached`: those that were named, cannot be reached and hear nothing.
    """

    done: tuple[str, ...]
    told: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()


class Purger:
    """Purge in the regions of `stores`, which are in the order in which they are asked.

    `memories` are those of this process, by region name; `find_site` gives what the rules of a site's id are.
    """

    def __init__(self, stores: Mapping[str, RegionStore], find_site: FindSite, memories: Mapping[str, Memory]) -> None:
        self._stores = stores
        self._find_site = find_site
        self._memories = memories

    async def everywhere(self, purge: Purge) -> PurgeReport:
        """Purge in the first region that can be reached: it tells the others. Raises `RegionUnavailableError`."""
        unavailable: RegionUnavailableError | None = None
        for store in self._stores.values():
            try:
                registered = await store.registered()
                await self._in_region(store, purge, announced=True)
            except RegionUnavailableError as error:
                logger.debug("not purged: %s", error)
                unavailable = error
            else:
                self._forget(self._stores)
                others = dict.fromkeys((*self._stores, *registered))
                return PurgeReport((store.name,), tuple(name for name in others if name != store.name))
        assert unavailable is not None  # noqa: S101 - there is at least one region
        raise unavailable

    async def somewhere(self, purge: Purge, regions: Sequence[str]) -> PurgeReport:
        """Purge in these regions alone.

        Raises `PurgeError` for a region that is none, and `RegionUnavailableError` when none of them can be reached.
        """
        names = tuple(dict.fromkeys(self._known(regions)))
        attempts = (self._in_region(self._stores[name], purge, announced=False) for name in names)
        results = dict(zip(names, await asyncio.gather(*attempts, return_exceptions=True), strict=True))
        self._forget(names)
        failed = {name: error for name, error in results.items() if error is not None}
        for error in failed.values():
            if len(failed) == len(names) or not isinstance(error, RegionUnavailableError):
                raise error
        return PurgeReport(tuple(name for name in names if name not in failed), unreached=tuple(failed))

    def _known(self, regions: Sequence[str]) -> Sequence[str]:
        if isinstance(regions, str) or not regions:
            raise PurgeError(f"regions: {regions!r} is no list of at least one region; leave it out for all")
        if (unknown := next((name for name in regions if name not in self._stores), None)) is not None:
            raise PurgeError(f"regions: {unknown!r} is no region; allowed: {', '.join(self._stores)}")
        return regions

    async def _in_region(self, store: RegionStore, purge: Purge, *, announced: bool) -> None:
        lines = (purge.line,)
        if purge.path is None:
            item = announce_purge(lines) if announced else b""
            await purging.purge(store, lines, announce=item)
            return
        served = await self._find_site(purge.site)
        resource = served.groups.resource(purge.site, purge.path)
        # Where a path is another resource for everyone, only a line covers all of them.
        if purge.soft or served.rules.ordering(purge.path) is not None:
            item = announce_purge(lines, resource.group) if announced else b""
            await purging.purge(store, lines, group=resource.group, announce=item)
            return
        item = announce(resource.group, (resource.digest,)) if announced else b""
        await invalidate(store, store.partition(resource), (resource.digest,), announce=item)

    def _forget(self, regions: Sequence[str] | Mapping[str, RegionStore]) -> None:
        for name in regions:
            if name in self._memories:
                self._memories[name].clear()
