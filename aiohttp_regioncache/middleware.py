"""The way of one request: bypass, read or write."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from .control.health import Health
from .control.status import write_status
from .control.webhook import SyncHook
from .errors import RegionUnavailableError, SettingsError
from .exchange import SERVED_SITE, Asker, Exchange, Handler, peer_of
from .keying import country_part
from .keys import Resource, Target, normalize_octets
from .pin import pinned_region, without_pins
from .principal import Principal, RequestHead, Signer, foreign_cookies, identity, principal_of
from .problems import problem, shown_problem, unavailable
from .reads.reader import Reader
from .regions import Location, Ranking, TrustedProxies, locate_request
from .replays import CDN_LOOP, REPLAY_HEADER, is_looping, verify_replay
from .responses import ask_marked, cache_name
from .rules import CompiledRule
from .semantics.cache_status import cache_status
from .semantics.fields import Headers, end_to_end
from .semantics.methods import is_read, is_safe
from .semantics.requests import request_terms
from .served import ServedSite
from .settings import Settings
from .sites.serving import Sites
from .store.region import RegionStore
from .writes.accept import Accepter
from .writes.through import Past, Through

logger = logging.getLogger(__name__)

CONTROL_PATH: Final = "/_regioncache"
"""Everything of our own lies under this path of the application."""


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
        self._settings = settings
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
        self._ranking = Ranking(
            settings.regions, default_region=settings.default_region, home_region=settings.home_region
        )
        self._trusted = TrustedProxies(settings.trusted_proxies)

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request."""
        method = request.method
        asker = Asker.of(request, self._trusted)
        target = Target.of(asker.scheme, request.host, request.rel_url.raw_path, request.rel_url.raw_query_string)
        if not target.has_host:  # RFC 9112 section 3.2; it could make the URL of another path
            return problem(400, "Bad Request", "Host is no host.")
        served = self._default if self._sites is None else await self._served(request, self._sites, target.host)
        if isinstance(served, web.Response):
            return served
        request[SERVED_SITE] = served
        mark = request.headers.get(REPLAY_HEADER)
        replay = verify_replay(self._signer, mark, method, target.endpoint, served.scope, now=time.time())
        exchange = self._exchange(request, asker, served, target)
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
            return unavailable("What this site is cannot be found out now.", retry_after=error.retry_after)
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
            return await write_status(request, rest, self._identities(request, served), self._stores)
        if kind == "health":
            return await self._health.answer(request, rest, peer_of(request))
        if path == "sync" and self._sync_hook.is_configured:
            return await self._sync_hook.answer(request)
        return problem(404, "Not Found", "There is no such page.")

    async def _untouched(self, exchange: Exchange, handler: Handler, reason: str) -> web.StreamResponse:
        return await ask_marked(exchange.request, handler, cache_status(cache_name(None), fwd="bypass", detail=reason))

    def _exchange(self, request: web.Request, asker: Asker, served: ServedSite, target: Target) -> Exchange:
        came = list(request.headers.items())
        headers = without_pins(end_to_end(came))
        resource_at = functools.partial(self._resource_at, request, served)
        rule = served.rules.find(request.method, target.path)
        touching = served.rules.touching(target.path)
        principal = self._reader_and_writer(request, served, rule, touching)
        # A write is known by the target that its readers ask for, whose rule may be another one.
        reading = rule if request.method == "GET" else served.rules.find("GET", target.path)
        keying = served.book.keying(reading)
        return Exchange(
            request=request,
            asker=asker,
            headers=headers,
            served=served,
            target=target,
            cached_as=keying.target(target),
            key_parts=keying.parts(headers, functools.partial(self._country, request)),
            resource=resource_at(target.path),
            rule=rule,
            policy=served.book.policy(rule),
            terms=request_terms(headers),
            principal=principal,
            has_credentials=self._has_credentials(request, rule, principal),
            touching=touching,
            resource_at=resource_at,
            stores=self._ranked(request, self._pinned(came)),
            chance=1.0 - random.random(),  # noqa: S311 - no secret
        )

    def _resource_at(self, request: web.Request, served: ServedSite, path: str) -> Resource:
        """The resource of a path, for the bearer of a request."""
        rule = served.rules.ordering(path)
        owner = self._principal(request, served, rule).oldest if rule is not None else ""
        return served.groups.resource(served.key.id, path, owner)

    def _pinned(self, headers: Headers) -> str | None:
        """The region that a request's bearer has written to, if the request says so."""
        if self._signer is None or len(self._stores) == 1:
            return None
        region = pinned_region(self._signer, headers, time.time())
        return region if region in self._stores else None

    def _ranked(self, request: web.Request, pinned: str | None) -> tuple[RegionStore, ...]:
        """The regions in the order in which they are asked, the pinned one before all others."""
        location = Location() if self._settings.home_region is not None else self._locate(request)
        names = self._ranking.choose(location)
        if pinned is not None and names[0] != pinned:
            names = (pinned, *(name for name in names if name != pinned))
        return tuple(self._stores[name] for name in names)

    def _locate(self, request: web.Request) -> Location:
        return locate_request(
            request.headers,
            peer_of(request),
            self._trusted,
            country_headers=self._settings.country_headers,
            position_headers=self._settings.position_headers,
        )

    def _country(self, request: web.Request) -> str:
        headers = list(request.headers.items())
        return country_part(self._locate(request), headers, self._settings.country_headers)

    def _principal(self, request: web.Request, served: ServedSite, rule: CompiledRule | None) -> Principal:
        source = rule.rule.principal if rule is not None else None
        if callable(source):
            found: str | None = source(request) or None  # an empty name is nobody's
        else:
            found = identity(_Head(request), source)
        return principal_of(found, self._signer, served.scope)

    def _reader_and_writer(
        self,
        request: web.Request,
        served: ServedSite,
        rule: CompiledRule | None,
        touching: Sequence[CompiledRule],
    ) -> Principal:
        """The principal of a request, together with those that its bearer writes as under the rules `touching`."""
        principal = self._principal(request, served, rule)
        sources = {other.rule.principal: other for other in touching}
        sources.pop(rule.rule.principal if rule is not None else None, None)  # known already
        if not sources:
            return principal
        ids = (name for other in sources.values() for name in self._principal(request, served, other).ids)
        return msgspec.structs.replace(principal, ids=tuple(dict.fromkeys((*principal.ids, *ids))))

    def _identities(self, request: web.Request, served: ServedSite) -> tuple[str, ...]:
        """Every principal that a request's bearer is under any of the rules."""
        rules = (None, *(rule for rule in served.rules if rule.rule.behind))
        return tuple({name for rule in rules for name in self._principal(request, served, rule).ids})

    def _has_credentials(self, request: web.Request, rule: CompiledRule | None, principal: Principal) -> bool:
        """Whether an answer may be meant for a request's bearer alone.

        Cookies count, unless the settings say otherwise, or the rule that one of them is the identity.
        """
        if "Authorization" in request.headers:
            return True
        source = rule.rule.principal if rule is not None else None
        if source is not None and not principal.is_anonymous:
            return True
        is_cookie = isinstance(source, str) and source.startswith("cookie:")
        return self._settings.cache.cookies_are_credentials and not is_cookie and _has_cookies(request)


def _has_cookies(request: web.Request) -> bool:
    return "Cookie" in request.headers and bool(foreign_cookies(request.headers))


class _Head(RequestHead):
    """A request as far as identities are read from it."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    @property
    def headers(self) -> Mapping[str, str]:
        return self._request.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        return self._request.cookies


def make_middleware(
    find_edge: Callable[[web.Request], Edge],
    applications: Sequence[web.Application],
    prefix_of: Callable[[web.Request], str],
) -> Middleware:
    """Make the middleware that leads the requests of `applications` through their edge.

    A request whose matched application is another one passes untouched: its authentication has not run yet.
    """
    own = frozenset(id(application) for application in applications)

    @web.middleware
    async def regioncache(request: web.Request, handler: Handler) -> web.StreamResponse:
        if id(request.match_info.apps[-1]) not in own:
            return await handler(request)
        edge = find_edge(request)
        prefix = prefix_of(request)
        if request.path.startswith(prefix):
            return await edge.control(request, request.path[len(prefix) :])
        return await edge.handle(request, handler)

    return regioncache
