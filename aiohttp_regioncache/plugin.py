"""The plug-in: `setup(app, settings)` builds everything, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from aiohttp import web
from aiosignal import Signal

from .cipher import Cipher
from .control.health import Health
from .control.purger import Purger, PurgeReport
from .control.webhook import SyncHook
from .control.writes import WriteDesk
from .decorators import decorated_rules
from .effects import Effects
from .errors import NotSetUpError, RegionUnavailableError, StoreError
from .gateway.forward import Forwarder, expect
from .gateway.interim import InterimAwareResponse
from .gateway.passing import Passing
from .gateway.protocol import Ways
from .hooks import Hooks, WriteEvent
from .middleware import CONTROL_PATH, Edge, make_middleware
from .origins.origins import Origins
from .principal import Signer
from .purges import Purge
from .reads.memory import Memory
from .reads.reader import Reader
from .regions import Region, TrustedProxies
from .replays import cdn_id
from .responses import on_response_prepare
from .rules import Rule, Rules
from .served import ServedSite, default_site
from .settings import Settings, check_service
from .shortcut import answer_before_router
from .sites.directory import Directory
from .sites.serving import Sites
from .store.embedded import secrets_of
from .store.region import RegionStore, open_all
from .sync.courier import Courier
from .sync.intents import Sweeper
from .sync.loop import SyncLoop
from .sync.outlets import OneOutlet, Outlet, Outlets, SiteOutlets
from .sync.sender import Sender
from .tasks import Tasks
from .upstream import Upstream
from .writes.accept import Accepter
from .writes.intents import Intents
from .writes.through import Through

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
"""How long a shutdown waits for fetches and fills."""
_GREET_AGAIN_SECONDS: Final = 0.5
_NOT_STARTED: Final = "the application has not been started; run it with web.run_app or AppRunner.setup()"


class RegionCache:
    """The running plug-in of an application: its regions' stores, its background work, and what both report.

    Append async functions of a `WriteEvent` to `on_accepted`, `on_synced`, `on_rejected`, `on_dead` and
    `on_superseded` before the application starts. Each runs in a task of its own, in the process that accepted or
    settled the write, at most once: nothing waits for it, and what it raises is logged.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stores: dict[str, RegionStore] = {}
        self.loops: list[SyncLoop] = []
        self.couriers: list[Courier] = []
        self.sweepers: list[Sweeper] = []
        self.hooks = Hooks()
        self.health = Health(settings)
        self.control_prefix = f"{CONTROL_PATH}/"
        self._adopted: dict[str, RegionStore] = {}
        self._adopting = asyncio.Lock()
        self._tasks = Tasks()
        self._stopping = False
        self._origins = Origins(
            response_class=InterimAwareResponse,
            health_seconds=settings.gateway.health_seconds,
            connect_timeout=settings.gateway.connect_timeout,
        )
        self._default: ServedSite | None = None
        self._sites: Sites | None = None
        self._reader: Reader | None = None
        self._edge: Edge | None = None
        self._forwarder: Forwarder | None = None
        self._passing: Passing | None = None
        self._purger: Purger | None = None
        self._through: Through | None = None

    @property
    def writes(self) -> WriteDesk:
        """What an operator does with the queued writes of every region: list, show, retry, drop."""
        return WriteDesk(self.stores, self.settings, self.hooks)

    @property
    def sites(self) -> Directory:
        """What this process knows of the sites, with counters. Raises `NotSetUpError` when they are not turned on."""
        if self._sites is None:
            raise NotSetUpError("sites need sites.enabled in the settings, and a started application")
        return self._sites.directory

    @property
    def on_accepted(self) -> Signal[WriteEvent]:
        """Called when a write is queued in its region."""
        return self.hooks.on_accepted

    @property
    def on_synced(self) -> Signal[WriteEvent]:
        """Called when the origin has a write."""
        return self.hooks.on_synced

    @property
    def on_rejected(self) -> Signal[WriteEvent]:
        """Called when the origin has refused a write for good."""
        return self.hooks.on_rejected

    @property
    def on_dead(self) -> Signal[WriteEvent]:
        """Called when a write is given up; an operator can retry or drop it."""
        return self.hooks.on_dead

    @property
    def on_superseded(self) -> Signal[WriteEvent]:
        """Called when a later write took the place of one that had not been sent yet."""
        return self.hooks.on_superseded

    @property
    def edge(self) -> Edge:
        """What requests go through. Raises `NotSetUpError` before the start of the application."""
        if self._edge is None:
            raise NotSetUpError(_NOT_STARTED)
        return self._edge

    def ways(self) -> Ways:
        """By what a gateway answers inside its protocol. Raises `NotSetUpError` before the start of the application."""
        return Ways(self.edge.plans, self._passing)

    @property
    def forwarder(self) -> Forwarder:
        """What sends requests to origins. Raises `NotSetUpError` without `origin` or `sites` in the settings."""
        if self._forwarder is None:
            raise NotSetUpError("forward needs origin= or sites= in the settings, and a started application")
        return self._forwarder

    async def purge(self, purge: Purge, *, regions: Sequence[str] | None = None) -> PurgeReport:
        """Purge what is stored: `await cache.purge(Purge(prefix="/items/"))`.

        In all regions: at once in the first that can be reached (`home_region` before others), which tells the others,
        also those that are down now. Or in some `regions` by their names, and nowhere else. The cost does not depend on
        how much is stored. A fetch that is under way is covered as well. With sites turned on an absolute `url` names
        its site by the host, where `site` does not.

        Raises `PurgeError` for a region or a site that is none, `RegionUnavailableError` when none can be reached, and
        `NotSetUpError` before the start of the application.
        """
        if self._purger is None:
            raise NotSetUpError(_NOT_STARTED)
        if self._sites is not None:
            purge = await self._sites.named(purge)
        return await (self._purger.everywhere(purge) if regions is None else self._purger.somewhere(purge, regions))

    async def start(self, decorated: Sequence[Rule]) -> None:
        """Open the regions and begin the background work.

        Raises `SettingsError` for contradictory rules and `StoreError` for a region that must not be used.
        """
        self.hooks.freeze()
        settings = self.settings
        rules = Rules((*settings.rules, *decorated))
        writes_behind = any(compiled.rule.behind for compiled in rules)
        if settings.sync.authorization is not None:
            check_service([compiled.rule for compiled in rules])
        if writes_behind and settings.origin is None and not settings.sites.enabled:
            raise NotSetUpError("origin= is missing; writes behind are replayed there")
        # What is said of sites must not be evicted either, and their rules may take writes behind at any time.
        keeps = writes_behind or settings.sites.enabled
        stores = [self._store(region, rules, writes_behind=keeps) for region in settings.regions]
        await open_all(stores)
        self.stores = {store.name: store for store in stores}
        for store in stores:
            greet = self._greeter(store)
            store.events.on_link(greet)
            greet(store.events.is_connected)
        self._build(rules)
        self._origins.start()
        self._start_sync()
        self.health.started(self._home_first())

    def _store(self, region: Region, rules: Rules, *, writes_behind: bool) -> RegionStore:
        queue = self.settings.queue
        return RegionStore(
            region,
            self.settings.connections,
            writes_behind=writes_behind,
            # What another region's Redis can give is for its own edges to refuse.
            durabilities=rules.durabilities(queue.durability) if self._serves(region.name) else frozenset(),
            durability_timeout=queue.durability_timeout,
            cipher=Cipher(queue.encryption_keys),
            holdoff=self.settings.cache.holdoff,
        )

    def end_sockets(self) -> None:
        """End the WebSockets that are passed on, which would hold up a shutdown."""
        if self._forwarder is not None:
            self._forwarder.stop()

    async def stop_claiming(self) -> None:
        """Finish the writes that are being sent; claim no more."""
        self.health.stopping()
        await asyncio.gather(*(loop.stop() for loop in self.loops))

    async def stop(self) -> None:
        """End the background work, deliver what is known, and close every connection."""
        self._stopping = True
        await self.stop_claiming()
        await asyncio.gather(*(sweeper.stop() for sweeper in self.sweepers))
        await asyncio.gather(*(courier.stop() for courier in self.couriers))
        if self._reader is not None:
            await self._reader.drain(DRAIN_SECONDS)
        if self._sites is not None:
            await self._sites.directory.drain(DRAIN_SECONDS)
        await self._tasks.drain(DRAIN_SECONDS)
        if self._through is not None:
            await self._through.drain(DRAIN_SECONDS)
        if self._reader is not None:
            self._reader.close()
        await self.hooks.drain(DRAIN_SECONDS)
        await self._origins.close()
        for store in (*self._adopted.values(), *self.stores.values()):
            await store.close()

    async def find_region(self, name: str, address: str) -> RegionStore | None:
        """Find the store of a registered region, also of one that these settings do not know yet."""
        store = self.stores.get(name) or self._adopted.get(name)
        if store is not None:
            return store
        try:
            region = Region(name, redis=address, latitude=0.0, longitude=0.0)
        except ValueError as error:
            logger.warning("a registered region cannot be used: %s", error)
            return None
        async with self._adopting:  # several couriers may find it at once
            if name not in self._adopted:
                store = RegionStore(
                    region,
                    self.settings.connections,
                    writes_behind=False,
                    adopted=True,
                    holdoff=self.settings.cache.holdoff,
                )
                await store.open()
                self._adopted[name] = store
        return self._adopted[name]

    @property
    def served(self) -> list[RegionStore]:
        """The regions whose queues and outboxes this edge works on."""
        return [store for store in self.stores.values() if self._serves(store.name)]

    def _home_first(self) -> dict[str, RegionStore]:
        """The regions' stores, that of the home region before the others."""
        return dict(sorted(self.stores.items(), key=lambda item: item[0] != self.settings.home_region))

    def _serves(self, region: str) -> bool:
        return self.settings.home_region in (None, region)

    def _build(self, rules: Rules) -> None:
        settings = self.settings
        signer = self._signer(rules)
        default = self._default = default_site(settings, rules)
        if settings.sites.enabled:
            directory = Directory(tuple(self._home_first().values()), settings.sites)
            self._sites = Sites(directory, settings, default)
        memories = {
            name: Memory(
                name, store.events, seconds=settings.cache.memory_seconds, max_bytes=settings.cache.memory_bytes
            )
            for name, store in self.stores.items()
        }
        self._purger = Purger(self._home_first(), self._site_of, memories)
        name = cdn_id(self.stores, settings.origin)
        self._reader = Reader(settings, Effects(rules.functions()), memories, self._tasks, self._sites)
        accepter = Accepter(settings, signer, self._location_of, self.hooks, self._sites) if signer else None
        intents = Intents(settings.sync.intent_seconds, self._tasks)
        through = self._through = Through(settings.cache, memories.values(), intents, self._tasks)
        hook = SyncHook(settings.webhook, self.served, lambda: self.loops)
        self._edge = Edge(
            settings,
            default,
            self._sites,
            self.stores,
            signer,
            self._reader,
            through,
            accepter,
            hook,
            name,
            self.health,
        )
        if default.upstream is None and self._sites is None:
            return
        trusted = TrustedProxies(settings.trusted_proxies)
        self._forwarder = Forwarder(
            self._origins,
            settings.gateway,
            trusted,
            default,
            name,
            max_body=settings.cache.max_body,
            table_bytes=settings.cache.table_bytes,
        )
        self._passing = Passing(self._reader.misses, self._forwarder)
        if settings.sync.enabled and signer is not None:
            outlets = self._outlets(default, signer, name)
            self.loops = [SyncLoop(store, settings, outlets, self.hooks) for store in self.served]

    def _outlets(self, default: ServedSite, signer: Signer, name: str) -> Outlets:
        """Where queued writes go: to the origin of the settings, or of each write's site."""
        own = None
        if default.upstream is not None:
            sender = Sender(self._origins, default.upstream, signer, name, self.settings.sync)
            own = Outlet(sender, default.rules.bulks())
        if self._sites is None:
            assert own is not None  # noqa: S101 - nothing is sent without sites and without an origin
            return OneOutlet(own)

        def make_sender(served: ServedSite, upstream: Upstream) -> Sender:
            return Sender(self._origins, upstream, signer, name, self.settings.sync, site=served.scope)

        return SiteOutlets(self._sites.of_id, make_sender, own, self.settings.sites.max_known)

    async def _site_of(self, site_id: str) -> ServedSite:
        """What the requests of a site go by; what those of the settings do when it is not known."""
        assert self._default is not None  # noqa: S101 - made at the start
        found = None if self._sites is None else await self._sites.of_id(site_id)
        return found or self._default

    def _start_sync(self) -> None:
        for loop in self.loops:
            loop.start()
        if not self.settings.sync.enabled:
            return
        self.couriers = [Courier(store, self.find_region) for store in self.served]
        self.sweepers = [Sweeper(store) for store in self.served]
        for courier in self.couriers:
            courier.start()
        for sweeper in self.sweepers:
            sweeper.start()

    def _signer(self, rules: Rules) -> Signer | None:
        secrets = secrets_of(self.settings)
        if not secrets and any(compiled.rule.behind or compiled.rule.per_user for compiled in rules):
            raise NotSetUpError("secrets= is missing; a rule writes behind or stores per user")
        return Signer(secrets) if secrets else None

    def _location_of(self, write_id: str) -> str:
        return f"{self.control_prefix}writes/{write_id}"

    def _greeter(self, store: RegionStore) -> Callable[[bool], None]:
        def greet(up: bool) -> None:
            if up:
                self._tasks.spawn(self._greet(store), f"check region {store.name}")

        return greet

    async def _greet(self, store: RegionStore) -> None:
        """Check a region that answers, and tell it which regions must hear of its invalidations.

        It takes no writes before, so that a failure, such as a breaker that is still open, is not the last attempt.
        """
        while store.events.is_connected and not self._stopping:
            try:
                await store.check()
                await store.register({other.name: other.address for other in self.stores.values()})
            except RegionUnavailableError as error:
                logger.debug("%s", error)
                await asyncio.sleep(_GREET_AGAIN_SECONDS)
            except StoreError as error:
                logger.error("%s; no writes are taken there", error)
                return
            else:
                return


REGION_CACHE: Final = web.AppKey("regioncache", RegionCache)
"""Where an application keeps its `RegionCache`; found from nested applications through `request.config_dict`."""

_IS_SET_UP: Final = web.AppKey("regioncache_is_set_up", bool)


def setup(
    app: web.Application,
    settings: Settings | None = None,
    *,
    middleware_pos: int | None = None,
    include: Sequence[web.Application] = (),
) -> RegionCache | None:
    """Install the cache into an application.

    Without `settings`, `app` is a sub-application that uses its parent's. The middleware is added innermost, inside
    authentication and sessions, or at `middleware_pos`; it handles only requests that `app` itself, or one of the
    sub-applications in `include`, answers. Call it once per application, after its other middlewares.

    Raises `RuntimeError` for an application that is set up already or has been started.
    """
    if app.get(_IS_SET_UP):
        raise RuntimeError("setup was called on this application already")
    app[_IS_SET_UP] = True
    applications = (app, *include)
    position = len(app.middlewares) if middleware_pos is None else middleware_pos
    if settings is None:
        app.middlewares.insert(position, make_middleware(region_cache, applications))
        return None
    cache = RegionCache(settings)
    middleware = make_middleware(lambda _request: cache, applications)
    app.middlewares.insert(position, middleware)
    app[REGION_CACHE] = cache
    resource = app.router.add_resource(f"{CONTROL_PATH}/{{path:.*}}")
    resource.add_route("*", _control, expect_handler=expect)

    async def context(_app: web.Application) -> AsyncIterator[None]:
        cache.control_prefix = resource.canonical.removesuffix("{path}")
        try:
            await cache.start([rule for each in applications for rule in decorated_rules(each)])
            undo = answer_before_router(app, cache.edge, middleware)
            try:
                yield
            finally:
                undo()
        finally:
            await cache.stop()

    async def stop_claiming(_app: web.Application) -> None:
        cache.end_sockets()
        await cache.stop_claiming()

    app.cleanup_ctx.append(context)
    app.on_response_prepare.append(on_response_prepare)
    app.on_shutdown.append(stop_claiming)
    return cache


def region_cache(request: web.Request) -> RegionCache:
    """Find the plug-in of a request's application or of one above it.

    Raises `NotSetUpError` when `setup(app, settings)` was not called on any of them.
    """
    found = request.config_dict.get(REGION_CACHE)
    if found is None:
        raise NotSetUpError(
            "aiohttp_regioncache is not set up: call aiohttp_regioncache.setup(app, settings) on this application "
            "or on one above it"
        )
    return found


async def forward(request: web.Request) -> web.StreamResponse:
    """Answer a request with the origin's answer: a handler for an edge without an application of its own.

    Raises `NotSetUpError` when `setup` was not called, or the settings name no origin and turn no sites on.
    """
    return await region_cache(request).forwarder.forward(request)


def add_forwarding(app: web.Application, path: str = r"/{path:[\s\S]*}") -> None:
    """Forward every request to `path`, by default every request at all, as `forward` does."""
    app.router.add_route("*", path, forward, expect_handler=expect)


async def _control(request: web.Request) -> web.Response:
    return await region_cache(request).edge.control(request, request.match_info["path"])
