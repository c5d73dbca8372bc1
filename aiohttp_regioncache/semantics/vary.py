"""Which request fields select a response, and their values in the key (RFC 9110 12.5.5, RFC 9111 4.1)."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from .fields import OWS, Headers, first, split_list, values
from .qualities import preferred, qualities, ranked

# RFC 9110 12.5.2 to 12.5.4: ranges whose case, white space and place among equals mean nothing.
_WEIGHTED = frozenset({"accept-charset", "accept-encoding", "accept-language"})
# The codings of the HTTP Content Coding Registry: what else clients name is not remembered.
_CODINGS = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "identity", "pack200-gzip", "zstd"}
)
_MOST_KNOWN = 16
_SHORT = 256


class Known(NamedTuple):
    """What the responses of a resource have shown of the fields that they vary on.

    `languages`: the Accept-Language, as it stands in the key, that a response of each Content-Language was chosen by.
    `offered`: the codings that clients have accepted so far; `used`: those among them that responses came in.
    """

    languages: tuple[tuple[str, str], ...] = ()
    offered: tuple[str, ...] = ()
    used: tuple[str, ...] = ()


NOTHING_KNOWN = Known()


def vary_names(headers: Headers) -> tuple[str, ...] | None:
    """Return the request fields that Vary names, lower-case, sorted, unique; None when `*` is among them."""
    return _named(values(headers, "vary"))


def _named(lines: Sequence[str]) -> tuple[str, ...] | None:
    if not lines:
        return ()
    listed = (name.strip(OWS).lower() for line in lines for name in line.split(","))
    names = {name for name in listed if name}
    return None if "*" in names else tuple(sorted(names))


def selecting_names(response_headers: Headers) -> tuple[str, ...] | None:
    """Return the request fields that select a response: those of Vary, and Accept-Encoding for a coded one.

    `Regioncache-Vary` tells this cache alone, and then `Vary` those behind it. A coded body must not reach who does not
    accept it, also when the origin forgot to say so (RFC 9110 12.5.3).
    """
    targeted = values(response_headers, "regioncache-vary")
    names = _named(targeted) if targeted else vary_names(response_headers)
    if names is None or targeted or not coding_of(response_headers):
        return names
    return tuple(sorted({*names, "accept-encoding"}))


def coding_of(response_headers: Headers) -> str:
    """Return the content coding of a response in lower case; empty for identity."""
    lines = values(response_headers, "content-encoding")
    value = ", ".join(split_list(", ".join(lines).lower())) if lines else ""
    return "" if value == "identity" else value


def selecting(headers: Headers, names: Sequence[str], known: Known = NOTHING_KNOWN) -> list[tuple[str, str]]:
    """Return the selecting fields of a request, in the order of `names`, normalised for the key.

    Lines are combined and white space around list commas collapses (RFC 9111 4.1); weighted lists come in their order
    of preference, without what `known` shows to make no difference. A field that is missing is left out, so that it
    differs from an empty one.
    """
    lines: dict[str, list[str]] = {name.lower(): [] for name in names}
    for name, value in headers:
        if (found := lines.get(name.lower())) is not None:
            found.append(value)
    return [(name, _normalised(name, found, known)) for name, found in lines.items() if found]


def _normalised(name: str, lines: list[str], known: Known) -> str:
    if name not in _WEIGHTED:
        return ", ".join(element for line in lines for element in split_list(line))
    is_short = sum(map(len, lines)) <= _SHORT
    return (_by_preference if is_short else _by_preference.__wrapped__)(name, tuple(lines), known)


@functools.lru_cache(maxsize=1024)  # browsers send the same few all the time
def _by_preference(name: str, lines: tuple[str, ...], known: Known) -> str:
    weights = qualities(lines)
    if name == "accept-encoding":
        return ranked(_that_matter(weights, known))
    value = ranked(weights)
    if name == "accept-language" and known.languages:
        return dict(known.languages).get(preferred(weights) or "", value)
    return value


def _that_matter(weights: dict[str, float], known: Known) -> dict[str, float]:
    # A coding that the origin had on offer before and did not use changes nothing.
    idle = set(known.offered).difference(known.used)
    return {name: weight for name, weight in weights.items() if not (weight and name in idle)}


def learn(known: Known, names: Sequence[str], request_headers: Headers, response_headers: Headers) -> Known:
    """Return what is known of a resource after one more of its responses, which varies on `names`; bounded."""
    languages, offered, used = known
    if "accept-language" in names:
        languages = _languages(known, values(request_headers, "accept-language"), response_headers)
    if "accept-encoding" in names:
        weights = qualities(values(request_headers, "accept-encoding"))
        used = tuple(dict.fromkeys([*used, *split_list(coding_of(response_headers))]))
        accepted = (name for name, weight in weights.items() if weight and name in _CODINGS)
        offered = tuple(dict.fromkeys([*offered, *accepted]))
    # What is no longer all known must not make a coding that is used look idle.
    return Known(languages, offered, used) if len(used) <= _MOST_KNOWN else Known(languages)


def is_as_known(known: Known, names: Sequence[str], request_headers: Headers, response_headers: Headers) -> bool:
    """Tell whether a response that varies on `names`, found by what is known, is in the language that is preferred.

    It is not where the origin has changed its mind since, and what it said last was not the last to be noted.
    """
    if not known.languages or "accept-language" not in names:
        return True
    wanted = preferred(qualities(values(request_headers, "accept-language")))
    return wanted == _language(response_headers) or wanted not in dict(known.languages)


def _language(response_headers: Headers) -> str:
    return (first(response_headers, "content-language") or "").strip(OWS).lower()


def _languages(known: Known, asked: list[str], response_headers: Headers) -> tuple[tuple[str, str], ...]:
    weights = qualities(asked)
    language = _language(response_headers)
    found = dict(known.languages)
    if (wanted := preferred(weights)) and wanted != language:
        found.pop(wanted, None)  # the origin has it no more
    if asked:
        # Whatever was chosen by the same list before is there no more.
        by = ranked(weights)
        found = {name: other for name, other in found.items() if name != language and other != by}
        if language and "," not in language and len(by) <= _SHORT:
            found[language] = by
    return tuple(found.items())[-_MOST_KNOWN:]
