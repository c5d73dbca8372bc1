"""What requests ask of a cache (RFC 9111 sections 5.2.1, 5.4), and requests with credentials (section 3.5)."""

from ..case import CACHE, FRESH, NOWHERE, ORIGIN, STALE, Case, Exchange, answer, case, reuse

_AUTH = ("Authorization: Basic Zm9vOmJhcg==",)
_OTHER_AUTH = ("Authorization: Basic YmF6OnF1eA==",)
_STALE_BOUND = ("Cache-Control: max-age=30, must-revalidate", "Age: 60")
_AGED = (FRESH, "Age: 3000")


def _stale(name: str, clause: str, asked: str, *has: str) -> Case:
    """A stale response that the request welcomes; whether the origin is asked as well is left open."""
    given = answer(*STALE, body=b"stale")
    return case(
        name,
        clause,
        Exchange(origin=given),
        Exchange(lines=(f"Cache-Control: {asked}",), source=None, status=200, content=b"stale", has=has),
    )


CASES = [
    reuse("req-no-cache", "9111 5.2.1.4", FRESH, again=("Cache-Control: no-cache",), source=ORIGIN),
    reuse("req-no-cache-upper", "9111 5.2", FRESH, again=("Cache-Control: No-Cache",), source=ORIGIN),
    reuse("req-no-cache-among-others", "9111 5.2", FRESH, again=("Cache-Control: foo, no-cache",), source=ORIGIN),
    reuse("req-pragma", "9111 5.4", FRESH, again=("Pragma: no-cache",), source=ORIGIN),
    reuse("req-pragma-beside-cache-control", "9111 5.4", FRESH, again=("Pragma: no-cache", "Cache-Control: foo")),
    reuse("req-pragma-other", "9111 5.4", FRESH, again=("Pragma: foo",)),
    reuse("req-max-age-0", "9111 5.2.1.1", FRESH, again=("Cache-Control: max-age=0",), source=ORIGIN),
    reuse("req-max-age-below-age", "9111 5.2.1.1", *_AGED, again=("Cache-Control: max-age=1000",), source=ORIGIN),
    reuse("req-max-age-above-age", "9111 5.2.1.1", *_AGED, again=("Cache-Control: max-age=3500",)),
    reuse(
        "req-max-age-does-not-prolong", "9111 5.2.1.1", *STALE, again=("Cache-Control: max-age=9999",), source=ORIGIN
    ),
    reuse("req-min-fresh-too-much", "9111 5.2.1.3", *_AGED, again=("Cache-Control: min-fresh=1000",), source=ORIGIN),
    reuse("req-min-fresh-enough", "9111 5.2.1.3", *_AGED, again=("Cache-Control: min-fresh=100",)),
    _stale("req-max-stale-any", "9111 5.2.1.2", "max-stale"),
    _stale("req-max-stale-enough", "9111 5.2.1.2", "max-stale=1000"),
    _stale("req-max-stale-with-age", "9111 5.1", "max-stale", "Age: ~^6[01]$"),
    reuse("req-max-stale-too-little", "9111 5.2.1.2", *STALE, again=("Cache-Control: max-stale=10",), source=ORIGIN),
    reuse(
        "req-max-stale-must-revalidate",
        "9111 5.2.2.2",
        *_STALE_BOUND,
        again=("Cache-Control: max-stale",),
        source=ORIGIN,
    ),
    reuse(
        "req-max-stale-no-cache",
        "9111 5.2.2.4",
        "Cache-Control: max-age=30, no-cache",
        "Age: 60",
        'ETag: "v"',
        again=("Cache-Control: max-stale",),
        source=ORIGIN,
    ),
    reuse("req-unknown", "9111 5.2.3", FRESH, again=("Cache-Control: nothing-to-see-here",)),
    reuse("req-no-transform", "9111 5.2.1.6", FRESH, again=("Cache-Control: no-transform",)),
    reuse("req-no-store-is-not-stored", "9111 5.2.1.5", FRESH, first=("Cache-Control: no-store",), source=ORIGIN),
    case(
        "req-no-cache-stores-the-new",
        "9111 5.2.1.4",
        Exchange(origin=answer(FRESH)),
        Exchange(lines=("Cache-Control: no-cache",), origin=answer(FRESH)),
        Exchange(source=CACHE),
    ),
    case(
        "req-max-age-0-stores-the-new",
        "9111 5.2.1.1",
        Exchange(origin=answer(FRESH)),
        Exchange(lines=("Cache-Control: max-age=0",), origin=answer(FRESH)),
        Exchange(source=CACHE),
    ),
    case(
        "req-only-if-cached-miss",
        "9111 5.2.1.7",
        Exchange(lines=("Cache-Control: only-if-cached",), source=NOWHERE, status=504),
    ),
    case(
        "req-only-if-cached-hit",
        "9111 5.2.1.7",
        Exchange(origin=answer(FRESH)),
        Exchange(lines=("Cache-Control: only-if-cached",), source=CACHE),
    ),
    case(
        "req-only-if-cached-stale",
        "9111 5.2.1.7",
        Exchange(origin=answer(*STALE)),
        Exchange(lines=("Cache-Control: only-if-cached",), source=NOWHERE, status=504),
    ),
    _stale("req-only-if-cached-max-stale", "9111 5.2.1.7", "only-if-cached, max-stale"),
    case(
        "req-only-if-cached-leaves-nothing",
        "9111 5.2.1.7",
        Exchange(lines=("Cache-Control: only-if-cached",), source=NOWHERE, status=504),
        Exchange(origin=answer(FRESH)),
        Exchange(source=CACHE),
    ),
    case(
        "req-only-if-cached-head",
        "9111 5.2.1.7",
        Exchange(method="HEAD", lines=("Cache-Control: only-if-cached",), source=NOWHERE, status=504),
    ),
    # Credentials.
    reuse("auth-not-shared", "9111 3.5", FRESH, first=_AUTH, again=_AUTH, source=ORIGIN),
    reuse("auth-not-shared-with-nobody", "9111 3.5", FRESH, first=_AUTH, source=ORIGIN),
    reuse("auth-expires-not-shared", "9111 3.5", "Expires: {+3600}", first=_AUTH, again=_AUTH, source=ORIGIN),
    reuse("auth-empty-not-shared", "9111 3.5", FRESH, first=("Authorization:",), source=ORIGIN),
    reuse("auth-public", "9111 3.5", "Cache-Control: public, max-age=3600", first=_AUTH, again=_AUTH),
    reuse("auth-public-for-another", "9111 3.5", "Cache-Control: public, max-age=3600", first=_AUTH, again=_OTHER_AUTH),
    reuse("auth-s-maxage", "9111 3.5", "Cache-Control: s-maxage=3600", first=_AUTH, again=_OTHER_AUTH),
    reuse("auth-must-revalidate", "9111 3.5", "Cache-Control: max-age=3600, must-revalidate", first=_AUTH, again=_AUTH),
    reuse("auth-private", "9111 5.2.2.7", "Cache-Control: private, public, max-age=3600", first=_AUTH, source=ORIGIN),
    reuse("auth-no-store", "9111 5.2.2.5", "Cache-Control: public, no-store, max-age=3600", first=_AUTH, source=ORIGIN),
    reuse("auth-asks-for-what-is-public-already", "9111 3.5", FRESH, again=_AUTH),
    case(
        "auth-reaches-the-origin",
        "9110 11.6.2",
        Exchange(lines=_AUTH, origin=answer(FRESH), saw=("Authorization: Basic Zm9vOmJhcg==",)),
    ),
    case(
        "auth-s-maxage-stale",
        "9111 3.5",
        Exchange(lines=_AUTH, origin=answer("Cache-Control: s-maxage=30", "Age: 60")),
        Exchange(lines=_AUTH, origin=answer("Cache-Control: s-maxage=30")),
    ),
    reuse(
        "cookie-public",
        "9111 3.5",
        "Cache-Control: public, max-age=3600",
        first=("Cookie: a=b",),
        again=("Cookie: a=c",),
    ),
    reuse("cookie-asks-for-what-is-public-already", "9111 3", FRESH, again=("Cookie: a=b",)),
]
