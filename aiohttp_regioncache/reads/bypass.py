"""Which reads are none of the cache's business."""

from __future__ import annotations

from collections.abc import Iterable

from ..exchange import Exchange
from ..patterns import PathPattern
from ..rules import Rule
from ..semantics.conditional import ORIGIN_PRECONDITIONS
from ..semantics.cookies import cookie_values
from ..semantics.fields import hides_fields


class Bypass:
    """Find out why a read passes by the cache. `exclude` are path patterns."""

    def __init__(self, exclude: Iterable[str]) -> None:
        self._excluded = [PathPattern(pattern) for pattern in exclude]

    def reason(self, exchange: Exchange) -> str | None:
        """Why a request passes by, as `Cache-Status` says it, or None."""
        request = exchange.request
        if exchange.rule is not None and exchange.rule.rule.read == "pass":
            return "rule"
        if exchange.rule is not None and (named := _named(exchange, exchange.rule.rule)):
            return named
        # A handler of the edge's own sees such fields, an origin behind it does not: no key is right for both.
        if "Connection" in request.headers and hides_fields(list(request.headers.items())):
            return "connection"
        if exchange.terms.no_store:
            return "no-store"
        if "Upgrade" in request.headers:
            return "upgrade"
        if request.can_read_body:
            return "body"
        if any(name in request.headers for name in ORIGIN_PRECONDITIONS):
            return "precondition"
        if any(pattern.match(exchange.target.path) is not None for pattern in self._excluded):
            return "excluded"
        return None


def _named(exchange: Exchange, rule: Rule) -> str | None:
    """Which of the things that the rule leaves to the handler a request carries."""
    request = exchange.request
    if any(name in request.headers for name in rule.bypass_headers):
        return "header"
    if rule.bypass_cookies and "Cookie" in request.headers:
        came = list(request.headers.items())
        if any(cookie_values(came, name) for name in rule.bypass_cookies):
            return "cookie"
    return None
