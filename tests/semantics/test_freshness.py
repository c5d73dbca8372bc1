import math
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.dates import format_date
from aiohttp_regioncache.semantics.fields import Headers
from aiohttp_regioncache.semantics.freshness import (
    Policy,
    Terms,
    Verdict,
    current_age,
    initial_age,
    judge,
    lifetime,
    refreshes_early,
    softly_purged,
    terms,
)
from aiohttp_regioncache.semantics.requests import PLAIN_REQUEST, request_terms

NOW = 1_800_000_000.0


def date(offset: float) -> str:
    return format_date(NOW + offset)


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        pytest.param([], 2.0, id="4.2.3-response-delay"),
        pytest.param([("Date", date(0))], 2.0, id="4.2.3-own-date"),
        pytest.param([("Date", date(-100))], 100.0, id="4.2.3-apparent-age"),
        pytest.param([("Date", date(100))], 2.0, id="4.2.3-date-ahead"),
        pytest.param([("Date", "foo")], 2.0, id="4.2.3-invalid-date"),
        pytest.param([("Age", "30")], 32.0, id="4.2.3-age-plus-delay"),
        pytest.param([("Age", "30"), ("Date", date(-100))], 100.0, id="4.2.3-larger-of-both"),
        pytest.param([("Age", "abc")], 2.0, id="5.1-not-a-number"),
        pytest.param([("Age", "-7200")], 2.0, id="5.1-negative"),
        pytest.param([("Age", "7200.0")], 2.0, id="5.1-decimal"),
        pytest.param([("Age", "7200;foo=bar")], 2.0, id="5.1-parameter"),
        pytest.param([("Age", "7200, 0")], 7202.0, id="5.1-first-of-a-list"),
        pytest.param([("Age", "0, 7200")], 2.0, id="5.1-first-of-a-list-0"),
        pytest.param([("Age", "0"), ("Age", "7200")], 2.0, id="5.1-first-line"),
        pytest.param([("Age", "2147483649")], 2.0**31 + 2, id="1.2.2-clamped"),
    ],
)
def test_initial_age(headers: Headers, age: float) -> None:
    assert initial_age(headers, request_time=NOW - 2, response_time=NOW) == age


def test_clocks_that_run_backwards_take_no_age_away() -> None:
    assert initial_age([("Age", "5")], request_time=NOW + 9, response_time=NOW) == 5.0
    assert current_age(5.0, NOW, NOW - 9) == 5.0
    assert current_age(5.0, NOW, NOW + 9) == 14.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param([("Cache-Control", "max-age=60")], 60, id="max-age"),
        pytest.param([("Cache-Control", "max-age=60, s-maxage=5")], 5, id="s-maxage-shorter"),
        pytest.param([("Cache-Control", "max-age=5, s-maxage=60")], 60, id="s-maxage-longer"),
        pytest.param([("Cache-Control", "max-age=60"), ("Expires", date(900))], 60, id="5.3-max-age-first"),
        pytest.param([("Cache-Control", "max-age=0"), ("Expires", date(900))], 0, id="5.3-max-age-0-first"),
        pytest.param([("Expires", date(900)), ("Date", date(0))], 900, id="expires"),
        pytest.param([("Expires", date(900)), ("Date", date(-10))], 910, id="expires-slow-date"),
        pytest.param([("Expires", date(900)), ("Date", "foo")], 900, id="expires-invalid-date"),
        pytest.param([("Expires", date(900))], 900, id="expires-no-date"),
        pytest.param([("Expires", date(-900))], 0, id="expires-past"),
        pytest.param([("Expires", "0")], 0, id="5.3-expires-invalid"),
        pytest.param([("Expires", date(900)), ("Expires", date(60))], 60, id="4.2.1-expires-twice"),
        pytest.param([("Expires", date(900)), ("Expires", "0")], 0, id="4.2.1-expires-twice-invalid"),
        pytest.param([("Expires", "0"), ("Last-Modified", date(-1000))], 0, id="4.2.2-explicit-no-heuristic"),
        pytest.param([("Last-Modified", date(-1000)), ("Date", date(0))], 100, id="4.2.2-tenth"),
        pytest.param([("Last-Modified", date(-1000)), ("Date", date(-500))], 50, id="4.2.2-from-date"),
        pytest.param([("Last-Modified", date(1000))], 0, id="4.2.2-modified-ahead"),
        pytest.param([("Last-Modified", date(-(10**7)))], 86400, id="4.2.2-at-most-a-day"),
        pytest.param([("Last-Modified", "foo")], 0, id="4.2.2-invalid"),
        pytest.param([], 0, id="nothing"),
        pytest.param(
            [("CDN-Cache-Control", "max-age=5"), ("Cache-Control", "s-maxage=60"), ("Expires", date(900))],
            5,
            id="9213-2.2-targeted",
        ),
        pytest.param([("CDN-Cache-Control", "public"), ("Expires", date(900))], 0, id="9213-2.2-hides-expires"),
    ],
)
def test_lifetime(headers: Headers, seconds: float) -> None:
    assert lifetime(200, headers, Policy(), response_time=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_statuses_with_heuristics(status: int) -> None:
    assert lifetime(status, [("Last-Modified", date(-1000))], Policy(), response_time=NOW) == 100


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 403, 500, 502, 503, 504, 599])
def test_statuses_without_heuristics(status: int) -> None:
    modified = ("Last-Modified", date(-1000))
    assert lifetime(status, [modified], Policy(default_ttl=9), response_time=NOW) == 0
    public = [modified, ("Cache-Control", "public")]
    assert lifetime(status, public, Policy(), response_time=NOW) == 100


@pytest.mark.parametrize(
    ("policy", "headers", "seconds"),
    [
        pytest.param(Policy(default_ttl=9), [], 9, id="default"),
        pytest.param(Policy(default_ttl=9), [("Age", "30")], 39, id="default-runs-from-arrival"),
        pytest.param(Policy(default_ttl=9), [("Cache-Control", "max-age=5")], 5, id="default-yields-to-max-age"),
        pytest.param(Policy(default_ttl=9), [("Expires", "0")], 0, id="default-yields-to-expires"),
        pytest.param(Policy(default_ttl=9), [("Last-Modified", date(-1000))], 100, id="heuristic-first"),
        pytest.param(Policy(default_ttl=9, heuristics=False), [("Last-Modified", date(-1000))], 9, id="no-heuristics"),
        pytest.param(Policy(max_heuristic=7), [("Last-Modified", date(-1000))], 7, id="max-heuristic"),
        pytest.param(Policy(forced_ttl=9), [("Cache-Control", "max-age=5")], 9, id="forced"),
        pytest.param(Policy(forced_ttl=9), [("Age", "30"), ("Date", date(-40))], 49, id="forced-runs-from-arrival"),
        pytest.param(Policy(forced_ttl=0), [("Cache-Control", "max-age=5")], 0, id="forced-0"),
        pytest.param(Policy(default_ttl={"200": 9, "2xx": 8, "any": 7}), [], 9, id="status-first"),
        pytest.param(Policy(default_ttl={"2xx": 8, "any": 7}), [], 8, id="then-its-class"),
        pytest.param(Policy(default_ttl={"404": 9, "any": 7}), [], 7, id="then-any"),
        pytest.param(Policy(default_ttl={"404": 9}), [], 0, id="other-statuses-alone"),
        pytest.param(Policy(forced_ttl={"404": 9}), [("Cache-Control", "max-age=5")], 5, id="forced-for-others-alone"),
        pytest.param(Policy(forced_ttl={"any": 9}), [("Cache-Control", "max-age=5")], 9, id="forced-for-any"),
    ],
)
def test_policy(policy: Policy, headers: Headers, seconds: float) -> None:
    assert lifetime(200, headers, policy, response_time=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("policy", "status", "seconds"),
    [
        pytest.param(Policy(default_ttl={"502": 9}), 502, 9, id="status"),
        pytest.param(Policy(default_ttl={"5xx": 9}), 502, 9, id="class"),
        pytest.param(Policy(forced_ttl={"5xx": 9}), 599, 9, id="forced"),
        pytest.param(Policy(default_ttl={"any": 9}), 502, 0, id="any-names-none"),
        pytest.param(Policy(default_ttl={"503": 9}), 502, 0, id="another"),
        pytest.param(Policy(default_ttl=9, forced_ttl={"503": 9}), 502, 0, id="another-forced"),
    ],
)
def test_a_status_that_the_operator_names_needs_no_explicit_freshness(
    policy: Policy, status: int, seconds: float
) -> None:
    modified = [("Last-Modified", date(-1000))]
    assert lifetime(status, modified, policy, response_time=NOW) == seconds
    assert lifetime(status, [("Cache-Control", "max-age=5")], policy, response_time=NOW) == (
        seconds if policy.forced_ttl == {"5xx": 9} else 5
    )


@pytest.mark.parametrize(
    ("ttl", "cost", "beta", "chance", "early"),
    [
        (1.0, 1.0, 1.0, math.exp(-1.001), True),
        (1.0, 1.0, 1.0, math.exp(-0.999), False),
        (1.0, 2.0, 1.0, math.exp(-0.501), True),
        (1.0, 1.0, 2.0, math.exp(-0.501), True),
        (1.0, 1.0, 1.0, 1.0, False),
        (1.0, 1e9, 0.0, 1e-9, False),
        (1.0, 0.0, 1.0, 1e-9, False),
        (60.0, 0.1, 1.0, 2.0**-53, False),
    ],
)
def test_an_early_refresh(ttl: float, cost: float, beta: float, chance: float, early: bool) -> None:
    assert refreshes_early(ttl, cost=cost, beta=beta, chance=chance) is early


def test_the_store_of_one_user_ignores_what_binds_shared_caches() -> None:
    headers = [("Cache-Control", "max-age=5, s-maxage=60, proxy-revalidate, stale-if-error=7")]
    own = terms(200, headers, Policy(), response_time=NOW, shared=False)
    assert own == Terms(lifetime=5, no_cache=False, must_revalidate=False, swr=0, sie=7)
    private = [("Cache-Control", "private"), ("Last-Modified", date(-1000))]
    assert lifetime(302, private, Policy(), response_time=NOW, shared=False) == 100
    assert lifetime(302, private, Policy(), response_time=NOW) == 0


def test_no_policy_is_no_grace() -> None:
    found = terms(200, [("Cache-Control", "max-age=5")], Policy(), response_time=NOW)
    assert found == Terms(lifetime=5, no_cache=False, must_revalidate=False, swr=0, sie=0)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("max-age=5", Terms(5, False, False, 30, 60), id="operators-grace"),
        pytest.param("max-age=5, stale-while-revalidate=1, stale-if-error=2", Terms(5, False, False, 1, 2), id="5861"),
        pytest.param("max-age=5, stale-if-error=0", Terms(5, False, False, 30, 0), id="5861-explicit-0"),
        pytest.param("max-age=5, must-revalidate", Terms(5, False, True, 0, 0), id="5.2.2.2"),
        pytest.param("max-age=5, proxy-revalidate", Terms(5, False, True, 0, 0), id="5.2.2.8"),
        pytest.param("s-maxage=5, stale-while-revalidate=9", Terms(5, False, True, 0, 0), id="5.2.2.10"),
        pytest.param("max-age=5, no-cache", Terms(5, True, False, 0, 0), id="5.2.2.4"),
        pytest.param('max-age=5, no-cache="a"', Terms(5, False, False, 30, 60), id="5.2.2.4-qualified"),
        pytest.param('max-age=5, no-cache="a", no-cache', Terms(5, True, False, 0, 0), id="5.2.2.4-both"),
        pytest.param("max-age=5, immutable", Terms(5, False, False, 30, 60, immutable=True), id="8246-2"),
    ],
)
def test_terms(line: str, found: Terms) -> None:
    policy = Policy(stale_while_revalidate=30, stale_if_error=60)
    assert terms(200, [("Cache-Control", line)], policy, response_time=NOW) == found


FRESH, STALE_USABLE, REVALIDATE, UNAVAILABLE = Verdict
PLAIN = Terms(lifetime=100, no_cache=False, must_revalidate=False, swr=0, sie=0)
GRACED = msgspec.structs.replace(PLAIN, swr=20, sie=40)
STRICT = msgspec.structs.replace(PLAIN, must_revalidate=True)
NO_CACHE = msgspec.structs.replace(PLAIN, no_cache=True)


@pytest.mark.parametrize(
    ("request_line", "stored", "age", "verdict", "survives"),
    [
        pytest.param("", PLAIN, 0, FRESH, True, id="4.2-fresh"),
        pytest.param("", PLAIN, 99.5, FRESH, True, id="4.2-fresh-at-the-end"),
        pytest.param("", PLAIN, 100, REVALIDATE, False, id="4.2-lifetime-must-exceed-age"),
        pytest.param("", PLAIN, 150, REVALIDATE, False, id="4.2.4-stale"),
        pytest.param("", NO_CACHE, 1, REVALIDATE, False, id="5.2.2.4-no-cache"),
        pytest.param("", STRICT, 99, FRESH, True, id="5.2.2.2-fresh"),
        pytest.param("", STRICT, 101, REVALIDATE, False, id="5.2.2.2-stale"),
        pytest.param("", GRACED, 119, STALE_USABLE, True, id="5861-3-within"),
        pytest.param("", GRACED, 120, REVALIDATE, True, id="5861-3-over"),
        pytest.param("", GRACED, 139, REVALIDATE, True, id="5861-4-within"),
        pytest.param("", GRACED, 140, REVALIDATE, False, id="5861-4-over"),
        pytest.param("no-cache", PLAIN, 1, REVALIDATE, False, id="5.2.1.4-no-cache"),
        pytest.param("no-store", PLAIN, 1, FRESH, True, id="5.2.1.5-no-store-may-be-answered"),
        pytest.param("no-store", PLAIN, 99.5, FRESH, True, id="5.2.1.5-fresh-at-the-end"),
        pytest.param("max-age=0", PLAIN, 0, REVALIDATE, True, id="5.2.1.1-reload"),
        pytest.param("max-age=50", PLAIN, 50, FRESH, True, id="5.2.1.1-young-enough"),
        pytest.param("max-age=50", PLAIN, 51, REVALIDATE, True, id="5.2.1.1-too-old"),
        pytest.param("max-age=500", GRACED, 110, REVALIDATE, True, id="5.2.1.1-declines-stale"),
        pytest.param("max-age=500, max-stale", PLAIN, 110, STALE_USABLE, False, id="5.2.1.1-with-max-stale"),
        pytest.param("max-age=105, max-stale", PLAIN, 110, REVALIDATE, False, id="5.2.1.1-bounds-max-stale"),
        pytest.param("min-fresh=20", PLAIN, 80, FRESH, True, id="5.2.1.3-fresh-enough"),
        pytest.param("min-fresh=20", PLAIN, 81, REVALIDATE, True, id="5.2.1.3-not-for-long"),
        pytest.param("min-fresh=1", GRACED, 110, REVALIDATE, True, id="5.2.1.3-stale"),
        pytest.param("max-stale=10", PLAIN, 110, STALE_USABLE, False, id="5.2.1.2-within"),
        pytest.param("max-stale=10", PLAIN, 111, REVALIDATE, False, id="5.2.1.2-over"),
        pytest.param("max-stale", PLAIN, 10**6, STALE_USABLE, False, id="5.2.1.2-any"),
        pytest.param("max-stale=5", GRACED, 115, STALE_USABLE, True, id="5861-3-beside-max-stale"),
        pytest.param("max-stale", STRICT, 110, REVALIDATE, False, id="4.2.4-forbidden"),
        pytest.param("max-stale", NO_CACHE, 110, REVALIDATE, False, id="4.2.4-no-cache"),
        pytest.param("only-if-cached", PLAIN, 1, FRESH, True, id="5.2.1.7-fresh"),
        pytest.param("only-if-cached", PLAIN, 101, UNAVAILABLE, False, id="5.2.1.7-stale"),
        pytest.param("only-if-cached, max-stale=5", PLAIN, 101, STALE_USABLE, False, id="5.2.1.7-max-stale"),
        pytest.param("only-if-cached", NO_CACHE, 1, UNAVAILABLE, False, id="5.2.1.7-no-cache"),
        pytest.param("stale-if-error=9", PLAIN, 108, REVALIDATE, True, id="5861-4-request"),
        pytest.param("stale-if-error=9", STRICT, 108, REVALIDATE, False, id="5861-4-request-forbidden"),
    ],
)
def test_judge(request_line: str, stored: Terms, age: float, verdict: Verdict, survives: bool) -> None:
    asked = request_terms([("Cache-Control", request_line)])
    found = judge(asked, stored, initial_age=0.0, response_time=NOW, now=NOW + age)
    assert (found.verdict, found.stale_if_error) == (verdict, survives)
    assert (found.age, found.ttl) == (age, stored.lifetime - age)


@settings(max_examples=100)
@given(
    age=st.floats(0, 200),
    stored=st.sampled_from([PLAIN, GRACED, STRICT, NO_CACHE]),
)
def test_the_short_way_judges_like_the_long_one(age: float, stored: Terms) -> None:
    equal_but_other = replace(PLAIN_REQUEST)
    times = {"initial_age": age, "response_time": NOW, "now": NOW}
    assert judge(PLAIN_REQUEST, stored, **times) == judge(equal_but_other, stored, **times)


# --- What is purged softly ---


@pytest.mark.parametrize(
    ("swr", "age", "grace", "stale_for"),
    [
        pytest.param(0.0, 10.0, 60.0, 60.0, id="grace"),
        pytest.param(90.0, 10.0, 60.0, 90.0, id="its-own-is-longer"),
        pytest.param(0.0, 580.0, 60.0, 20.0, id="never-longer-than-without"),
        pytest.param(5.0, 580.0, 60.0, 25.0, id="its-own-beyond-its-lifetime"),
        pytest.param(30.0, 580.0, 60.0, 50.0, id="both"),
        pytest.param(0.0, 10.0, 0.0, 0.0, id="no-grace"),
    ],
)
def test_what_is_purged_softly_is_stale_and_served_for_a_while(
    swr: float, age: float, grace: float, stale_for: float
) -> None:
    before = Terms(lifetime=600.0, no_cache=False, must_revalidate=False, swr=swr, sie=100.0)
    after = softly_purged(before, age, grace)

    def verdict(now: float) -> Verdict:
        return judge(PLAIN_REQUEST, after, initial_age=age, response_time=0.0, now=now).verdict

    assert verdict(0.0) is (Verdict.STALE_USABLE if stale_for else Verdict.REVALIDATE)
    assert stale_for == 0 or verdict(stale_for - 0.1) is Verdict.STALE_USABLE
    assert verdict(stale_for) is Verdict.REVALIDATE
    assert judge(PLAIN_REQUEST, after, initial_age=age, response_time=0.0, now=99.0).stale_if_error
    assert not judge(PLAIN_REQUEST, after, initial_age=age, response_time=0.0, now=101.0).stale_if_error


def test_a_soft_purge_leaves_what_is_stale_already() -> None:
    before = Terms(lifetime=10.0, no_cache=False, must_revalidate=False, swr=0.0, sie=0.0)
    assert softly_purged(before, 10.0, 60.0) == before


def test_a_soft_purge_lets_nothing_be_served_that_must_be_revalidated() -> None:
    before = Terms(lifetime=600.0, no_cache=False, must_revalidate=True, swr=0.0, sie=0.0)
    after = softly_purged(before, 10.0, 60.0)
    judged = judge(PLAIN_REQUEST, after, initial_age=10.0, response_time=0.0, now=0.0)
    assert (judged.verdict, judged.stale_if_error) == (Verdict.REVALIDATE, False)
