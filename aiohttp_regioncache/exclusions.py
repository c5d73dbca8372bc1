"""Which requests are never cached, where the operator or a site says so. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from .keys import QueryForm, Target, normalize_octets
from .patterns import PathPattern
from .semantics.cookies import cookie_values
from .semantics.fields import Headers, values


class Exclusions:
    """Find out whether a request is excluded.

    `paths` are patterns, `prefixes` what a path begins with, `extensions` those of its last segment in lower case and
    without the dot, `cookies` and `headers` names that a request carries, `query` parameters, `*` in them being
    anything. Raises `ValueError` for a pattern that cannot be read.
    """

    def __init__(
        self,
        *,
        paths: Iterable[str] = (),
        prefixes: Iterable[str] = (),
        extensions: Iterable[str] = (),
        cookies: Iterable[str] = (),
        headers: Iterable[str] = (),
        query: Iterable[str] = (),
    ) -> None:
        self._paths = [PathPattern(pattern) for pattern in paths]
        self._prefixes = tuple(normalize_octets(prefix) for prefix in prefixes)
        self._endings = tuple(f".{extension}" for extension in extensions)
        self._cookies = tuple(cookies)
        self.headers = tuple(headers)
        self._query = QueryForm(query)

    def cover(self, target: Target, headers: Headers) -> bool:
        """Whether a request for `target` with these fields is excluded."""
        return self._covers_path(target.path) or self._query.counts_out(target.query) or self._covers_fields(headers)

    def _covers_path(self, path: str) -> bool:
        if path.startswith(self._prefixes) or path.rpartition("/")[2].lower().endswith(self._endings):
            return True
        return any(pattern.match(path) is not None for pattern in self._paths)

    def _covers_fields(self, headers: Headers) -> bool:
        named = any(values(headers, name) for name in self.headers)
        return named or any(cookie_values(headers, name) for name in self._cookies)
