"""Pieces of stored responses, for requests with a Range. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from ..semantics import ranges
from ..semantics.fields import Headers, first, remove
from ..semantics.ranges import Part, Span
from .snapshot import Snapshot

_PARTIAL: Final = 206


def wanted(method: str, request_headers: Headers, headers: Headers) -> str | None:
    """The Range that a request asks of a response with these fields, None when it asks for the whole."""
    asked = ranges.requested(request_headers) if method == "GET" else None
    return asked if asked and ranges.if_range_holds(request_headers, headers) else None


def covers(method: str, request_headers: Headers, status: int, headers: Headers) -> bool:
    """Whether a stored response holds what a request asks for: a partial one only ranges within it."""
    if status != _PARTIAL:
        return True
    part, asked = ranges.content_range(headers), wanted(method, request_headers, headers)
    return part is not None and asked is not None and _within(asked, part) is not None


def cut(method: str, request_headers: Headers, whole: Snapshot) -> Snapshot:
    """The piece of a response that a request's Range asks for: 206, or 416; else the response as it is."""
    part = _part_of(whole)
    asked = wanted(method, request_headers, whole.headers) if part else None
    if part is None or asked is None:
        return whole
    spans = _within(asked, part)
    if spans is None or (spans and ranges.is_excessive(spans)):
        return whole
    if not spans:
        fields = [*remove(whole.headers, _OF_THE_BODY), ("Content-Range", f"bytes */{part.length}")]
        return Snapshot(416, "Range Not Satisfiable", tuple(fields), b"")
    return _single(whole, part, spans[0]) if len(spans) == 1 else _multiple(whole, part, spans)


_OF_THE_BODY: Final = ("content-type", "content-encoding", "content-range", "etag", "last-modified", "set-cookie")


def _part_of(response: Snapshot) -> Part | None:
    if response.status == 200:
        return Part(0, len(response.body) - 1, len(response.body))
    return ranges.content_range(response.headers) if response.status == _PARTIAL else None


def _within(asked: str, part: Part) -> list[Span] | None:
    """The spans of a Range, empty when it is unsatisfiable; None when a part does not hold them all."""
    spans = ranges.satisfiable(asked, part.length)
    return spans if all(part.first <= start and end <= part.last for start, end in spans) else None


def _piece(whole: Snapshot, part: Part, span: Span) -> bytes:
    return whole.body[span[0] - part.first : span[1] + 1 - part.first]


def _single(whole: Snapshot, part: Part, span: Span) -> Snapshot:
    headers = [*remove(whole.headers, ("content-range",)), ("Content-Range", Part(*span, part.length).field)]
    return Snapshot(_PARTIAL, "Partial Content", tuple(headers), _piece(whole, part, span))


def _multiple(whole: Snapshot, part: Part, spans: Sequence[Span]) -> Snapshot:
    """Several pieces as multipart/byteranges (RFC 9110 section 14.6)."""
    boundary = secrets.token_hex(16)
    content_type = first(whole.headers, "content-type")
    described = f"Content-Type: {content_type}\r\n" if content_type else ""
    pieces = []
    for span in spans:
        head = f"--{boundary}\r\n{described}Content-Range: {Part(*span, part.length).field}\r\n\r\n"
        pieces += [head.encode("utf-8", "surrogateescape"), _piece(whole, part, span), b"\r\n"]
    headers = [
        *remove(whole.headers, ("content-range", "content-type")),
        ("Content-Type", f"multipart/byteranges; boundary={boundary}"),
    ]
    return Snapshot(_PARTIAL, "Partial Content", tuple(headers), b"".join([*pieces, f"--{boundary}--\r\n".encode()]))


def combined(stored: Snapshot, answer: Snapshot) -> Snapshot | None:
    """A stored part with another of the same representation, as one; None when they are not known to be (RFC 9111 3.4).

    The fields are those of the newer answer where it has them (RFC 9111 section 3.4).
    """
    old, new = _part_of(stored), _part_of(answer)
    validator = ranges.strong_validator(answer.headers)
    if old is None or new is None or not validator or validator != ranges.strong_validator(stored.headers):
        return None
    together = ranges.joined(old, stored.body, new, answer.body)
    if together is None:
        return None
    named = {name.lower() for name, _ in answer.headers}
    headers = [*answer.headers, *remove(stored.headers, named)]
    status, fields = ranges.completed(headers, *together)
    return Snapshot(status, "OK" if status == 200 else "Partial Content", tuple(fields), together[1])


def is_sound(response: Snapshot) -> bool:
    """Whether a partial response holds as many bytes as its Content-Range says; others are sound in any case."""
    part = ranges.content_range(response.headers) if response.status == _PARTIAL else None
    return part is None or part.last - part.first + 1 == len(response.body)
