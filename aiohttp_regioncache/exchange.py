"""One request and everything that has been found out about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from .keys import Resource, SiteKey, Target
from .principal import Principal
from .rules import CompiledRule
from .semantics.fields import Headers, first, remove
from .semantics.freshness import Policy
from .semantics.requests import RequestTerms
from .store.region import RegionStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request with its target, its rule and its principal. `headers` are the end-to-end ones.

    `stores` are the regions in the order in which they are asked. `has_credentials`: the answer may be meant for its
    principal alone. `touching`: the rules whose writes behind can change what the target shows.
    """

    request: web.Request
    headers: Headers
    site: SiteKey
    target: Target
    resource: Resource
    rule: CompiledRule | None
    policy: Policy
    terms: RequestTerms
    principal: Principal
    has_credentials: bool
    touching: tuple[CompiledRule, ...]
    stores: tuple[RegionStore, ...]

    @property
    def touched(self) -> bool:
        """Whether a write behind can change what the target shows."""
        return bool(self.touching)

    @property
    def owner(self) -> str:
        """The principal under whose own key entries are stored, or empty for entries that all share."""
        per_user = self.rule is not None and self.rule.rule.per_user
        # Credentials other than those that the rule names make nobody one user.
        known = self.has_credentials and not self.principal.is_anonymous
        return self.principal.id if per_user and known else ""

    @property
    def dirty_wait(self) -> float | None:
        """The `dirty_wait` of the request's rule, or else of a rule whose writes touch the target; seconds."""
        rules = (self.rule, *self.touching)
        return next((rule.rule.dirty_wait for rule in rules if rule and rule.rule.dirty_wait is not None), None)


_DECODED_CODINGS: Final = frozenset({"gzip", "deflate", "br", "zstd"})


def described_body(headers: Headers) -> Headers:
    """The fields of a request as its body is read: aiohttp's server decodes these codings and leaves the fields."""
    coding = first(headers, "content-encoding")
    if coding is None or coding.strip().lower() not in _DECODED_CODINGS:
        return headers
    return remove(headers, ("content-encoding", "content-length"))
