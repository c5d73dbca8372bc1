"""What a process knows of the sites: a micro-cache before the regions."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_LONGEST: Final = 20
"""How many times as long as without it one answer may vouch for what was read: should a change ever go untold."""
_BY_ID: Final = "@"
_WILDCARD: Final = "*."

_normal = functools.lru_cache(maxsize=4096)(normalize_host)


class Unknown(enum.Enum):
    """Nothing is known here; somebody has to be asked."""

    UNKNOWN = enum.auto()


UNKNOWN: Final = Unknown.UNKNOWN


class _Entry:
    """What is known under a name: the site, or that there is none; when that was read, and in which epoch.

    `gone`: the site that there was. `is_outdated`: it has changed since. `retry`: until when it is used all the same.
    """

    __slots__ = ("epoch", "gone", "is_outdated", "read", "retry", "site")

    def __init__(self, site: Site | None, gone: Site | None, read: float, epoch: int) -> None:
        self.site = site
        self.gone = gone
        self.read = read
        self.epoch = epoch
        self.is_outdated = False
        self.retry = 0.0


class _Pulse:
    """Whether anything has changed in a region since it was last asked: one answer vouches for all that was read there.

    An epoch lasts while every change has been heard of. `number` is that of the newest change, None when it is unknown.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._epoch = 0
        self._vouched: dict[int, float] = {}

    @property
    def epoch(self) -> int:
        """The epoch of what is read now; 0 for what nothing will vouch for."""
        return self._epoch if self.number is not None else 0

    def heard(self, number: int) -> None:
        """Hear of a change. One that was missed ends the epoch."""
        if self.number is not None and number > self.number + 1:
            self._begin(number)
        elif self.number is not None and number == self.number + 1:
            self.number = number

    def felt(self, number: int, asked: float) -> None:
        """Learn the number of the newest change, asked for at a time."""
        if number != self.number:
            self._begin(number)
        self._vouched[self._epoch] = asked

    def lost(self) -> None:
        """Learn that changes may have been missed."""
        self.number = None

    def since(self, entry: _Entry) -> float:
        """When an entry was last known to be right."""
        return max(entry.read, self._vouched.get(entry.epoch, 0.0))

    def _begin(self, number: int) -> None:
        self.number = number
        self._vouched = {self._epoch: self._vouched.get(self._epoch, 0.0)}
        self._epoch += 1


class _Flight:
    """A read under way. `is_outdated`: the site has changed since it began."""

    __slots__ = ("is_outdated", "task")

    def __init__(self) -> None:
        self.is_outdated = False
        self.task: asyncio.Task[Site | RegionUnavailableError | None] | None = None


class Directory:
    """Know the sites of hosts and ids for `settings.cache_seconds`, at most `max_known` of each kind.

    It asks the first of `stores` that can be reached, once at a time for a name, and before what it knows runs out, in
    the background, whether anything has changed there at all: one answer serves for all sites. A change that a region
    announces counts at once. While nobody can be asked what was known last is used. `asked` counts questions, `read`
    those that went to a region, `stale` answers beyond their time.
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
        self._is_cut_off = False
        self._clock = clock
        self._found: OrderedDict[str, _Entry] = OrderedDict()
        self._missing: OrderedDict[str, _Entry] = (
            OrderedDict()
        )  # apart: who asks for hosts that are none pushes no site out
        self._names: dict[str, set[str]] = {}
        self._newest: dict[str, Site] = {}
        self._flights: dict[str, _Flight] = {}
        self._pulse = _Pulse()
        self._feeling: asyncio.Task[None] | None = None
        self._feel_after = 0.0
        for store in stores:
            store.events.on_change(functools.partial(self._changed, store))
            store.events.on_link(functools.partial(self._linked, store))

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
        if held is None or not (self._is_good(held) or self._is_in_outage(held, now)):
            return UNKNOWN
        self.stale += not self._is_right(held)
        if not self._is_good(held):
            self._begin(name)
        elif now - self._pulse.since(held) >= REFRESH_SHARE * self._seconds and now >= held.retry:
            self._refresh(name, held, now)
        return held.site

    def _is_good(self, entry: _Entry) -> bool:
        """Whether an entry may be used: it is right, or nobody can say better now."""
        return self._clock() < entry.retry or self._is_right(entry)

    def _is_right(self, entry: _Entry) -> bool:
        """Whether an entry is within its time."""
        now = self._clock()
        is_vouched = now - self._pulse.since(entry) < self._seconds and now - entry.read < _LONGEST * self._seconds
        return is_vouched and not entry.is_outdated

    def _is_in_outage(self, entry: _Entry, now: float) -> bool:
        """Whether nobody could say better a short time ago: no request waits for the next attempt."""
        return not entry.is_outdated and entry.retry > 0 and now - entry.retry < self._seconds

    def _refresh(self, name: str, held: _Entry, now: float) -> None:
        """Find out in the background whether an entry still holds."""
        is_old = now - held.read >= REFRESH_SHARE * _LONGEST * self._seconds
        if is_old or not held.epoch or held.epoch != self._pulse.epoch:
            self._begin(name)
        elif now >= self._feel_after and (self._feeling is None or self._feeling.done()):
            self._feel_after = now + _RETRY_SECONDS
            self._feeling = self._tasks.spawn(self._feel(), "look for changes of sites")

    async def _feel(self) -> None:
        """Ask the first region for the number of its newest change."""
        asked = self._clock()
        self.read += 1
        try:
            self._pulse.felt(await sites.changes(self._stores[0]), asked)
        except RegionUnavailableError as error:
            logger.debug("whether sites have changed is not known: %s", error)

    def _held(self, name: str) -> _Entry | None:
        for entries in (self._found, self._missing):
            if (entry := entries.get(name)) is not None:
                entries.move_to_end(name)
                return entry
        return None

    def _keep(self, name: str, site: Site | None, epoch: int) -> Site | None:
        """Keep what was read."""
        held, gone = self._held(name), None
        if held is not None:
            gone = (held.site or held.gone) if site is None else None
            site = held.site if site == held.site else site
        if site is not None:
            site = self._one_object(site)
        self._drop(name)
        entries = self._missing if site is None else self._found
        entries[name] = _Entry(site, gone, self._clock(), epoch)
        if site is not None:
            self._names.setdefault(site.id, set()).add(name)
            newest = self._newest.setdefault(site.id, site)
            self._newest[site.id] = max(newest, site, key=_revision)
        if len(entries) > self._most:
            self._drop(next(iter(entries)))
        return site

    def _one_object(self, site: Site) -> Site:
        """The object as which a site is known under its other names: what is made of it is made once for all."""
        newest = self._newest.get(site.id)
        return newest if newest is not None and newest == site else site

    def _drop(self, name: str) -> None:
        self._missing.pop(name, None)
        held = self._found.pop(name, None)
        if held is None or held.site is None:
            return
        names = self._names[held.site.id]
        names.discard(name)
        if not names:
            del self._names[held.site.id], self._newest[held.site.id]

    # --- asking ---

    async def _find(self, name: str) -> Site | None:
        held = self._held(name)
        if held is not None and self._is_good(held):  # somebody has found it out meanwhile
            return held.site
        flight = self._begin(name)
        if flight.task is None:
            raise RegionUnavailableError(self._stores[0].name, "too much is asked at once")
        # The read goes on when who asked leaves: others may have joined.
        found = await asyncio.shield(flight.task)
        if isinstance(found, RegionUnavailableError):
            raise found
        held = self._held(name)
        self.stale += held is not None and not self._is_right(held)
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
            site, epoch = await self._ask(name)
            while flight.is_outdated:
                flight.is_outdated = False
                site, epoch = await self._ask(name)
        except RegionUnavailableError as error:
            return self._last_known(name, error)
        else:
            return self._keep(name, site, epoch)
        finally:
            del self._flights[name]

    def _last_known(self, name: str, error: RegionUnavailableError) -> Site | RegionUnavailableError | None:
        """Go on with what is held, for a short time, before the regions are asked again."""
        level = logging.DEBUG if self._is_cut_off else logging.WARNING  # one warning for an outage
        logger.log(level, "%s: no region can say what it is; the last that is known is used: %s", name, error)
        self._is_cut_off = True
        held = self._held(name)
        if held is None:
            return error
        held.retry = self._clock() + _RETRY_SECONDS
        return held.site

    async def _ask(self, name: str) -> tuple[Site | None, int]:
        """Ask the regions one after the other; says in which epoch. Raises the last one's `RegionUnavailableError`."""
        if self._pulse.number is None:
            await self._feel()
        first, epoch = self._stores[0], self._pulse.epoch
        self.read += 1
        *others, last = self._stores
        for store in others:
            try:
                return await self._ask_one(store, name), epoch if store is first else 0
            except RegionUnavailableError as error:
                logger.debug("%s: %s", name, error)
        return await self._ask_one(last, name), epoch if last is first else 0

    async def _ask_one(self, store: RegionStore, name: str) -> Site | None:
        """Ask one region; when it lags behind what is known already, that is what counts."""
        said = await _read(store, name)
        held = self._held(name)
        self._is_cut_off = False
        return held.site if held is not None and await _lags(store, held, said) else said

    # --- hearing ---

    def _changed(self, store: RegionStore, change: Changed) -> None:
        if change.site:
            if store is self._stores[0]:
                self._pulse.heard(change.number)
            self._outdate({_BY_ID + change.site, *self._names.get(change.site, ()), *self._named(change.hosts)})

    def _named(self, hosts: Iterable[str]) -> Iterable[str]:
        changed = frozenset(hosts)
        yield from changed
        if any(host.startswith(_WILDCARD) for host in changed):  # one pass, however many a tenant lists
            known = (*self._found, *self._missing, *self._flights)
            yield from (name for name in known if not changed.isdisjoint(host_candidates(name)))

    def _linked(self, store: RegionStore, up: bool) -> None:
        if store is self._stores[0]:
            self._pulse.lost()
        if up:  # something may have been missed
            self._outdate({*self._found, *self._missing, *self._flights}, at_once=False)

    def _outdate(self, names: Iterable[str], *, at_once: bool = True) -> None:
        """Believe what is known no more; read it again `at_once`, or when it is asked for."""
        for name in names:
            if (flight := self._flights.get(name)) is not None:
                flight.is_outdated = True
            held = self._found.get(name) or self._missing.get(name)
            if held is not None:
                held.is_outdated = True
                if at_once:
                    self._begin(name)


def _revision(site: Site) -> int:
    return site.revision


async def _read(store: RegionStore, name: str) -> Site | None:
    """Read the site of a name from one region. Raises `RegionUnavailableError`."""
    with _readable(store):
        if name.startswith(_BY_ID):
            stored = await sites.read_stored(store, name.removeprefix(_BY_ID))
        else:
            stored = await sites.find_stored(store, name)
        return None if stored is None else stored.read()


async def _lags(store: RegionStore, held: _Entry, said: Site | None) -> bool:
    """Whether a region has not heard yet of what is held. Raises `RegionUnavailableError`."""
    if held.site is None:
        return held.gone is not None and said is not None and _is_of(said, held.gone, held.gone.revision)
    if said is not None and (said.id == held.site.id or said.revision > held.site.revision):
        return _is_of(said, held.site, held.site.revision - 1)
    with _readable(store):
        stored = await sites.read_stored(store, held.site.id)
    return stored is None or stored.revision < held.site.revision


def _is_of(said: Site, known: Site, revision: int) -> bool:
    """Whether what a region says is the known site, in that revision or an older one."""
    return said.id == known.id and said.revision <= revision


@contextlib.contextmanager
def _readable(store: RegionStore) -> Iterator[None]:
    """Take a region where something cannot be read for one that cannot be reached."""
    try:
        yield
    except RecordError as error:
        logger.error("region %s: %s", store.name, error)
        raise RegionUnavailableError(store.name, "what it says of the site cannot be read") from error
