"""What a process knows of the sites: a micro-cache before the regions."""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from ..errors import RecordError, RegionUnavailableError
from ..settings import Sites as SiteSettings
from ..site import Site, host_candidates, normalize_host
from ..store import sites
from ..store.events import Changed
from ..store.region import RegionStore
from ..tasks import Tasks

logger = logging.getLogger(__name__)

REFRESH_SHARE: Final = 0.8
"""Share of its time after which what is asked for is read again in the background."""
_RETRY_SECONDS: Final = 1.0
_BY_ID: Final = "@"
_WILDCARD: Final = "*."

_normal = functools.lru_cache(maxsize=4096)(normalize_host)


class Unknown(enum.Enum):
    """Nothing is known here; somebody has to be asked."""

    UNKNOWN = enum.auto()


UNKNOWN: Final = Unknown.UNKNOWN


class _Entry:
    """What is known under a name: the site, or that there is none; when it is read anew, and how long it is good."""

    __slots__ = ("good_until", "refresh_at", "site")

    def __init__(self, site: Site | None, refresh_at: float, good_until: float) -> None:
        self.site = site
        self.refresh_at = refresh_at
        self.good_until = good_until


class _Flight:
    """A read under way. `is_outdated`: the site has changed since it began."""

    __slots__ = ("is_outdated", "task")

    def __init__(self) -> None:
        self.is_outdated = False
        self.task: asyncio.Task[Site | RegionUnavailableError | None] | None = None


class Directory:
    """Know the sites of hosts and ids for `settings.cache_seconds`, at most `max_known` of each kind.

    It asks the first of `stores` that can be reached, once at a time for a name, and again in the background before
    what it knows runs out. A change that a region announces counts at once. While nobody can be asked what was known
    last is used. `asked` counts questions, `read` those that went to a region, `stale` answers beyond their time.
    """

    def __init__(
        self,
        stores: Sequence[RegionStore],
        settings: SiteSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked = 0
        self.read = 0
        self.stale = 0
        self._stores = stores
        self._seconds = settings.cache_seconds
        self._most = settings.max_known
        self._tasks = Tasks()
        self._clock = clock
        self._found: OrderedDict[str, _Entry] = OrderedDict()
        self._missing: OrderedDict[str, _Entry] = (
            OrderedDict()
        )  # apart: who asks for hosts that are none pushes no site out
        self._names: dict[str, set[str]] = {}
        self._flights: dict[str, _Flight] = {}
        for store in stores:
            store.events.on_change(self._changed)
            store.events.on_link(self._linked)

    def known(self, host: str) -> Site | Literal[Unknown.UNKNOWN] | None:
        """Say at once what site a host belongs to, as a request names it; `UNKNOWN` when somebody has to be asked."""
        self.asked += 1
        name = _normal(host)
        return None if name is None else self._known(name)

    async def find(self, host: str) -> Site | None:
        """Find out what site a host belongs to; None when it is none's.

        Raises `RegionUnavailableError` when no region can be asked and nothing was known before.
        """
        name = _normal(host)
        return None if name is None else await self._find(name)

    async def by_id(self, site_id: str) -> Site | None:
        """Find the site of an id. Raises as `find`."""
        self.asked += 1
        name = _BY_ID + site_id
        known = self._known(name)
        return await self._find(name) if known is UNKNOWN else known

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for what is being read."""
        await self._tasks.drain(timeout)

    # --- knowing ---

    def _known(self, name: str) -> Site | Literal[Unknown.UNKNOWN] | None:
        held = self._held(name)
        now = self._clock()
        if held is None or now >= held.good_until:
            return UNKNOWN
        if now >= held.refresh_at:
            held.refresh_at = held.good_until
            self._begin(name)
        return held.site

    def _held(self, name: str) -> _Entry | None:
        for entries in (self._found, self._missing):
            if (entry := entries.get(name)) is not None:
                entries.move_to_end(name)
                return entry
        return None

    def _keep(self, name: str, site: Site | None) -> Site | None:
        """Keep what was read; a region that lags behind does not bring an older revision back."""
        held = self._found.get(name)
        if held is not None and held.site is not None and site is not None:
            is_older = site.id == held.site.id and site.revision <= held.site.revision
            site = held.site if is_older else site
        now = self._clock()
        self._drop(name)
        entries = self._missing if site is None else self._found
        entries[name] = _Entry(site, now + REFRESH_SHARE * self._seconds, now + self._seconds)
        if site is not None:
            self._names.setdefault(site.id, set()).add(name)
        if len(entries) > self._most:
            self._drop(next(iter(entries)))
        return site

    def _drop(self, name: str) -> None:
        self._missing.pop(name, None)
        held = self._found.pop(name, None)
        if held is None or held.site is None:
            return
        names = self._names[held.site.id]
        names.discard(name)
        if not names:
            del self._names[held.site.id]

    # --- asking ---

    async def _find(self, name: str) -> Site | None:
        flight = self._begin(name)
        if flight.task is None:
            raise RegionUnavailableError(self._stores[0].name, "too much is asked at once")
        # The read goes on when who asked leaves: others may have joined.
        found = await asyncio.shield(flight.task)
        if isinstance(found, RegionUnavailableError):
            raise found
        return found

    def _begin(self, name: str) -> _Flight:
        flight = self._flights.get(name)
        if flight is None:
            flight = _Flight()
            flight.task = self._tasks.spawn(self._fly(name, flight), f"look up {name}")
            if flight.task is not None:
                self._flights[name] = flight
        return flight

    async def _fly(self, name: str, flight: _Flight) -> Site | RegionUnavailableError | None:
        try:
            site = await self._ask(name)
            while flight.is_outdated:
                flight.is_outdated = False
                site = await self._ask(name)
        except RegionUnavailableError as error:
            held = self._held(name)
            if held is None:
                return error
            logger.warning("%s: no region can say what it is; the last that is known is used: %s", name, error)
            held.refresh_at = held.good_until = self._clock() + _RETRY_SECONDS
            self.stale += 1
            return held.site
        else:
            return self._keep(name, site)
        finally:
            del self._flights[name]

    async def _ask(self, name: str) -> Site | None:
        """Ask the regions one after the other. Raises the last one's `RegionUnavailableError`."""
        self.read += 1
        *others, last = self._stores
        for store in others:
            try:
                return await _read(store, name)
            except RegionUnavailableError as error:
                logger.debug("%s: %s", name, error)
        return await _read(last, name)

    # --- hearing ---

    def _changed(self, change: Changed) -> None:
        if change.site:
            self._outdate({_BY_ID + change.site, *self._names.get(change.site, ()), *self._named(change.hosts)})

    def _named(self, hosts: Iterable[str]) -> Iterable[str]:
        for host in hosts:
            yield host
            if host.startswith(_WILDCARD):
                known = (*self._found, *self._missing, *self._flights)
                yield from (name for name in known if host in host_candidates(name))

    def _linked(self, up: bool) -> None:
        if up:  # something may have been missed
            self._outdate({*self._found, *self._missing, *self._flights}, at_once=False)

    def _outdate(self, names: Iterable[str], *, at_once: bool = True) -> None:
        """Believe what is known no more; read it again `at_once`, or when it is asked for."""
        for name in names:
            if (flight := self._flights.get(name)) is not None:
                flight.is_outdated = True
            held = self._found.get(name) or self._missing.get(name)
            if held is not None:
                held.good_until = 0.0
                if at_once:
                    self._begin(name)


async def _read(store: RegionStore, name: str) -> Site | None:
    """Read a site from one region; what cannot be read there is as good as a region that cannot be reached."""
    try:
        if name.startswith(_BY_ID):
            stored = await sites.read_stored(store, name.removeprefix(_BY_ID))
        else:
            stored = await sites.find_stored(store, name)
        return None if stored is None else stored.read()
    except RecordError as error:
        logger.error("region %s: %s", store.name, error)
        raise RegionUnavailableError(store.name, "what it says of the site cannot be read") from error
