"""Age, freshness lifetime and the reuse of a stored response (RFC 9111 4.2, RFC 5861)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from .dates import parse_date
from .directives import Directives, delta_seconds, response_directives
from .fields import OWS, Headers, first, values
from .requests import PLAIN_REQUEST, RequestTerms

HEURISTIC_STATUSES: frozenset[int] = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be stored and reused without explicit freshness (RFC 9110 15.1)."""

_HEURISTIC_FRACTION = 0.1

Ttl = float | Mapping[str, float] | None
"""Seconds for every status, or by status: "404", then "4xx", then "any"; None, or none of these: nothing said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator adds to the origin's word; every time in seconds.

    `default_ttl` counts where the origin gives neither explicit freshness nor Last-Modified, `forced_ttl`
    instead of whatever it gives; both run from the moment the response arrives here, whatever its Age.
    Neither lifts no-store, private or no-cache. A status that is not cacheable without explicit freshness is so
    where one of them names it, or its class ("502", "5xx"). `heuristics` allows 10 % of the age since
    Last-Modified, at most `max_heuristic` (RFC 9111 4.2.2). `stale_if_error` and `stale_while_revalidate` count
    where the response has no such directive. `stale_if_unreachable` is how stale a response may be that stands in
    for an origin that gives no answer at all (RFC 9111 4.2.4). `early_refresh` is the beta of `refreshes_early`.
    `soft_purge` is how long what is purged softly may be served while it is revalidated, if it allows less.
    """

    default_ttl: Ttl = None
    forced_ttl: Ttl = None
    heuristics: bool = True
    max_heuristic: float = 86400.0
    stale_if_error: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_unreachable: float = 0.0
    early_refresh: float = 0.0
    soft_purge: float = 60.0

    def names(self, status: int) -> bool:
        """Tell whether the operator gives this very status, or its class, a lifetime."""
        return _names(self.default_ttl, status) or _names(self.forced_ttl, status)


class Terms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a stored response says about its reuse, computed once when it is stored; scalars only.

    `lifetime` is the freshness lifetime in seconds. `no_cache`: never without validation.
    `must_revalidate`: never when stale (also proxy-revalidate and s-maxage in a shared store). `swr`, `sie` and
    `unreachable` are the seconds of staleness that stale-while-revalidate, stale-if-error and an origin
    without an answer allow, 0 where the response forbids them. `immutable`: it does not change while fresh.
    """

    lifetime: float
    no_cache: bool
    must_revalidate: bool
    swr: float
    sie: float
    unreachable: float = 0.0
    immutable: bool = False


class Verdict(Enum):
    """What may be done with a stored response."""

    FRESH = "fresh"
    STALE_USABLE = "stale-usable"
    REVALIDATE = "revalidate"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its figures.

    `age` is the current age and `ttl` the remaining lifetime (negative: stale since), both in seconds.
    `stale_if_error`: may be served after all if the origin answers with an error (RFC 5861 4), and
    `stale_if_unreachable` if it gives no answer (RFC 9111 4.2.4).
    """

    verdict: Verdict
    age: float
    ttl: float
    stale_if_error: bool
    stale_if_unreachable: bool


def initial_age(headers: Headers, *, request_time: float, response_time: float) -> float:
    """Return the corrected initial age of a response in seconds (RFC 9111 4.2.3).

    The times are epoch seconds: when the request was sent and when the response arrived. For a response
    that a 304 has just validated pass the headers and times of the 304.
    """
    corrected = _received_age(headers) + max(0.0, response_time - request_time)
    generated = _date(headers)
    return corrected if generated is None else max(corrected, response_time - generated)


def current_age(initial: float, response_time: float, now: float) -> float:
    """Return the age now: the initial age plus the time in the store (RFC 9111 4.2.3)."""
    resident = now - response_time
    return initial + resident if resident > 0 else initial


def lifetime(status: int, headers: Headers, policy: Policy, *, response_time: float, shared: bool = True) -> float:
    """Return the freshness lifetime in seconds (RFC 9111 4.2.1), 0 where nothing grants one.

    `shared=False` is the store of one user: s-maxage does not apply there.
    """
    return _lifetime(status, headers, response_directives(headers), policy, response_time, shared)


def explicit_lifetime(
    headers: Headers, directives: Directives, *, response_time: float, shared: bool = True
) -> float | None:
    """Return the lifetime that the origin gives in seconds, None when it gives none (RFC 9111 4.2.1)."""
    if shared and (seconds := directives.seconds("s-maxage")) is not None:
        return float(seconds)
    if (seconds := directives.seconds("max-age")) is not None:
        return float(seconds)
    # RFC 9213 2.2: a targeted field hides Expires as well.
    return None if directives.targeted else _until_expires(headers, response_time)


def ttl_for(ttl: Ttl, status: int) -> float | None:
    """Return the seconds that an operator's lifetime gives a status, the most specific ones; None when none."""
    if not isinstance(ttl, Mapping):
        return ttl
    return next((ttl[name] for name in (*_status_names(status), "any") if name in ttl), None)


def heuristically_cacheable(status: int, directives: Directives, *, shared: bool = True) -> bool:
    """Tell whether a response may be stored without explicit freshness (RFC 9111 3 and 4.2.2)."""
    allowed_by_origin = directives.has("public") or (directives.has("private") and not shared)
    return allowed_by_origin or status in HEURISTIC_STATUSES


def terms(status: int, headers: Headers, policy: Policy, *, response_time: float, shared: bool = True) -> Terms:
    """Return everything that `judge` needs of a response; `response_time` in epoch seconds."""
    directives = response_directives(headers)
    # RFC 9111 5.2.2.4: the qualified form is about the fields that it lists, and these are not stored.
    no_cache = directives.has("no-cache") and not directives.fields("no-cache")
    must_revalidate = _forbids_stale(directives, shared)
    # RFC 9111 4.2.4: none of these may be served stale, whatever else permits it.
    graced = not (no_cache or must_revalidate)
    return Terms(
        lifetime=_lifetime(status, headers, directives, policy, response_time, shared),
        no_cache=no_cache,
        must_revalidate=must_revalidate,
        swr=_grace(directives, "stale-while-revalidate", policy.stale_while_revalidate) if graced else 0.0,
        sie=_grace(directives, "stale-if-error", policy.stale_if_error) if graced else 0.0,
        unreachable=policy.stale_if_unreachable if graced else 0.0,
        immutable=directives.has("immutable"),
    )


def softly_purged(terms: Terms, age: float, grace: float) -> Terms:
    """Return the terms of a response that was made stale when it had an `age`, both in seconds.

    From then on it may be served while it is revalidated for as long as it says or for `grace` seconds, never longer
    than without the purge, and not at all where it must be revalidated when stale (RFC 9111 4.2.4).
    """
    if age >= terms.lifetime:  # stale already
        return terms
    remaining = terms.lifetime - age + terms.swr
    swr = terms.swr if terms.no_cache or terms.must_revalidate else min(max(terms.swr, grace), remaining)
    return msgspec.structs.replace(terms, lifetime=age, swr=swr)


def judge(request: RequestTerms, terms: Terms, *, initial_age: float, response_time: float, now: float) -> Judgement:
    """Decide whether a stored response may answer a request (RFC 9111 4); times in epoch seconds.

    no-store in a request does not keep it from being answered by what is stored already (RFC 9111 5.2.1.5).
    """
    age = current_age(initial_age, response_time, now)
    ttl = terms.lifetime - age
    if request is PLAIN_REQUEST and ttl > 0 and not terms.no_cache:
        return Judgement(Verdict.FRESH, age, ttl, True, True)
    verdict = _verdict(request, terms, age, ttl)
    if request.only_if_cached and verdict is Verdict.REVALIDATE:  # RFC 9111 5.2.1.7
        verdict = Verdict.UNAVAILABLE
    errors, silence = max(terms.sie, request.stale_if_error), max(terms.sie, terms.unreachable)
    return Judgement(
        verdict, age, ttl, _may_cover(request, terms, ttl, errors), _may_cover(request, terms, ttl, silence)
    )


def refreshes_early(ttl: float, *, cost: float, beta: float, chance: float) -> bool:
    """Decide whether a response that is still fresh is fetched anew (XFetch: Vattani, Chierichetti, Lowenstein 2015).

    `ttl` is its remaining lifetime and `cost` what its fetch took, in seconds. `chance` is drawn evenly from (0, 1]
    for every request: the nearer the end and the dearer the fetch, the likelier. `beta`: 1 is the optimum, more is
    earlier, 0 never.
    """
    return beta > 0 and -cost * beta * math.log(chance) >= ttl


def _verdict(request: RequestTerms, terms: Terms, age: float, ttl: float) -> Verdict:
    if terms.no_cache or request.no_cache:  # RFC 9111 5.2.2.4, 5.2.1.4
        return Verdict.REVALIDATE
    if _too_old_for(request, age, terms, ttl) or (request.min_fresh and ttl < request.min_fresh):  # 9111 5.2.1.3
        return Verdict.REVALIDATE
    if ttl > 0:
        return Verdict.FRESH
    return Verdict.STALE_USABLE if _stale_welcome(request, terms, -ttl) else Verdict.REVALIDATE


def _too_old_for(request: RequestTerms, age: float, terms: Terms, ttl: float) -> bool:
    if request.max_age == 0:
        # How a reload asks for validation, however young the response; RFC 8246 2: needless while it is immutable.
        return not (terms.immutable and ttl > 0)
    return request.max_age is not None and age > request.max_age  # RFC 9111 5.2.1.1


def _stale_welcome(request: RequestTerms, terms: Terms, staleness: float) -> bool:
    if terms.must_revalidate:  # RFC 9111 4.2.4
        return False
    if request.max_stale is not None:  # RFC 9111 5.2.1.2
        return staleness <= max(request.max_stale, terms.swr)
    # RFC 9111 5.2.1.1: max-age without max-stale declines stale responses. RFC 5861 3.
    return request.max_age is None and staleness < terms.swr


def _may_cover(request: RequestTerms, terms: Terms, ttl: float, grace: float) -> bool:
    """Whether a response may stand in for a failure, stale by less than `grace` seconds."""
    if terms.no_cache or request.no_cache:
        return False
    if ttl > 0:
        return True
    return not terms.must_revalidate and -ttl < grace


def _lifetime(
    status: int, headers: Headers, directives: Directives, policy: Policy, response_time: float, shared: bool
) -> float:
    forced = ttl_for(policy.forced_ttl, status)
    if forced is not None:
        return forced + _age_on_arrival(headers, response_time)
    explicit = explicit_lifetime(headers, directives, response_time=response_time, shared=shared)
    if explicit is not None:
        return explicit
    if heuristically_cacheable(status, directives, shared=shared):
        heuristic = _heuristic(headers, policy, response_time)
        if heuristic is not None:
            return heuristic
    elif not policy.names(status):
        return 0.0
    default = ttl_for(policy.default_ttl, status)
    return 0.0 if default is None else default + _age_on_arrival(headers, response_time)


def _names(ttl: Ttl, status: int) -> bool:
    return isinstance(ttl, Mapping) and any(name in ttl for name in _status_names(status))


def _status_names(status: int) -> tuple[str, str]:
    return str(status), f"{status // 100}xx"


def _age_on_arrival(headers: Headers, response_time: float) -> float:
    return initial_age(headers, request_time=response_time, response_time=response_time)


def _until_expires(headers: Headers, response_time: float) -> float | None:
    lines = values(headers, "expires")
    if not lines:
        return None
    dates = [parse_date(line) for line in lines]
    known = [when for when in dates if when is not None]
    # RFC 9111 5.3: an invalid date is in the past; 4.2.1: of several the most restrictive.
    if len(known) < len(dates):
        return 0.0
    return max(0.0, min(known) - _generated(headers, response_time))


def _heuristic(headers: Headers, policy: Policy, response_time: float) -> float | None:
    modified = parse_date(first(headers, "last-modified") or "")
    if modified is None or not policy.heuristics:
        return None
    unchanged_for = max(0.0, _generated(headers, response_time) - modified)
    return min(_HEURISTIC_FRACTION * unchanged_for, policy.max_heuristic)


def _forbids_stale(directives: Directives, shared: bool) -> bool:
    if directives.has("must-revalidate"):  # RFC 9111 5.2.2.2
        return True
    # RFC 9111 5.2.2.8, 5.2.2.10: these two bind shared caches only.
    return shared and (directives.has("proxy-revalidate") or directives.has("s-maxage"))


def _grace(directives: Directives, name: str, otherwise: float) -> float:
    seconds = directives.seconds(name)
    return otherwise if seconds is None else float(seconds)


def _date(headers: Headers) -> float | None:
    return parse_date(first(headers, "date") or "")


def _generated(headers: Headers, response_time: float) -> float:
    # RFC 9110 6.6.1: without a Date, the time of arrival.
    generated = _date(headers)
    return response_time if generated is None else generated


def _received_age(headers: Headers) -> float:
    # RFC 9111 5.1: the first of several values; an invalid one is ignored.
    value = (first(headers, "age") or "").partition(",")[0].strip(OWS)
    return float(delta_seconds(value) or 0)
