"""Stale responses: where the origin fails, and while it is asked (RFC 9111 section 4.2.4, RFC 5861)."""

from ..case import (
    CACHE,
    CUT,
    FRESH,
    INSTEAD,
    ORIGIN,
    REFRESHED,
    STALE,
    TAG,
    Answer,
    Case,
    Exchange,
    answer,
    case,
    validated,
)

_FAILED = (502, 503, 504)
_SIE = ("Cache-Control: max-age=30, stale-if-error=600", "Age: 60")
_SWR = ("Cache-Control: max-age=30, stale-while-revalidate=600", "Age: 60")


def _cut(name: str, clause: str, control: str, *lines: str, asked: tuple[str, ...] = ()) -> Case:
    """A response that must not be given stale, and an origin that breaks off."""
    return case(
        f"stale-forbidden-{name}",
        clause,
        Exchange(origin=answer(f"Cache-Control: {control}", "Age: 60", TAG, *lines)),
        Exchange(lines=asked, origin=CUT, source=None, status=_FAILED),
    )


def _error(name: str, status: int, *lines: str, source: object = INSTEAD, asked: tuple[str, ...] = ()) -> Case:
    """An origin that answers with an error where a response is stale."""
    instead = source is INSTEAD
    return case(
        f"stale-if-error-{name}",
        "5861 4",
        Exchange(origin=answer(*lines)),
        Exchange(lines=asked, origin=answer(status=status), source=INSTEAD if instead else ORIGIN),
    )


CASES = [
    case("stale-when-cut", "9111 4.2.4", Exchange(origin=answer(*STALE, TAG)), Exchange(origin=CUT, source=INSTEAD)),
    case(
        "stale-when-cut-without-validator",
        "9111 4.2.4",
        Exchange(origin=answer(*STALE)),
        Exchange(origin=CUT, source=INSTEAD),
    ),
    case(
        "stale-when-cut-tells-its-age",
        "9111 5.1",
        Exchange(origin=answer(*STALE)),
        Exchange(origin=CUT, source=INSTEAD, has=(r"Age: ~^6\d$",)),
    ),
    case(
        "stale-when-broken-off",
        "9111 4.2.4",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=Answer(broken=True), source=INSTEAD),
    ),
    case(
        "stale-when-cut-expires",
        "9111 4.2.4",
        Exchange(origin=answer("Expires: {-60}", TAG)),
        Exchange(origin=CUT, source=INSTEAD),
    ),
    case(
        "stale-when-cut-head",
        "9111 4.2.4",
        Exchange(origin=answer(*STALE)),
        Exchange(method="HEAD", origin=CUT, source=INSTEAD, content=b""),
    ),
    case(
        "stale-then-asked-again",
        "9111 4.2.4",
        Exchange(origin=answer(*STALE)),
        Exchange(origin=CUT, source=INSTEAD),
        Exchange(origin=answer(FRESH)),
        Exchange(source=CACHE),
    ),
    case(
        "cut-without-anything-stored",
        "9110 15.6.3",
        Exchange(origin=CUT, source=None, status=_FAILED),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "broken-off-is-not-stored",
        "9111 3.3",
        Exchange(origin=Answer(broken=True, lines=(FRESH,)), source=None, status=_FAILED),
        Exchange(origin=answer(FRESH)),
    ),
    _cut("must-revalidate", "9111 5.2.2.2", "max-age=30, must-revalidate"),
    _cut("proxy-revalidate", "9111 5.2.2.8", "max-age=30, proxy-revalidate"),
    _cut("s-maxage", "9111 5.2.2.10", "s-maxage=30"),
    _cut("no-cache", "9111 5.2.2.4", "max-age=3600, no-cache"),
    _cut("no-cache-stale", "9111 5.2.2.4", "max-age=30, no-cache"),
    _cut("by-the-request", "9111 5.2.1.4", "max-age=30", asked=("Cache-Control: no-cache",)),
    _cut("must-revalidate-with-stale-if-error", "9111 5.2.2.2", "max-age=30, must-revalidate, stale-if-error=600"),
    _cut("must-revalidate-with-swr", "9111 5.2.2.2", "max-age=30, must-revalidate, stale-while-revalidate=600"),
    # stale-if-error
    *(_error(str(status), status, *_SIE) for status in (500, 502, 503, 504)),
    _error("not-404", 404, *_SIE, source=ORIGIN),
    _error("not-403", 403, *_SIE, source=ORIGIN),
    _error("not-501", 501, *_SIE, source=ORIGIN),
    _error("too-old", 503, "Cache-Control: max-age=30, stale-if-error=10", "Age: 60", source=ORIGIN),
    _error(
        "must-revalidate",
        503,
        "Cache-Control: max-age=30, stale-if-error=600, must-revalidate",
        "Age: 60",
        source=ORIGIN,
    ),
    _error("no-cache", 503, "Cache-Control: no-cache, stale-if-error=600", TAG, source=ORIGIN),
    _error("asked-for", 503, *STALE, asked=("Cache-Control: stale-if-error=600",)),
    _error("asked-for-too-little", 503, *STALE, asked=("Cache-Control: stale-if-error=10",), source=ORIGIN),
    case("stale-if-error-when-cut", "5861 4", Exchange(origin=answer(*_SIE)), Exchange(origin=CUT, source=INSTEAD)),
    case(
        "stale-if-error-then-asked-again",
        "5861 4",
        Exchange(origin=answer(*_SIE)),
        Exchange(origin=answer(status=503), source=INSTEAD),
        Exchange(origin=answer(FRESH)),
        Exchange(source=CACHE),
    ),
    # stale-while-revalidate
    case(
        "swr",
        "5861 3",
        Exchange(origin=answer(*_SWR)),
        Exchange(origin=answer(FRESH), source=REFRESHED, content=b"swr 1"),
        Exchange(source=CACHE, content=b"swr 2"),
    ),
    case(
        "swr-validates",
        "5861 3",
        Exchange(origin=answer(*_SWR, TAG)),
        Exchange(origin=validated(FRESH, TAG), source=REFRESHED, saw=('If-None-Match: "v1"',)),
        Exchange(source=CACHE),
    ),
    case(
        "swr-too-old",
        "5861 3",
        Exchange(origin=answer("Cache-Control: max-age=30, stale-while-revalidate=10", "Age: 60")),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "swr-while-fresh",
        "5861 3",
        Exchange(origin=answer("Cache-Control: max-age=3600, stale-while-revalidate=600")),
        Exchange(source=CACHE),
    ),
    case(
        "swr-must-revalidate",
        "9111 5.2.2.2",
        Exchange(origin=answer("Cache-Control: max-age=30, stale-while-revalidate=600, must-revalidate", "Age: 60")),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "swr-no-cache",
        "9111 5.2.2.4",
        Exchange(origin=answer("Cache-Control: no-cache, stale-while-revalidate=600", TAG)),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "swr-s-maxage",
        "9111 5.2.2.10",
        Exchange(origin=answer("Cache-Control: s-maxage=30, stale-while-revalidate=600", "Age: 60")),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "swr-reload",
        "9111 5.2.1.4",
        Exchange(origin=answer(*_SWR)),
        Exchange(lines=("Cache-Control: no-cache",), origin=answer(FRESH)),
    ),
]
