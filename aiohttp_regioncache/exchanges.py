"""Everything that is found out about a request before anything is decided."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from .bounded import Bounded
from .exchange import Asker, Exchange, Said
from .keying import country_part
from .keys import Resource, Target
from .pin import has_pin, pinned_region, without_pins
from .principal import Principal, RequestHead, Signer, foreign_cookies, identity, principal_of
from .regions import Location, Ranking, TrustedProxies, locate_request
from .rules import CompiledRule
from .semantics.fields import Headers, Indexed, end_to_end
from .semantics.requests import request_terms
from .served import ServedSite
from .settings import Settings
from .store.region import RegionStore

RawHeaders = tuple[tuple[bytes, bytes], ...]

MAX_PRINCIPALS: Final = 16
"""Principals that are kept for the same fields: one for each source of a rule, and site."""
_SAID_OVERHEAD: Final = 4096


class Exchanges:
    """Make the exchanges of requests, by the settings and the regions' stores; `signer` tells principals apart."""

    def __init__(self, settings: Settings, stores: Mapping[str, RegionStore], signer: Signer | None) -> None:
        self.trusted = TrustedProxies(settings.trusted_proxies)
        self._settings = settings
        self._stores = stores
        self._known: Bounded[tuple[bool, RawHeaders], Said] = Bounded(settings.cache.table_bytes)
        self._signer = signer
        self._ranking = Ranking(
            settings.regions, default_region=settings.default_region, home_region=settings.home_region
        )

    def make(self, request: web.Request, asker: Asker, served: ServedSite, target: Target) -> Exchange:
        """Find out everything about a request to a site."""
        said = self._said(request, asker)
        headers = said.headers
        resource_at = functools.partial(self._resource_at, request, said, served)
        rule = served.rules.find(request.method, target.path)
        touching = served.rules.touching(target.path)
        principal = self._reader_and_writer(request, said, served, rule, touching)
        # A write is known by the target that its readers ask for, whose rule may be another one.
        reading = rule if request.method == "GET" else served.rules.find("GET", target.path)
        keying = served.book.keying(reading)
        pinned = self._pinned(said.came) if said.has_pin else None
        return Exchange(
            request=request,
            said=said,
            method=request.method,
            asker=asker,
            headers=headers,
            served=served,
            target=target,
            cached_as=keying.target(target if touching else served.features.target(target)),
            key_parts=keying.parts(headers, functools.partial(self._country, request, asker)),
            resource=resource_at(target.path),
            rule=rule,
            policy=served.book.policy(rule),
            terms=said.terms,
            principal=principal,
            has_credentials=self._has_credentials(request, rule, principal),
            touching=touching,
            resource_at=resource_at,
            stores=self._ranked(request, asker, said, pinned),
            is_pinned=pinned is not None,
            chance=1.0 - random.random(),  # noqa: S311 - no secret
        )

    def _said(self, request: web.Request, asker: Asker) -> Said:
        """What the fields of a request say."""
        key = (asker.is_trusted, request.raw_headers)
        said = self._known.get(key)
        if said is None:
            came = list(request.headers.items())
            headers = Indexed(without_pins(end_to_end(came)))
            said = Said(came, headers, request_terms(headers), has_pin=has_pin(came))
            self._known.put(key, said, _SAID_OVERHEAD + 3 * sum(len(name) + len(value) for name, value in key[1]))
        return said

    def _resource_at(self, request: web.Request, said: Said, served: ServedSite, path: str) -> Resource:
        """The resource of a path, for the bearer of a request."""
        rule = served.rules.ordering(path)
        owner = self._principal(request, said, served, rule).oldest if rule is not None else ""
        return served.groups.resource(served.key.id, path, owner)

    def _pinned(self, headers: Headers) -> str | None:
        """The region that a request's bearer has written to, if the request says so."""
        if self._signer is None or len(self._stores) == 1:
            return None
        region = pinned_region(self._signer, headers, time.time())
        return region if region in self._stores else None

    def _ranked(self, request: web.Request, asker: Asker, said: Said, pinned: str | None) -> tuple[RegionStore, ...]:
        """The regions in the order in which they are asked, the pinned one before all others."""
        if said.stores is None:
            location = Location() if self._settings.home_region is not None else self._locate(request, asker)
            said.stores = tuple(self._stores[name] for name in self._ranking.choose(location))
        stores = said.stores
        if pinned is not None and stores[0].name != pinned:
            stores = (self._stores[pinned], *(store for store in stores if store.name != pinned))
        return stores

    def _locate(self, request: web.Request, asker: Asker) -> Location:
        # By what is known of the peer: its connection may be gone by now.
        return locate_request(
            request.headers,
            asker.peer,
            self.trusted,
            country_headers=self._settings.country_headers,
            position_headers=self._settings.position_headers,
        )

    def _country(self, request: web.Request, asker: Asker) -> str:
        headers = list(request.headers.items())
        return country_part(self._locate(request, asker), headers, self._settings.country_headers)

    def _principal(self, request: web.Request, said: Said, served: ServedSite, rule: CompiledRule | None) -> Principal:
        source = rule.rule.principal if rule is not None else None
        if callable(source):
            found: str | None = source(request) or None  # an empty name is nobody's
            return principal_of(found, self._signer, served.scope)
        known = said.principals.get((served.scope, source))
        if known is None:
            known = principal_of(identity(_Head(request), source), self._signer, served.scope)
            if len(said.principals) < MAX_PRINCIPALS:
                said.principals[served.scope, source] = known
        return known

    def _reader_and_writer(
        self,
        request: web.Request,
        said: Said,
        served: ServedSite,
        rule: CompiledRule | None,
        touching: Sequence[CompiledRule],
    ) -> Principal:
        """The principal of a request, together with those that its bearer writes as under the rules `touching`."""
        principal = self._principal(request, said, served, rule)
        own = rule.rule.principal if rule is not None else None
        sources = {other.rule.principal: other for other in touching if other.rule.principal != own}
        if not sources:
            return principal
        ids = (name for other in sources.values() for name in self._principal(request, said, served, other).ids)
        return msgspec.structs.replace(principal, ids=tuple(dict.fromkeys((*principal.ids, *ids))))

    def identities(self, request: web.Request, served: ServedSite) -> tuple[str, ...]:
        """Every principal that a request's bearer is under any of the rules."""
        said = self._said(request, Asker.of(request, self.trusted))
        rules = (None, *(rule for rule in served.rules if rule.rule.behind))
        return tuple({name for rule in rules for name in self._principal(request, said, served, rule).ids})

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
