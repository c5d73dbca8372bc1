"""A site made ready for requests: its part of the keys, its rules, and what follows from them. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .exclusions import Exclusions
from .features import CATALOGUE, NO_FEATURES, FeatureSet
from .keying import Keying
from .keys import Groups, SiteKey
from .rules import CompiledRule, Rule, Rules
from .semantics.freshness import Policy
from .settings import Cache, Settings
from .site import Site
from .upstream import Upstream, plain_upstream
from .validation import ttl_by_status

DEFAULT_SITE: Final = SiteKey()
"""The site that the settings describe: the only one, unless sites are turned on."""


class RuleBook:
    """Rules, and what each of them says of freshness and keys where the settings are `cache`."""

    def __init__(self, rules: Rules, cache: Cache) -> None:
        self.rules = rules
        self._policies = {rule: _policy(cache, rule) for rule in (None, *rules)}
        self._keyings = {rule: _keying(cache, rule) for rule in (None, *rules)}

    def policy(self, rule: CompiledRule | None) -> Policy:
        """How fresh answers under a rule are."""
        return self._policies[rule]

    def keying(self, rule: CompiledRule | None) -> Keying:
        """What of a request is in the keys under a rule."""
        return self._keyings[rule]


class ServedSite(msgspec.Struct, frozen=True, eq=False):
    """What the requests of one site go by.

    `key` is in all its keys; `exclusions` are never cached; `upstream` is its origin, None where only handlers answer;
    `features` are done to its answers.
    `site` is its configuration, None for the site that the settings describe.
    """

    key: SiteKey
    book: RuleBook
    exclusions: Exclusions
    upstream: Upstream | None
    features: FeatureSet = NO_FEATURES
    site: Site | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether it is served."""
        return self.site is None or self.site.enabled

    @property
    def rules(self) -> Rules:
        """Its rules in their order."""
        return self.book.rules

    @property
    def groups(self) -> Groups:
        """How its paths divide into groups."""
        return self.book.rules.groups

    @property
    def scope(self) -> str:
        """What the marks of its replays are good for: its id, or empty for the site that the settings describe."""
        return "" if self.site is None else self.site.id


def default_site(settings: Settings, rules: Rules) -> ServedSite:
    """Make the site that the settings describe; `rules` are theirs and those of decorators."""
    upstream = None if settings.origin is None else plain_upstream(settings.origin)
    exclusions = Exclusions(paths=settings.cache.exclude)
    features = CATALOGUE.make("features", settings.features)
    return ServedSite(DEFAULT_SITE, RuleBook(rules, settings.cache), exclusions, upstream, features)


def served_site(site: Site, settings: Settings, default: ServedSite) -> ServedSite:
    """Make a site ready: its own rules come before those of the `default` site, its lifetimes before the settings'.

    Its features take the place of the settings'. Raises `SettingsError` when its rules contradict those of the
    settings, and for features that there are not.
    """
    cache, exclude = settings.cache, site.exclude
    exclusions = Exclusions(
        paths=(*exclude.paths, *cache.exclude),
        prefixes=exclude.prefixes,
        extensions=exclude.extensions,
        cookies=exclude.cookies,
        headers=exclude.headers,
        query=exclude.query,
    )
    upstream = site.upstream(allow_private=settings.sites.allow_private_origins)
    features = CATALOGUE.make("features", site.features) if site.features else default.features
    return ServedSite(SiteKey(site.id, site.epoch), _book(site, cache, default), exclusions, upstream, features, site)


def _book(site: Site, cache: Cache, default: ServedSite) -> RuleBook:
    if not site.rules and site.ttl is None:
        return default.book
    own = cache if site.ttl is None else msgspec.structs.replace(cache, ttl=site.ttl)
    return RuleBook(Rules((*site.rules, *(compiled.rule for compiled in default.rules))), own)


def _policy(cache: Cache, compiled: CompiledRule | None) -> Policy:
    rule = compiled.rule if compiled is not None else None
    return Policy(
        default_ttl=ttl_by_status("ttl", _chosen(rule, "ttl", cache.ttl)),
        forced_ttl=ttl_by_status("force_ttl", _chosen(rule, "force_ttl", None)),
        heuristics=cache.heuristics,
        stale_if_error=_chosen(rule, "stale_if_error", cache.stale_if_error),
        stale_while_revalidate=_chosen(rule, "stale_while_revalidate", cache.stale_while_revalidate),
        stale_if_unreachable=cache.stale_if_unreachable,
        early_refresh=_chosen(rule, "early_refresh", cache.early_refresh),
        soft_purge=cache.soft_purge_seconds,
    )


def _keying(cache: Cache, compiled: CompiledRule | None) -> Keying:
    rule = compiled.rule if compiled is not None else None
    return Keying(
        _chosen(rule, "key", ()),
        ignore_query=_chosen(rule, "ignore_query", cache.ignore_query),
        sort_query=_chosen(rule, "sort_query", cache.sort_query),
    )


def _chosen(rule: Rule | None, name: str, otherwise: Any) -> Any:
    """What a rule says, or what is said for all where it says nothing."""
    said = getattr(rule, name, None)
    return otherwise if said is None else said
