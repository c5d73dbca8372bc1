"""Conditional requests and validation (RFC 9110 13 and 15.4.5, RFC 9111 3.2 and 4.3)."""

import re

from .dates import parse_date
from .fields import Headers, combined, end_to_end, first, remove, split_list, values

precondition_fields: frozenset[str] = frozenset(
    {"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"}
)
"""Lower-case names of the conditional request fields (RFC 9110 13.1)."""

ORIGIN_PRECONDITIONS: frozenset[str] = frozenset({"if-match", "if-unmodified-since"})
"""Those that only the origin evaluates; a cache forwards requests that carry them (RFC 9111 4.3.2)."""

NOT_MODIFIED_DROPS: frozenset[str] = frozenset(
    {"content-encoding", "content-language", "content-length", "content-range", "content-type"}
)
"""Lower-case names of the representation metadata that a 304 leaves out (RFC 9110 15.4.5)."""

_NOT_UPDATED = frozenset({"content-encoding", "content-length", "content-range", "set-cookie"})
_OF_THE_MESSAGE = frozenset({"age", "date"})
_READS = frozenset({"GET", "HEAD"})
_CONDITIONAL = frozenset({200, 206})  # RFC 9111 4.3.2
_ENTITY_TAG = re.compile(r'(W/)?("[^"\x00-\x20\x7f]*+")')
_LISTED_TAG = re.compile(r'(?:^|,)[ \t]*+(W/)?("[^"\x00-\x20\x7f]*+")(?=[ \t]*+(?:,|$))')


def not_modified(
    method: str,
    request_headers: Headers,
    response_status: int,
    response_headers: Headers,
    *,
    response_time: float | None = None,
) -> bool:
    """Tell whether a stored response answers a conditional request with 304 (RFC 9110 13.2.2).

    If-None-Match decides alone where it is present. If-Modified-Since is compared with Last-Modified, else
    Date, else `response_time` (epoch seconds; RFC 9111 4.3.2). The preconditions that only the origin may
    evaluate are ignored.
    """
    if method not in _READS or response_status not in _CONDITIONAL:
        return False
    condition = combined(request_headers, "if-none-match")
    if condition is not None:
        return etag_matches(condition, first(response_headers, "etag"))
    dates = values(request_headers, "if-modified-since")
    if len(dates) != 1:  # RFC 9110 13.1.3: more than one member is no valid date
        return False
    since = parse_date(dates[0])
    modified = _modification_time(response_headers, response_time)
    return since is not None and modified is not None and modified <= since


def _modification_time(headers: Headers, response_time: float | None) -> float | None:
    value = first(headers, "last-modified") or first(headers, "date")
    return response_time if value is None else parse_date(value)


def etag_matches(condition: str, etag: str | None, *, weak: bool = True) -> bool:
    """Tell whether an entity tag is among those of If-Match or If-None-Match; `*` matches any, even None.

    The comparison is weak, or strong with `weak=False` (RFC 9110 8.8.3.2). A malformed tag matches nothing.
    """
    if condition.strip() == "*":
        return True
    own = _ENTITY_TAG.fullmatch(etag.strip()) if etag is not None else None
    if own is None or (own[1] and not weak):
        return False
    return any(opaque == own[2] and (weak or not mark) for mark, opaque in _LISTED_TAG.findall(condition))


def listed_etags(condition: str) -> list[str]:
    """Return the entity tags of If-Match or If-None-Match as they stand there (RFC 9110 13.1.1).

    Empty for `*` and for what is no list of entity tags.
    """
    members = split_list(condition)
    return members if all(_ENTITY_TAG.fullmatch(member) for member in members) else []


def is_strong_etag(etag: str) -> bool:
    """Tell whether a field value is one strong entity tag (RFC 9110 8.8.3)."""
    match = _ENTITY_TAG.fullmatch(etag.strip())
    return match is not None and not match[1]


def validators(headers: Headers) -> list[tuple[str, str]]:
    """Return the fields that ask the origin whether a stored response still holds (RFC 9111 4.3.1).

    Empty when the response has neither ETag nor Last-Modified.
    """
    sources = (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
    found = ((condition, first(headers, source)) for condition, source in sources)
    return [(condition, value) for condition, value in found if value]


def headers_for_304(headers: Headers) -> list[tuple[str, str]]:
    """Return the fields of a stored 200 that its 304 carries (RFC 9110 15.4.5).

    Representation metadata goes; Last-Modified stays only where there is no ETag.
    """
    without_metadata = remove(headers, NOT_MODIFIED_DROPS)
    has_etag = first(headers, "etag") is not None
    return remove(without_metadata, ("last-modified",)) if has_etag else without_metadata


def update_stored(stored_headers: Headers, headers_304: Headers) -> list[tuple[str, str]]:
    """Return the stored header fields updated from a 304 (RFC 9111 3.2).

    Every field of the 304 replaces the stored lines of its name, except hop-by-hop fields, Set-Cookie and
    those that describe the stored bytes: Content-Length, Content-Encoding, Content-Range. Age and Date are
    the 304's or none.
    """
    updates = remove(end_to_end(headers_304), _NOT_UPDATED)
    replaced = {name.lower() for name, _ in updates} | _OF_THE_MESSAGE
    return [*remove(stored_headers, replaced), *updates]


_OF_THE_REPRESENTATION = ("etag", "last-modified", "content-encoding", "content-language", "content-type")


def head_agrees(stored_headers: Headers, length: int, head_headers: Headers) -> bool:
    """Tell whether the answer to a HEAD describes the stored response of `length` bytes (RFC 9111 4.3.5)."""
    same = all(first(head_headers, name) in (None, first(stored_headers, name)) for name in _OF_THE_REPRESENTATION)
    return same and first(head_headers, "content-length") in (None, str(length))


def is_strong_date(headers: Headers) -> bool:
    """Tell whether Last-Modified lies far enough before Date to identify the bytes (RFC 9110 8.8.2.2)."""
    modified, generated = (parse_date(first(headers, name) or "") for name in ("last-modified", "date"))
    return modified is not None and generated is not None and generated - modified >= 1.0
