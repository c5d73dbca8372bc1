"""Patterns of paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .keys import normalize_octets

_PARAMETER: Final = re.compile(r"\{([A-Za-z_]\w*)(?::((?:[^{}]|\{\d*,?\d*\})*))?\}|\*\*|\*")


class PathPattern:
    """A pattern of paths: `{name}` or `*` is one segment (or part of one), `**` and `{name:.*}` anything.

    What is literal in it may be written as it reads or percent-encoded; paths are matched in their normal form.
    `head` is what every path begins with that the pattern covers. Raises `ValueError` for a pattern that does not
    begin with a slash or cannot be read.
    """

    def __init__(self, pattern: str) -> None:
        if not pattern.startswith("/") and not pattern.startswith("**"):
            raise ValueError(f"{pattern!r} does not begin with a slash")
        if not {".", ".."}.isdisjoint(pattern.split("/")):
            raise ValueError(f"{pattern!r} has a dot segment, which no path keeps")
        self.pattern = pattern = _normal(pattern)
        self.head = _PARAMETER.split(pattern, maxsplit=1)[0]
        self.names = frozenset(match[1] for match in _PARAMETER.finditer(pattern) if match[1])
        try:
            self._regex = re.compile(self._translate(pattern))
        except re.error as error:
            raise ValueError(f"{pattern!r} cannot be read: {error}") from None

    @staticmethod
    def _translate(pattern: str) -> str:
        found = list(_PARAMETER.finditer(pattern))
        ends = [*(match.start() for match in found), len(pattern)]
        parts = [re.escape(pattern[: ends[0]])]
        for at, match in enumerate(found):
            literal = re.escape(pattern[match.end() : ends[at + 1]])
            following = found[at + 1][0] if at + 1 < len(found) else ""
            parts.append(_wildcard(match, literal, following))
        return "".join(parts)

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters of a path that the pattern covers; None for one that it does not."""
        found = self._regex.fullmatch(path)
        return found.groupdict() if found else None

    def lies_under(self, prefix: str) -> bool:
        """Whether every path that the pattern covers is `prefix` or lies under it."""
        start = f"{self.head}/" if self.head == self.pattern else self.head
        return start.startswith(prefix + "/")

    @property
    def plain(self) -> str:
        """The pattern with its parameters by name alone: two that read the same here are the same path segment."""
        return _PARAMETER.sub(lambda match: "{" + match[1] + "}" if match[1] else match[0], self.pattern)

    def fill(self, parameters: Mapping[str, str]) -> str:
        """Make the path of these parameters."""
        return _PARAMETER.sub(lambda match: parameters[match[1]], self.pattern)


_WILD: Final = {"*": "[^/]*", "**": ".*"}


def _wildcard(match: re.Match[str], literal: str, following: str) -> str:
    """A parameter and the literal behind it, as a regular expression."""
    wild = _WILD.get(match[0])
    if wild is None:
        return f"(?P<{match[1]}>{match[2] or '[^/]+'}){literal}"
    # What follows is at least as wide, so the first place of the literal is as good as any: nothing is tried twice.
    if literal and following in _WILD and len(following) >= len(match[0]):
        return f"(?>{wild}?{literal})"
    return f"{wild}{literal}"


def _normal(pattern: str) -> str:
    """A pattern with the normal form of what is literal in it."""
    parts: list[str] = []
    end = 0
    for match in _PARAMETER.finditer(pattern):
        parts += (_literal(pattern, end, match.start()), match[0])
        end = match.end()
    return "".join((*parts, _literal(pattern, end, len(pattern))))


def _literal(pattern: str, start: int, end: int) -> str:
    text = pattern[start:end]
    if "{" in text or "}" in text:
        raise ValueError(f"{pattern!r} has a brace that is no parameter")
    return normalize_octets(text)
