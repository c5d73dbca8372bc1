"""May a response be stored, and is it worth it? (RFC 9111 3)."""

from dataclasses import dataclass

from .conditional import validators
from .directives import Directives, response_directives
from .fields import Headers, combined, first, remove
from .freshness import Policy, Terms, explicit_lifetime, heuristically_cacheable, terms
from .methods import resolved
from .ranges import content_range
from .requests import request_terms
from .vary import vary_names

UNDERSTOOD_STATUSES: frozenset[int] = frozenset(
    {*range(200, 207), *range(300, 304), 305, 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506)}
)
"""Statuses of RFC 9110 whose caching requirements are met here (must-understand, RFC 9111 5.2.2.3)."""

_PARTIAL, _NOT_MODIFIED = 206, 304


@dataclass(frozen=True, slots=True)
class Storability:
    """Whether a response may be stored, and otherwise what forbids it, in a word or two; "" when allowed."""

    allowed: bool
    reason: str


def may_store(
    method: str,
    request_headers: Headers,
    status: int,
    response_headers: Headers,
    policy: Policy,
    *,
    shared: bool = True,
    credentials: bool,
    store_set_cookie: bool = True,
    response_time: float = 0.0,
) -> Storability:
    """Decide whether a response may be stored (RFC 9111 3).

    `shared=False` is the store of one user, where private responses and those to requests with credentials
    may lie. `credentials`: the request carried some; Authorization counts as such in any case.
    `store_set_cookie` admits responses that set cookies where the origin has given them a lifetime (RFC 9111
    7.3). `response_time` (epoch seconds) stands in for a missing Date where Expires is judged. Responses that
    could never be reused are refused with "no freshness".
    """
    directives = response_directives(response_headers)
    identified = credentials or first(request_headers, "authorization") is not None
    reason = (
        _refused_by_message(method, status, response_headers)
        or _refused_by_directives(request_headers, status, directives)
        or (_refused_by_owner(directives, identified) if shared else "")
        or _refused_by_cookies(response_headers, directives, response_time, shared, store_set_cookie)
        or _refused_by_freshness(status, response_headers, policy, response_time, shared)
    )
    return Storability(not reason, reason)


def answers_get(target_uri: str, response_headers: Headers, *, response_time: float, shared: bool = True) -> bool:
    """Tell whether the answer to a POST may be stored for later GETs of its target (RFC 9110 9.3.3).

    It is a representation of the target, as its Content-Location says, and the origin has given it a lifetime.
    """
    directives = response_directives(response_headers)
    explicit = explicit_lifetime(response_headers, directives, response_time=response_time, shared=shared)
    location = combined(response_headers, "content-location")
    return bool(explicit) and location is not None and resolved(target_uri, location) == resolved(target_uri, "")


def shared_despite_credentials(response_headers: Headers) -> bool:
    """Tell whether a shared cache may store an answer to a request with credentials (RFC 9111 3.5)."""
    return not _refused_by_owner(response_directives(response_headers), credentials=True)


def unstorable_fields(response_headers: Headers) -> frozenset[str]:
    """Return the fields that a qualified no-cache or private keeps out of the store (RFC 9111 5.2.2.4, 5.2.2.7)."""
    directives = response_directives(response_headers)
    return frozenset((*directives.fields("no-cache"), *directives.fields("private")))


def storable(response_headers: Headers) -> list[tuple[str, str]]:
    """Return the fields of a response without those that must not be stored with it."""
    return remove(response_headers, unstorable_fields(response_headers))


def _refused_by_message(method: str, status: int, headers: Headers) -> str:
    if method != "GET":
        return "method"
    if not 200 <= status <= 599:  # RFC 9111 3: final
        return "status"
    is_part = status == _PARTIAL and content_range(headers) is not None
    looks_partial = status == _PARTIAL or first(headers, "content-range") is not None
    if status == _NOT_MODIFIED or looks_partial is not is_part:  # RFC 9111 3.3
        return "partial"
    return "vary" if vary_names(headers) is None else ""  # RFC 9111 4.1: * never matches


def _refused_by_directives(request_headers: Headers, status: int, directives: Directives) -> str:
    if request_terms(request_headers).no_store:  # RFC 9111 5.2.1.5
        return "request no-store"
    # RFC 9111 5.2.2.3: understood, must-understand lifts no-store.
    if directives.has("must-understand"):
        return "" if status in UNDERSTOOD_STATUSES else "status"
    return "no-store" if directives.has("no-store") else ""  # RFC 9111 5.2.2.5


def _refused_by_owner(directives: Directives, credentials: bool) -> str:
    # RFC 9111 5.2.2.7: the qualified form is about the fields that it lists.
    if directives.has("private") and not directives.fields("private"):
        return "private"
    permitted = any(directives.has(name) for name in ("public", "must-revalidate", "s-maxage"))
    return "credentials" if credentials and not permitted else ""  # RFC 9111 3.5


def _refused_by_cookies(
    headers: Headers, directives: Directives, response_time: float, shared: bool, store_set_cookie: bool
) -> str:
    if first(headers, "set-cookie") is None or first(storable(headers), "set-cookie") is None:
        return ""
    # RFC 9111 7.3: a cookie does not inhibit storing; but who set it without a word on caching did not think of it.
    explicit = explicit_lifetime(headers, directives, response_time=response_time, shared=shared)
    return "" if store_set_cookie and explicit is not None else "set-cookie"


def _refused_by_freshness(status: int, headers: Headers, policy: Policy, response_time: float, shared: bool) -> str:
    directives = response_directives(headers)
    explicit = explicit_lifetime(headers, directives, response_time=response_time, shared=shared)
    # RFC 9111 3: explicit freshness, or a status or directive that allows storing without it; or the operator's word.
    storable = explicit is not None or heuristically_cacheable(status, directives, shared=shared)
    if not storable and not policy.names(status):
        return "status"
    if validators(headers):
        return ""
    found = terms(status, headers, policy, response_time=response_time, shared=shared)
    return "" if _reusable_unvalidated(found, explicit) else "no freshness"


def _reusable_unvalidated(found: Terms, explicit: float | None) -> bool:
    # A grace alone, without a word of the origin on freshness, makes no response worth storing.
    grace = 0.0 if explicit is None else max(found.swr, found.sie)
    return not found.no_cache and max(found.lifetime, grace) > 0
