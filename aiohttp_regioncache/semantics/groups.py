"""The groups that responses belong to and that others invalidate (RFC 9875, and the fields that came before it)."""

from collections.abc import Iterable

from .fields import OWS, Headers, combined, names_any, values
from .methods import invalidates
from .structured import parse_strings

MAX_TAGS = 128
"""Tags of a response, and groups that one answer invalidates, at most (RFC 9875 asks for at least 32)."""
MAX_TAG = 128
"""Characters of the longest tag (RFC 9875 asks for at least 32)."""
_NAMED_BY = frozenset({"cache-groups", "cache-tag", "surrogate-key"})
MORE_TAGS = ""
"""Stands among the tags of a response that has more of them than are kept: any purge by tag covers it."""


def response_tags(headers: Headers) -> tuple[str, ...]:
    """Return the tags of a response: its `Cache-Groups`, `Cache-Tag` and `Surrogate-Key` together, in order.

    They are case-sensitive (RFC 9875 2.1). Beyond `MAX_TAGS`, longer than `MAX_TAG` or unreadable ones are
    kept as `MORE_TAGS`.
    """
    if not names_any(headers, _NAMED_BY):
        return ()
    found = dict.fromkeys((*_strings(headers, "cache-groups"), *_listed(headers), *_spaced(headers)))
    kept = [tag for tag in found if _is_kept(tag)]
    if len(kept) == len(found) <= MAX_TAGS:
        return tuple(kept)
    return (*kept[: MAX_TAGS - 1], MORE_TAGS)


def invalidated_groups(method: str, status: int, headers: Headers) -> tuple[str, ...]:
    """Return the groups that an answer invalidates, at most `MAX_TAGS`: `Cache-Group-Invalidation` (RFC 9875 3).

    None after a safe method or an error.
    """
    if not invalidates(method, status):
        return ()
    named = dict.fromkeys(_strings(headers, "cache-group-invalidation"))
    return tuple(tag for tag in named if _is_kept(tag))[:MAX_TAGS]


def _strings(headers: Headers, name: str) -> Iterable[str]:
    value = combined(headers, name)
    return () if value is None else filter(None, parse_strings(value) or ())


def _listed(headers: Headers) -> Iterable[str]:
    pieces = (piece.strip(OWS) for value in values(headers, "cache-tag") for piece in value.split(","))
    return filter(None, pieces)


def _spaced(headers: Headers) -> Iterable[str]:
    return (piece for value in values(headers, "surrogate-key") for piece in value.split())


def _is_kept(tag: str) -> bool:
    return len(tag) <= MAX_TAG and not any("\ud800" <= letter <= "\udfff" for letter in tag)
