"""Range requests and partial content (RFC 9110 14 and 15.3.7, RFC 9111 3.3 and 3.4)."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from .conditional import etag_matches, is_strong_date, is_strong_etag
from .dates import parse_date
from .fields import OWS, Headers, first, remove, values

MAX_RANGES = 16
"""Ranges of one request that are answered as such; more are answered with the whole (RFC 9110 14.2)."""

_SPEC = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")
_CONTENT_RANGE = re.compile(r"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)

Span = tuple[int, int]
"""First and last position, both inclusive."""


class Part(NamedTuple):
    """A piece of a representation: its first and last position, and the complete length."""

    first: int
    last: int
    length: int

    @property
    def field(self) -> str:
        """The value of Content-Range (RFC 9110 14.4)."""
        return f"bytes {self.first}-{self.last}/{self.length}"


def content_range(headers: Headers) -> Part | None:
    """Read Content-Range (RFC 9110 14.4); None when it is missing, repeated or invalid, or tells no complete length."""
    lines = values(headers, "content-range")
    match = _CONTENT_RANGE.fullmatch(lines[0].strip(OWS)) if len(lines) == 1 else None
    if match is None:
        return None
    part = Part(int(match[1]), int(match[2]), int(match[3]))
    return part if part.first <= part.last < part.length else None


def requested(request_headers: Headers) -> str | None:
    """Return the Range of a request that is one of bytes and may be acted upon, else None (RFC 9110 14.2)."""
    lines = values(request_headers, "range")
    return lines[0] if len(lines) == 1 and _specs(lines[0]) is not None else None


def _specs(value: str) -> list[tuple[str, str]] | None:
    unit, equals, ranges = value.partition("=")
    if not equals or unit.strip(OWS).lower() != "bytes":
        return None
    listed = [spec for piece in ranges.split(",", MAX_RANGES * 2) if (spec := piece.strip(OWS))]
    matches = [_SPEC.fullmatch(spec) for spec in listed]
    specs = [(match[1], match[2]) for match in matches if match is not None]
    is_valid = len(specs) == len(matches) and 0 < len(specs) <= MAX_RANGES and all(map(_is_valid, specs))
    return specs if is_valid else None


def _is_valid(spec: tuple[str, str]) -> bool:
    start, end = spec
    return int(start) <= int(end) if start and end else bool(start or end)


def satisfiable(value: str, length: int) -> list[Span]:
    """Return the spans of a Range value within a representation of `length` bytes (RFC 9110 14.1.2).

    Empty: it is unsatisfiable. `value` is one that `requested` returned.
    """
    spans = (_span(start, end, length) for start, end in _specs(value) or ())
    return [span for span in spans if span is not None]


def _span(start: str, end: str, length: int) -> Span | None:
    if not start:
        size = min(int(end), length)
        return (length - size, length - 1) if size else None
    last = min(int(end), length - 1) if end else length - 1
    return (int(start), last) if int(start) <= last else None


def is_excessive(spans: Sequence[Span]) -> bool:
    """Tell whether ranges overlap, and so would be a larger answer than the whole (RFC 9110 14.2, 17.15)."""
    ordered = sorted(spans)
    return any(later[0] <= earlier[1] for earlier, later in pairwise(ordered))


def if_range_holds(request_headers: Headers, response_headers: Headers) -> bool:
    """Tell whether If-Range lets a Range apply: there is none, or its strong validator holds (RFC 9110 13.1.5)."""
    conditions = values(request_headers, "if-range")
    if not conditions:
        return True
    condition = conditions[0].strip(OWS)
    if len(conditions) > 1:
        return False
    if is_strong_etag(condition):
        return etag_matches(condition, first(response_headers, "etag"), weak=False)
    since = parse_date(condition)
    modified = first(response_headers, "last-modified")
    return since is not None and modified is not None and _same_date(since, modified, response_headers)


def is_by_date(request_headers: Headers) -> bool:
    """Tell whether If-Range names a representation by a date rather than by an entity tag (RFC 9110 13.1.5)."""
    return any('"' not in line for line in values(request_headers, "if-range"))


def _same_date(since: float, modified: str, headers: Headers) -> bool:
    return parse_date(modified) == since and is_strong_date(headers)


def strong_validator(headers: Headers) -> str | None:
    """Return what If-Range may name a response by: a strong entity tag or date (RFC 9110 8.8); None without."""
    etag = first(headers, "etag")
    if etag is not None:
        return etag.strip(OWS) if is_strong_etag(etag) else None
    return first(headers, "last-modified") if is_strong_date(headers) else None


def missing(part: Part) -> Span | None:
    """Return the span that completes a part, None when there are two (RFC 9111 3.4)."""
    if part.first == 0:
        return part.last + 1, part.length - 1
    return (0, part.first - 1) if part.last == part.length - 1 else None


def joined(one: Part, one_body: bytes, other: Part, other_body: bytes) -> tuple[Part, bytes] | None:
    """Combine two parts of one representation that touch or overlap (RFC 9111 3.4); None for others."""
    if one.first > other.first:
        one, one_body, other, other_body = other, other_body, one, one_body
    if one.last + 1 < other.first or one.length != other.length:
        return None
    body = one_body + other_body[one.last + 1 - other.first :]
    return Part(one.first, max(one.last, other.last), one.length), body


def completed(headers: Headers, part: Part, body: bytes) -> tuple[int, list[tuple[str, str]]]:
    """Return status and fields of a combined response: 200 when nothing is missing, else 206 (RFC 9111 3.4)."""
    kept = remove(headers, ("content-range", "content-length"))
    if part.first == 0 and part.length == len(body):
        return 200, kept
    return 206, [*kept, ("Content-Range", part.field)]
