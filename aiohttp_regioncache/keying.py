"""What of a read's request is in the keys of its path, where the operator says so. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .keys import QueryForm, Target
from .regions import Location
from .semantics.cookies import cookie_values
from .semantics.fields import Headers, values

COUNTRY: Final = "country"
"""The key part that is the user's country."""
KINDS: Final = ("header", "cookie", "query")
"""The key parts that are followed by a name: `header:NAME`."""
MAX_VALUE: Final = 256
"""Characters of the longest value that is part of a key as it is; of a longer one its hash is."""

Parts = tuple[tuple[str, str], ...]


class Keying:
    """Find out what of a request counts. `parts` as in `Rule.key`, `ignore_query` and `sort_query` as in `Cache`."""

    def __init__(self, parts: Sequence[str], *, ignore_query: Iterable[str], sort_query: bool) -> None:
        divided = [(part, *part.partition(":")[::2]) for part in parts]
        kept = [name for _, kind, name in divided if kind == "query"]
        self._query = QueryForm(ignore_query, kept, sort=sort_query)
        self._parts = [each for each in divided if each[1] != "query"]

    def target(self, target: Target) -> Target:
        """The target as keys see it."""
        query = self._query.of(target.query)
        return target if query == target.query else Target(target.scheme, target.host, target.path, query)

    def parts(self, headers: Headers, country: Callable[[], str]) -> Parts:
        """The further parts of the keys by their name; `headers` are those of the request.

        What the request does not have is left out; what it has twice is there twice. `country` is asked where it
        counts.
        """
        found: list[tuple[str, str]] = []
        for part, kind, name in self._parts:
            found += [_bounded(part, value) for value in _values(kind, name, headers, country)]
        return tuple(found)


def country_part(location: Location, headers: Headers, country_headers: Iterable[str]) -> str:
    """The country of a request as a part of keys: a code, or empty when nothing is said of it.

    What says so without being believed is kept apart, behind a question mark: a handler may believe it.
    """
    if location.country is not None:
        return location.country
    claims = [value for name in country_headers for value in values(headers, name)]
    return f"?{','.join(claims)}" if claims else ""


def _values(kind: str, name: str, headers: Headers, country: Callable[[], str]) -> list[str]:
    if kind == COUNTRY:
        return [country()]
    if kind == "header":
        return values(headers, name)
    return cookie_values(headers, name)


def _bounded(part: str, value: str) -> tuple[str, str]:
    if len(value) <= MAX_VALUE:
        return part, value
    # Under another name, so that no value that is a hash already reads the same.
    return f"{part}#", hashlib.blake2b(value.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
