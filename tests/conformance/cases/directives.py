"""Cache-Control of responses: how it is read, and what each directive means (RFC 9111 section 5.2)."""

from ..case import CACHE, FRESH, ORIGIN, STALE, TAG, VALIDATED, Exchange, answer, case, reuse, validated

_AGED = "Age: 10"
_READ = {
    "any-case": "MaX-aGe=3600",
    "quoted": 'max-age="3600"',
    "leading-zeros": "max-age=0003600",
    "unknown-before": "foo, max-age=3600",
    "unknown-after": "max-age=3600, foo=bar",
    "unknown-quoted-list": 'foo="a, max-age=0, b", max-age=3600',
    "unknown-quoted-name": 'foo="no-store", max-age=3600',
    "unknown-quoted-escape": r'foo="\"no-store, x", max-age=3600',
    "empty-elements": ",, max-age=3600, ,",
    "tabs": "\tfoo\t,\tmax-age=3600",
    "no-spaces": "foo,max-age=3600,bar",
    "prefix-is-no-directive": "xno-store, max-age=3600",
    "suffix-is-no-directive": "no-store-x, max-age=3600",
}
_INVALID = {
    "negative": "max-age=-3600",
    "decimal": "max-age=3600.0",
    "letters": "max-age=a3600",
    "letters-after": "max-age=3600a",
    "space-after-equals": "max-age= 3600",
    "single-quotes": "max-age='3600'",
    "no-argument": "max-age",
    "empty-argument": "max-age=",
    "plus": "max-age=+3600",
    "hexadecimal": "max-age=0xE10",
}
_NOT_STORED = {
    "no-store": "no-store",
    "no-store-upper": "NO-STORE",
    "no-store-fresh": "no-store, max-age=3600",
    "no-store-after": "max-age=3600, no-store",
    "no-store-public": "public, no-store, max-age=3600",
    "no-store-with-argument": "no-store=foo, max-age=3600",
    "private": "private, max-age=3600",
    "private-upper": "PRIVATE, max-age=3600",
    "private-s-maxage": "private, s-maxage=3600",
    "private-public": "private, public, max-age=3600",
    "must-understand-unknown": "must-understand, no-store, max-age=3600",
}
_NEVER_UNVALIDATED = {
    "no-cache": "no-cache, max-age=3600",
    "no-cache-upper": "No-CaChE, max-age=3600",
    "no-cache-alone": "no-cache",
    "no-cache-s-maxage": "no-cache, s-maxage=3600",
}
CASES = [
    *(reuse(f"cc-{name}", "9111 5.2", f"Cache-Control: {value}", _AGED) for name, value in _READ.items()),
    *(
        reuse(f"cc-invalid-{name}", "9111 4.2.1", f"Cache-Control: {value}", source=ORIGIN)
        for name, value in _INVALID.items()
    ),
    *(
        reuse(
            f"cc-{name}",
            "9111 3",
            f"Cache-Control: {value}",
            status=299 if "understand" in name else 200,
            source=ORIGIN,
        )
        for name, value in _NOT_STORED.items()
    ),
    *(
        case(
            f"cc-{name}",
            "9111 5.2.2.4",
            Exchange(origin=answer(f"Cache-Control: {value}", TAG)),
            Exchange(origin=validated(f"Cache-Control: {value}"), source=VALIDATED),
            Exchange(origin=answer(f"Cache-Control: {value}")),
        )
        for name, value in _NEVER_UNVALIDATED.items()
    ),
    reuse("cc-two-lines", "9110 5.3", "Cache-Control: foo", "Cache-Control: max-age=3600"),
    reuse("cc-two-lines-no-store", "9110 5.3", FRESH, "Cache-Control: no-store", source=ORIGIN),
    reuse("cc-field-name-in-odd-case", "9110 5.1", "cAcHe-CoNtRoL: max-age=3600"),
    reuse("cc-conflicting-one-line", "9111 4.2.1", "Cache-Control: max-age=1800, max-age=1", _AGED, source=ORIGIN),
    reuse("cc-conflicting-two-lines", "9111 4.2.1", FRESH, "Cache-Control: max-age=1", _AGED, source=ORIGIN),
    reuse("cc-conflicting-s-maxage", "9111 4.2.1", "Cache-Control: s-maxage=9999, s-maxage=1", _AGED, source=ORIGIN),
    reuse("cc-repeated-alike", "9111 4.2.1", FRESH, FRESH, _AGED),
    reuse("cc-max-age-in-quotes-is-none", "9111 5.2", 'Cache-Control: foo="max-age=3600"', source=ORIGIN),
    reuse("cc-public-without-freshness", "9111 5.2.2.9", "Cache-Control: public", source=ORIGIN),
    reuse("cc-must-understand", "9111 5.2.2.3", "Cache-Control: must-understand, no-store, max-age=3600"),
    reuse("cc-must-understand-fresh", "9111 5.2.2.3", "Cache-Control: must-understand, max-age=3600"),
    reuse(
        "cc-must-understand-unknown-status",
        "9111 5.2.2.3",
        "Cache-Control: must-understand, max-age=3600",
        status=299,
        source=ORIGIN,
    ),
    reuse("cc-must-revalidate-while-fresh", "9111 5.2.2.2", "Cache-Control: max-age=3600, must-revalidate"),
    reuse("cc-proxy-revalidate-while-fresh", "9111 5.2.2.8", "Cache-Control: max-age=3600, proxy-revalidate"),
    reuse("cc-immutable-while-fresh", "8246 2", "Cache-Control: max-age=3600, immutable"),
    reuse("cc-immutable-stale", "8246 2", "Cache-Control: max-age=30, immutable", "Age: 60", source=ORIGIN),
    reuse("cc-immutable-alone", "8246 2", "Cache-Control: immutable", source=ORIGIN),
    reuse("cc-no-transform", "9111 5.2.2.6", "Cache-Control: max-age=3600, no-transform"),
    case(
        "cc-no-store-keeps-nothing-for-later",
        "9111 5.2.2.5",
        Exchange(origin=answer("Cache-Control: no-store", TAG)),
        Exchange(origin=answer(FRESH), saw_not=("If-None-Match",)),
        Exchange(source=CACHE),
    ),
    case(
        "cc-private-keeps-nothing-for-later",
        "9111 5.2.2.7",
        Exchange(origin=answer("Cache-Control: private, max-age=3600", TAG)),
        Exchange(origin=answer(FRESH), saw_not=("If-None-Match",)),
        Exchange(source=CACHE),
    ),
    # The qualified forms: the response may be reused, what is listed may not.
    case(
        "cc-no-cache-qualified",
        "9111 5.2.2.4",
        Exchange(origin=answer('Cache-Control: max-age=3600, no-cache="x-a"', "X-A: 1", "X-B: 2"), has=("X-A: 1",)),
        Exchange(source=CACHE, has=("X-B: 2",), lacks=("X-A",)),
    ),
    case(
        "cc-no-cache-qualified-several",
        "9111 5.2.2.4",
        Exchange(origin=answer('Cache-Control: max-age=3600, no-cache="X-A, x-c"', "X-A: 1", "X-B: 2", "X-C: 3")),
        Exchange(source=CACHE, has=("X-B: 2",), lacks=("X-A", "X-C")),
    ),
    case(
        "cc-no-cache-qualified-and-not",
        "9111 5.2.2.4",
        Exchange(origin=answer('Cache-Control: max-age=3600, no-cache="x-a", no-cache', "X-A: 1")),
        Exchange(origin=answer(FRESH)),
    ),
    case(
        "cc-private-qualified",
        "9111 5.2.2.7",
        Exchange(origin=answer('Cache-Control: max-age=3600, private="x-a"', "X-A: 1", "X-B: 2"), has=("X-A: 1",)),
        Exchange(source=CACHE, has=("X-B: 2",), lacks=("X-A",)),
    ),
    case(
        "cc-private-qualified-several",
        "9111 5.2.2.7",
        Exchange(origin=answer('Cache-Control: max-age=3600, private="X-A, X-C"', "X-A: 1", "X-C: 3", "X-B: 2")),
        Exchange(source=CACHE, has=("X-B: 2",), lacks=("X-A", "X-C")),
    ),
    # Fields that mean nothing in a response, or nothing any more.
    reuse("pragma-in-a-response", "9111 5.4", FRESH, "Pragma: no-cache"),
    reuse("warning-stays", "9111 5.5", FRESH, 'Warning: 199 - "x"', has=('Warning: 199 - "x"',)),
    case(
        "cc-stored-directives-given-on",
        "9111 5.2",
        Exchange(origin=answer('Cache-Control: max-age=3600, foo="a, b"')),
        Exchange(source=CACHE, has=('Cache-Control: max-age=3600, foo="a, b"',)),
    ),
    case(
        "cc-updated-by-a-304",
        "9111 4.3.4",
        Exchange(origin=answer(*STALE, TAG)),
        Exchange(origin=validated("Cache-Control: no-store", TAG), source=VALIDATED),
        Exchange(origin=answer(FRESH)),
    ),
]
