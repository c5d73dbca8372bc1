"""The way of one request: bypass, read or write."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from .control.health import Health
from .control.status import write_status
from .control.webhook import SyncHook
from .errors import RegionUnavailableError, SettingsError
from .exchange import ASKER, SERVED_SITE, Asker, Exchange, Handler, keep_match, peer_of
from .exchanges import Exchanges
from .keys import Target, normalize_octets
from .principal import Signer
from .problems import problem, shown_problem
from .reads.misses import MissPlan
from .reads.plans import Plan, Plans, ReadPlan
from .reads.reader import Reader
from .replays import CDN_LOOP, REPLAY_HEADER, is_looping, verify_replay
from .responses import ask_marked, cache_name
from .semantics.cache_status import cache_status
from .semantics.methods import is_read, is_safe
from .served import ServedSite
from .settings import Settings
from .sites.serving import Sites
from .store.region import RegionStore
from .writes.accept import Accepter
from .writes.plans import WritePlan
from .writes.through import Past, Through

logger = logging.getLogger(__name__)

AnyPlan = ReadPlan | WritePlan
"""How a request like one that was answered before is answered."""

CONTROL_PATH: Final = "/_regioncache"
"""Everything of our own lies under this path of the application."""


LOOKED_FOR: Final[web.RequestKey[AnyPlan | None]] = web.RequestKey("regioncache_looked_for")
"""The plan for a request that was looked for already, if there is one that may still be followed."""


class Edge:
    """What one request needs, built once at start."""

    def __init__(
        self,
        settings: Settings,
        default: ServedSite,
        sites: Sites | None,
        stores: Mapping[str, RegionStore],
        signer: Signer | None,
        reader: Reader,
        through: Through,
        accepter: Accepter | None,
        sync_hook: SyncHook,
        name: str,
        health: Health,
    ) -> None:
        self._exchanges = Exchanges(settings, stores, signer)
        self._default = default
        self._sites = sites
        self._stores = stores
        self._signer = signer
        self._reader = reader
        self._through = through
        self._accepter = accepter
        self._sync_hook = sync_hook
        self._name = name
        self._health = health

    @property
    def plans(self) -> Plans:
        """How requests that were answered before are answered again."""
        return self._reader.plans

    def find(self, request: web.Request) -> AnyPlan | None:
        """Find how a request like this one was answered before, if the next may be answered so again."""
        if self._accepter is None or is_safe(request.method):
            return self._reader.plans.find(request)
        return self._accepter.plans.find(request)

    def follow(self, plan: AnyPlan, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse | None]:
        """Answer a request by its plan; None where that turns out not to do."""
        if isinstance(plan, Plan):
            return self._reader.follow(plan)
        if isinstance(plan, MissPlan):
            asker, inquiry = plan.asker(peer_of(request)), plan.inquiry
            make = functools.partial(self._exchanges.make, request, asker, inquiry.served, inquiry.target)
            return self._reader.misses.follow(plan, request, asker, handler, make)
        assert self._accepter is not None  # noqa: S101 - nobody else makes the others
        return self._accepter.follow(plan, request)

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request."""
        method = request.method
        asker = Asker.of(request, self._exchanges.trusted)
        target = Target.of(asker.scheme, request.host, request.rel_url.raw_path, request.rel_url.raw_query_string)
        if not target.has_host:  # RFC 9112 section 3.2; it could make the URL of another path
            return problem(400, "Bad Request", "Host is no host.")
        served = self._default if self._sites is None else await self._served(request, self._sites, target.host)
        if not isinstance(served, ServedSite):
            return served
        request[SERVED_SITE] = served
        request[ASKER] = asker
        mark = request.headers.get(REPLAY_HEADER)
        replay = verify_replay(self._signer, mark, method, target.endpoint, served.scope, now=time.time())
        exchange = self._exchanges.make(request, asker, served, target)
        # Whoever answers may see another path in dot segments than we do: nothing is stored or queued under it.
        is_plain = normalize_octets(request.rel_url.raw_path or "/") == target.path
        # What comes from one of our own edges gets the handler's word: a store of ours would only repeat itself.
        has_passed = CDN_LOOP in request.headers and is_looping(exchange.headers, self._name)
        if is_safe(method) and has_passed:
            return await self._untouched(exchange, handler, "loop")
        if is_read(method) and is_plain:
            return await self._reader.read(exchange, handler)
        if is_safe(method):
            return await self._untouched(exchange, handler, "method" if is_plain else "dot-segments")
        rule = exchange.rule
        behind = rule is not None and rule.rule.behind and is_plain and replay is None and not has_passed
        if rule is not None and behind and self._accepter is not None:
            answer = await self._accepter.accept(exchange, rule)
            return await self._through.past_queue(exchange, handler, answer) if isinstance(answer, Past) else answer
        return await self._through.write(exchange, handler, is_replay=replay is not None)

    @staticmethod
    async def _served(request: web.Request, sites: Sites, host: str) -> ServedSite | web.Response:
        """Find the site of a host, or say why it has none."""
        try:
            served = await sites.of_host(host)
        except RegionUnavailableError as error:
            logger.warning("the site of %s cannot be found: %s", host, error)
            detail = "What this site is cannot be found out now."
            answer = shown_problem(request, 503, "Service Unavailable", detail)
            answer.headers["Retry-After"] = str(error.retry_after)
            return answer
        except SettingsError:
            detail = "This site's configuration contradicts that of the edge."
            return shown_problem(request, 503, "Service Unavailable", detail)
        if served is None:  # RFC 9110 section 15.5.20
            return shown_problem(request, 421, "Misdirected Request", "This host is no site of this server.")
        if not served.is_enabled:
            return shown_problem(request, 503, "Service Unavailable", "This site is disabled.")
        return served

    async def control(self, request: web.Request, path: str) -> web.Response:
        """Answer a request for one of our own pages; `path` is what follows `/_regioncache/`."""
        kind, _, rest = path.partition("/")
        if kind == "writes" and rest:
            served = self._default if self._sites is None else await self._served(request, self._sites, request.host)
            if isinstance(served, web.Response):
                return served
            return await write_status(request, rest, self._exchanges.identities(request, served), self._stores)
        if kind == "health":
            return await self._health.answer(request, rest, peer_of(request))
        if path == "sync" and self._sync_hook.is_configured:
            return await self._sync_hook.answer(request)
        return problem(404, "Not Found", "There is no such page.")

    async def _untouched(self, exchange: Exchange, handler: Handler, reason: str) -> web.StreamResponse:
        return await ask_marked(exchange.request, handler, cache_status(cache_name(None), fwd="bypass", detail=reason))


class Mounted(Protocol):
    """An edge, and the path under which our own pages lie."""

    control_prefix: str

    @property
    def edge(self) -> Edge:
        """What requests go through."""
        ...


def make_middleware(find: Callable[[web.Request], Mounted], applications: Sequence[web.Application]) -> Middleware:
    """Make the middleware that leads the requests of `applications` through their edge.

    A request whose matched application is another one passes untouched: its authentication has not run yet.
    """
    own = frozenset(id(application) for application in applications)

    @web.middleware
    async def regioncache(request: web.Request, handler: Handler) -> web.StreamResponse:
        if id(request.match_info.apps[-1]) not in own:
            return await handler(request)
        mounted = find(request)
        edge = mounted.edge
        plan = request[LOOKED_FOR] if LOOKED_FOR in request else edge.find(request)
        if plan is not None and (answer := await edge.follow(plan, request, handler)) is not None:
            return answer
        # What is planned now comes first the next time only where nobody else would have come before us.
        outermost = request.match_info.apps[0].middlewares[:1]
        if outermost and outermost[0] is regioncache:
            keep_match(request)
        prefix = mounted.control_prefix
        if request.path.startswith(prefix):
            return await edge.control(request, request.path[len(prefix) :])
        return await edge.handle(request, handler)

    return regioncache
