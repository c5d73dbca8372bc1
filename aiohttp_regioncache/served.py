"""A site made ready for requests: its part of the keys, its rules, and what follows from them. Pure."""

from __future__ import annotations

from typing import Any, Final

from .exclusions import Exclusions
from .keying import Keying
from .keys import Groups, SiteKey
from .rules import CompiledRule, Rule, Rules
from .semantics.freshness import Policy
from .settings import Cache, Settings
from .validation import ttl_by_status

DEFAULT_SITE: Final = SiteKey()
"""The site that the settings describe: the only one, unless sites are turned on."""


class ServedSite:
    """What the requests of one site go by: `key` is in all its keys, `exclusions` are never cached."""

    def __init__(self, key: SiteKey, rules: Rules, cache: Cache, exclusions: Exclusions) -> None:
        self.key = key
        self.rules = rules
        self.exclusions = exclusions
        self._policies = {rule: _policy(cache, rule) for rule in (None, *rules)}
        self._keyings = {rule: _keying(cache, rule) for rule in (None, *rules)}

    @property
    def groups(self) -> Groups:
        """How its paths divide into groups."""
        return self.rules.groups

    @property
    def is_default(self) -> bool:
        """Whether it is the one that the settings describe."""
        return self.key is DEFAULT_SITE

    def policy(self, rule: CompiledRule | None) -> Policy:
        """How fresh answers under a rule are."""
        return self._policies[rule]

    def keying(self, rule: CompiledRule | None) -> Keying:
        """What of a request is in the keys under a rule."""
        return self._keyings[rule]


def default_site(settings: Settings, rules: Rules) -> ServedSite:
    """Make the site that the settings describe; `rules` are theirs and those of decorators."""
    return ServedSite(DEFAULT_SITE, rules, settings.cache, Exclusions(paths=settings.cache.exclude))


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
