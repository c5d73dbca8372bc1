"""Which reads are none of the cache's business."""

from __future__ import annotations

from collections.abc import Mapping

from ..exchange import Exchange
from ..rules import Rule
from ..semantics.conditional import ORIGIN_PRECONDITIONS
from ..semantics.cookies import cookie_values
from ..semantics.directives import request_directives
from ..semantics.fields import hides_fields


def bypass_reason(exchange: Exchange) -> str | None:
    """Why a read passes by the cache, as `Cache-Status` says it, or None."""
    request = exchange.request
    if exchange.rule is not None and exchange.rule.rule.read == "pass":
        return "rule"
    if (unkeyed := unkeyed_field(exchange)) is not None:
        return unkeyed
    if exchange.terms.no_store:
        return "no-store"
    if "Upgrade" in request.headers:
        return "upgrade"
    if request.body_exists:  # also when an outer middleware has read it
        return "body"
    if any(name in request.headers for name in ORIGIN_PRECONDITIONS):
        return "precondition"
    if exchange.features and request_directives(exchange.headers).has("no-transform"):  # RFC 9111 section 5.2.1.6
        return "no-transform"
    if exchange.served.exclusions.cover(exchange.target, exchange.headers):
        return "excluded"
    return None


def unkeyed_field(exchange: Exchange) -> str | None:
    """What a request has that an answer may depend on and no key can hold, as `Cache-Status` says it, or None."""
    headers = exchange.request.headers
    # A handler of the edge's own sees such fields, an origin behind it does not: no key is right for both.
    if "Connection" in headers and hides_fields(list(headers.items())):
        return "connection"
    return _named(headers, exchange.rule.rule) if exchange.rule is not None else None


def _named(headers: Mapping[str, str], rule: Rule) -> str | None:
    """Which of the things that the rule leaves to the handler are there."""
    if any(name in headers for name in rule.bypass_headers):
        return "header"
    if rule.bypass_cookies and "Cookie" in headers:
        came = list(headers.items())
        if any(cookie_values(came, name) for name in rule.bypass_cookies):
            return "cookie"
    return None
