"""Which of several stored responses answers a request (RFC 9111 section 4.1, RFC 9110 section 12.5.5)."""

from ..case import CACHE, FRESH, ORIGIN, VALIDATED, Case, Exchange, answer, case, reuse, validated


def _same(name: str, clause: str, field: str, one: tuple[str, ...], other: tuple[str, ...]) -> Case:
    """Two requests that select the same response."""
    return reuse(name, clause, FRESH, f"Vary: {field}", first=one, again=other)


def _differ(name: str, field: str, one: tuple[str, ...], other: tuple[str, ...]) -> Case:
    """Two requests that select different responses, which are both kept."""
    given = answer(FRESH, f"Vary: {field}")
    return case(
        name,
        "9111 4.1",
        Exchange(lines=one, origin=given),
        Exchange(lines=other, origin=given),
        Exchange(lines=other, source=CACHE),
    )


def _never(name: str, *lines: str) -> Case:
    return reuse(name, "9111 4.1", FRESH, *lines, source=ORIGIN)


_BY_LANGUAGE = "Vary: Accept-Language"

CASES = [
    _same("vary-match", "9111 4.1", "X-A", ("X-A: 1",), ("X-A: 1",)),
    _same("vary-both-absent", "9111 4.1", "X-A", (), ()),
    _same("vary-other-field-differs", "9111 4.1", "X-A", ("X-A: 1", "X-B: 1"), ("X-A: 1", "X-B: 2")),
    _same("vary-field-name-any-case", "9110 5.1", "x-a", ("X-A: 1",), ("x-A: 1",)),
    _same("vary-two-match", "9111 4.1", "X-A, X-B", ("X-A: 1", "X-B: 2"), ("X-B: 2", "X-A: 1")),
    _same("vary-lines-combined", "9111 4.1", "X-A", ("X-A: 1", "X-A: 2"), ("X-A: 1, 2",)),
    _same("vary-space-around-commas", "9111 4.1", "X-A", ("X-A: 1,2",), ("X-A: 1 ,  2",)),
    _same("vary-space-around-value", "9111 4.1", "X-A", ("X-A: 1",), ("X-A:   1  ",)),
    _same("vary-repeated-name", "9110 12.5.5", "X-A, x-a", ("X-A: 1",), ("X-A: 1",)),
    _same("vary-empty-elements", "9110 5.6.1", ", X-A,,", ("X-A: 1",), ("X-A: 1",)),
    _same("vary-language-case", "9110 12.5.4", "Accept-Language", ("Accept-Language: EN",), ("Accept-Language: en",)),
    _same(
        "vary-language-space", "9111 4.1", "Accept-Language", ("Accept-Language: en,de",), ("Accept-Language: en, de",)
    ),
    _same(
        "vary-language-order",
        "9111 4.1",
        "Accept-Language",
        ("Accept-Language: en;q=0.5, de",),
        ("Accept-Language: de, en;q=0.5",),
    ),
    _same(
        "vary-language-quality-spelt-otherwise",
        "9111 4.1",
        "Accept-Language",
        ("Accept-Language: de;q=1, en;q=0.5",),
        ("Accept-Language: de, en; q=0.500",),
    ),
    _same(
        "vary-encoding-order",
        "9111 4.1",
        "Accept-Encoding",
        ("Accept-Encoding: gzip, br",),
        ("Accept-Encoding: br, gzip",),
    ),
    _same(
        "vary-encoding-case", "9110 12.5.3", "Accept-Encoding", ("Accept-Encoding: GZip",), ("Accept-Encoding: gzip",)
    ),
    _same(
        "vary-encoding-space",
        "9111 4.1",
        "Accept-Encoding",
        ("Accept-Encoding: gzip,br",),
        ("Accept-Encoding: gzip , br",),
    ),
    _same("vary-host", "9111 4.1", "Host", (), ()),
    _differ("vary-differs", "X-A", ("X-A: 1",), ("X-A: 2",)),
    _differ("vary-absent-then-present", "X-A", (), ("X-A: 1",)),
    _differ("vary-present-then-absent", "X-A", ("X-A: 1",), ()),
    _differ("vary-empty-is-not-absent", "X-A", (), ("X-A:",)),
    _differ("vary-value-case-counts", "X-A", ("X-A: a",), ("X-A: A",)),
    _differ("vary-value-order-counts", "X-A", ("X-A: a, b",), ("X-A: b, a",)),
    _differ("vary-second-differs", "X-A, X-B", ("X-A: 1", "X-B: 1"), ("X-A: 1", "X-B: 2")),
    _differ("vary-values-swapped", "X-A, X-B", ("X-A: 1", "X-B: 2"), ("X-A: 2", "X-B: 1")),
    _differ("vary-quoted-comma", "X-A", ('X-A: "a,b"',), ('X-A: "a, b"',)),
    _differ("vary-language-differs", "Accept-Language", ("Accept-Language: de",), ("Accept-Language: en",)),
    _differ(
        "vary-language-quality-differs",
        "Accept-Language",
        ("Accept-Language: de, en;q=0.5",),
        ("Accept-Language: en, de;q=0.5",),
    ),
    _differ("vary-encoding-differs", "Accept-Encoding", ("Accept-Encoding: gzip",), ("Accept-Encoding: br",)),
    _differ(
        "vary-encoding-quality-0",
        "Accept-Encoding",
        ("Accept-Encoding: gzip",),
        ("Accept-Encoding: gzip;q=0, identity",),
    ),
    _never("vary-star", "Vary: *"),
    _never("vary-star-first", "Vary: *, X-A"),
    _never("vary-star-last", "Vary: X-A, *"),
    _never("vary-star-twice", "Vary: *, *"),
    _never("vary-star-after-empty", "Vary: , *"),
    _never("vary-star-on-another-line", "Vary: X-A", "Vary: *"),
    _never("vary-star-after-an-empty-line", "Vary:", "Vary: *"),
    case(
        "vary-variants-are-all-kept",
        "9111 4.1",
        *(Exchange(lines=(f"X-A: {n}",), origin=answer(FRESH, "Vary: X-A", body=b"%d" % n)) for n in (1, 2, 3)),
        *(Exchange(lines=(f"X-A: {n}",), source=CACHE, content=b"%d" % n) for n in (1, 2, 3)),
    ),
    case(
        "vary-on-two-lines",
        "9110 5.3",
        Exchange(lines=("X-A: 1", "X-B: 1"), origin=answer(FRESH, "Vary: X-A", "Vary: X-B")),
        Exchange(lines=("X-A: 1", "X-B: 2"), origin=answer(FRESH, "Vary: X-A", "Vary: X-B")),
        Exchange(lines=("X-A: 1", "X-B: 2"), source=CACHE),
    ),
    case(
        "vary-validates-the-variant-asked-for",
        "9111 4.3.1",
        Exchange(lines=("X-A: 1",), origin=answer("Cache-Control: max-age=1", "Age: 9", "Vary: X-A", 'ETag: "a1"')),
        Exchange(
            lines=("X-A: 1",),
            origin=validated(FRESH, "Vary: X-A", 'ETag: "a1"'),
            source=VALIDATED,
            saw=('If-None-Match: "a1"',),
        ),
        Exchange(lines=("X-A: 1",), source=CACHE),
    ),
    reuse("vary-is-given-on", "9110 12.5.5", FRESH, "Vary: X-A", has=("Vary: X-A",)),
    case(
        "vary-language-of-another-is-not-given",
        "9111 4.1",
        Exchange(lines=("Accept-Language: fr, de;q=0.5",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: de")),
        Exchange(
            lines=("Accept-Language: fr",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: fr", body=b"fr")
        ),
        Exchange(
            lines=("Accept-Language: en",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: en", body=b"en")
        ),
        Exchange(lines=("Accept-Language: fr",), source=CACHE, content=b"fr"),
        Exchange(lines=("Accept-Language: en",), source=CACHE, content=b"en"),
    ),
    case(
        "vary-language-none-asked-for",
        "9111 4.1",
        Exchange(origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: de")),
        Exchange(lines=("Accept-Language: en",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: en")),
        Exchange(lines=("Accept-Language: *",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: fr")),
    ),
    case(
        "vary-language-refused",
        "9110 12.5.4",
        Exchange(lines=("Accept-Language: de, en;q=0.5",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: de")),
        Exchange(lines=("Accept-Language: de;q=0, en",), origin=answer(FRESH, _BY_LANGUAGE, "Content-Language: en")),
    ),
]
