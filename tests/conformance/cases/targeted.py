"""Targeted fields: CDN-Cache-Control and our own (RFC 9213)."""

from ..case import CACHE, FRESH, ORIGIN, STALE, TAG, VALIDATED, Case, Exchange, Source, answer, case, reuse, validated

_OWN = "Regioncache-Cache-Control"
_CDN = "CDN-Cache-Control"
_NOT_READ = {
    "string": 'max-age="3600"',
    "space-after-equals": "max-age= 3600",
    "name-in-capitals": "MAX-AGE=3600",
    "trailing-comma": "max-age=3600,",
    "no-comma": "max-age=3600 public",
    "nothing": "",
    "sign": "max-age=+3600",
    "semicolons-only": ";;;",
}


def _own(name: str, *lines: str, source: Source = CACHE) -> Case:
    """Our own field is obeyed, and given to nobody."""
    return case(
        f"own-{name}",
        "9213 2.2",
        Exchange(origin=answer(*lines), lacks=(_OWN,)),
        Exchange(origin=answer(*lines), source=source, lacks=(_OWN,)),
    )


CASES = [
    reuse("cdn-alone", "9213 2.2", f"{_CDN}: max-age=3600"),
    reuse("cdn-above-shorter", "9213 2.2", f"{_CDN}: max-age=3600", "Cache-Control: max-age=1", "Age: 10"),
    reuse("cdn-above-longer", "9213 2.2", f"{_CDN}: max-age=1", FRESH, "Age: 10", source=ORIGIN),
    reuse(
        "cdn-above-s-maxage", "9213 2.2", f"{_CDN}: max-age=1", "Cache-Control: s-maxage=3600", "Age: 10", source=ORIGIN
    ),
    reuse("cdn-above-expires-past", "9213 2.2", f"{_CDN}: max-age=3600", "Expires: {-60}"),
    reuse("cdn-above-expires-ahead", "9213 2.2", f"{_CDN}: public", "Expires: {+3600}", source=ORIGIN),
    reuse("cdn-above-no-store", "9213 2.2", f"{_CDN}: max-age=3600", "Cache-Control: no-store"),
    reuse("cdn-above-private", "9213 2.2", f"{_CDN}: max-age=3600", "Cache-Control: private"),
    reuse("cdn-above-no-cache", "9213 2.2", f"{_CDN}: max-age=3600", "Cache-Control: no-cache"),
    reuse("cdn-no-store", "9213 2.2", f"{_CDN}: no-store", FRESH, source=ORIGIN),
    reuse("cdn-private", "9213 2.2", f"{_CDN}: private", FRESH, source=ORIGIN),
    reuse("cdn-max-age-0", "9213 2.2", f"{_CDN}: max-age=0", FRESH, source=ORIGIN),
    reuse("cdn-s-maxage", "9213 2.2", f"{_CDN}: s-maxage=3600", "Cache-Control: no-store"),
    reuse("cdn-with-age", "9213 2.2", f"{_CDN}: max-age=30", "Age: 60", FRESH, source=ORIGIN),
    reuse("cdn-with-age-within", "9213 2.2", f"{_CDN}: max-age=3600", "Age: 60"),
    reuse("cdn-parameters-are-ignored", "9213 2.1", f"{_CDN}: max-age=3600;foo=bar", "Cache-Control: no-store"),
    reuse("cdn-unknown-directive", "9213 2.1", f"{_CDN}: foo, max-age=3600, bar=(1 2)", "Cache-Control: no-store"),
    reuse("cdn-last-of-equal-names", "9213 2.1", f"{_CDN}: max-age=1, max-age=3600", "Age: 10"),
    reuse("cdn-on-two-lines", "9213 2.1", f"{_CDN}: foo", f"{_CDN}: max-age=3600", "Cache-Control: no-store"),
    reuse("cdn-false-is-absent", "9213 2.1", f"{_CDN}: max-age=3600, no-store=?0", "Cache-Control: no-store"),
    reuse("cdn-field-name-any-case", "9110 5.1", "cdn-cache-control: max-age=3600", "Cache-Control: no-store"),
    reuse("cdn-must-understand", "9213 2.1", f"{_CDN}: must-understand, no-store, max-age=3600"),
    reuse("cdn-must-revalidate-stale", "9213 2.1", f"{_CDN}: max-age=30, must-revalidate", "Age: 60", source=ORIGIN),
    *(
        reuse(
            f"cdn-not-read-{name}", "9213 2.1", f"{_CDN}: {value}", "Cache-Control: max-age=1", "Age: 10", source=ORIGIN
        )
        for name, value in _NOT_READ.items()
    ),
    *(
        reuse(f"cdn-falls-back-{name}", "9213 2.1", f"{_CDN}: {value}", FRESH, "Age: 10")
        for name, value in _NOT_READ.items()
    ),
    case(
        "cdn-no-cache",
        "9213 2.2",
        Exchange(origin=answer(f"{_CDN}: no-cache", FRESH, TAG)),
        Exchange(origin=validated(FRESH, TAG), source=VALIDATED),
    ),
    case(
        "cdn-updated-by-a-304",
        "9111 3.2",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated(f"{_CDN}: max-age=3600", TAG), source=VALIDATED),
        Exchange(source=CACHE),
    ),
    case(
        "cdn-of-a-request-means-nothing",
        "9213 2",
        Exchange(origin=answer(FRESH)),
        Exchange(lines=(f"{_CDN}: no-cache",), source=CACHE),
    ),
    _own("alone", f"{_OWN}: max-age=3600"),
    _own("above-cache-control", f"{_OWN}: max-age=3600", "Cache-Control: no-store"),
    _own("above-cdn", f"{_OWN}: max-age=3600", f"{_CDN}: no-store"),
    _own("above-cdn-shorter", f"{_OWN}: max-age=1", f"{_CDN}: max-age=3600", "Age: 10", source=ORIGIN),
    _own("no-store", f"{_OWN}: no-store", f"{_CDN}: max-age=3600", FRESH, source=ORIGIN),
    _own("falls-back-to-cdn", f"{_OWN}: max-age= 1", f"{_CDN}: max-age=3600", "Cache-Control: no-store"),
    _own("falls-back-to-cache-control", f"{_OWN}:", FRESH),
    case(
        "own-leaves-the-others",
        "9213 2.2",
        Exchange(origin=answer(f"{_OWN}: max-age=3600", f"{_CDN}: max-age=7", FRESH)),
        Exchange(source=CACHE, has=(FRESH,), lacks=(_OWN,)),
    ),
    case(
        "own-not-in-a-304",
        "9213 2.2",
        Exchange(origin=answer(f"{_OWN}: max-age=3600", TAG)),
        Exchange(lines=('If-None-Match: "v1"',), source=CACHE, status=304, lacks=(_OWN,)),
    ),
]
