"""What a request asks of a cache (RFC 9111 5.2.1, RFC 5861 4)."""

import math
from dataclasses import dataclass

from .directives import Directives, request_directives
from .fields import Headers

_DIRECTIVE_FIELDS = frozenset({"cache-control", "pragma"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTerms:
    """The cache directives of a request, in seconds where they are times; None: not asked.

    `max_stale` without argument is infinite. Repeated directives: the most restrictive counts.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    min_fresh: int = 0
    max_stale: float | None = None
    stale_if_error: int = 0


PLAIN_REQUEST = RequestTerms()
"""The terms of a request that asks nothing; `request_terms` returns this very object for most requests."""


def request_terms(headers: Headers) -> RequestTerms:
    """Read the cache directives of a request (RFC 9111 5.2.1 and 5.4)."""
    for name, _ in headers:
        if name.lower() in _DIRECTIVE_FIELDS:
            return _terms(request_directives(headers))
    return PLAIN_REQUEST


def _terms(directives: Directives) -> RequestTerms:
    asked = RequestTerms(
        no_cache=directives.has("no-cache"),
        no_store=directives.has("no-store"),
        only_if_cached=directives.has("only-if-cached"),
        max_age=directives.seconds("max-age"),
        min_fresh=max(directives.all_seconds("min-fresh"), default=0),
        max_stale=_max_stale(directives),
        stale_if_error=directives.seconds("stale-if-error") or 0,
    )
    return PLAIN_REQUEST if asked == PLAIN_REQUEST else asked


def _max_stale(directives: Directives) -> float | None:
    # RFC 9111 5.2.1.2: without argument, a response of any age is welcome.
    arguments = directives.occurrences.get("max-stale", ())
    if arguments and all(argument is None for argument in arguments):
        return math.inf
    limited = (
        seconds
        for argument, seconds in zip(arguments, directives.all_seconds("max-stale"), strict=True)
        if argument is not None
    )
    return min(limited, default=None)
