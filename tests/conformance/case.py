"""What a case is: exchanges on one resource, what the origin would answer to each, what is expected of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Source(Enum):
    """Where an answer must come from."""

    ORIGIN = "the origin is asked and its answer is given"
    CACHE = "what is stored is given, the origin is not asked"
    VALIDATED = "the origin is asked with a condition, answers 304, and what is stored is given"
    REFRESHED = "what is stored is given at once, and the origin is asked meanwhile"
    INSTEAD = "the origin is asked, fails, and what is stored is given"
    NOWHERE = "neither: the edge answers for itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the origin answers. Lines read `Name: value`; see `scripted.fill` for what braces in them mean.

    `body` None is one that no other exchange has. `interim` are responses before the final one, status and lines.
    `dated` adds a Date where there is none. `ranged` honours Range and If-Range. `cut` closes the connection instead;
    `broken` does in the middle of the body.
    """

    status: int = 200
    lines: tuple[str, ...] = ()
    body: bytes | None = None
    interim: tuple[tuple[int, tuple[str, ...]], ...] = ()
    dated: bool = True
    ranged: bool = False
    cut: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, the answer that the origin holds ready for it, and what is expected.

    `at` follows the path of the case. `source` None leaves open where the answer comes from. `status` (one, or those
    that are right) None is that of the answer which `source` names, and so is `content`; `parts` must be in the body,
    in this order. `has` are lines, names alone, or `Name: ~expression`, that the client must get; `lacks` names, or
    whole lines, that it must not. `saw` and `saw_not` are the same of what the origin is sent. `interim` are the
    statuses before the final one. `pause` is waited before, seconds. `version` is that of HTTP in the request.
    """

    method: str = "GET"
    at: str = ""
    lines: tuple[str, ...] = ()
    body: bytes = b""
    origin: Answer = Answer()
    source: Source | None = Source.ORIGIN
    status: int | tuple[int, ...] | None = None
    content: bytes | None = None
    parts: tuple[bytes, ...] = ()
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    saw: tuple[str, ...] = ()
    saw_not: tuple[str, ...] = ()
    interim: tuple[int, ...] | None = None
    pause: float = 0.0
    version: str = "1.1"


@dataclass(frozen=True, slots=True)
class Case:
    """A name, unique and fit for a path; the clause that demands what is expected; the exchanges, in order."""

    id: str
    clause: str
    exchanges: tuple[Exchange, ...]


ORIGIN, CACHE, VALIDATED, REFRESHED, INSTEAD, NOWHERE = Source
FRESH = "Cache-Control: max-age=3600"
STALE = ("Cache-Control: max-age=30", "Age: 60")
"""Lines of an answer that was fresh for 30 seconds and is 60 seconds old already when it arrives."""
TAG = 'ETag: "v1"'
CUT = Answer(cut=True)
"""The connection is closed instead of an answer."""


def answer(*lines: str, status: int = 200, body: bytes | None = None, dated: bool = True) -> Answer:
    """An answer of the origin."""
    return Answer(status=status, lines=lines, body=body, dated=dated)


def ranged(*lines: str, body: bytes = b"0123456789") -> Answer:
    """An answer of an origin that can cut it."""
    return Answer(lines=lines, body=body, ranged=True)


def validated(*lines: str) -> Answer:
    """A 304 of the origin."""
    return Answer(status=304, lines=lines)


def case(name: str, clause: str, *exchanges: Exchange) -> Case:
    """A case; `clause` without "RFC " before it."""
    return Case(name, f"RFC {clause}", exchanges)


def reuse(
    name: str,
    clause: str,
    *lines: str,
    status: int = 200,
    first: Sequence[str] = (),
    again: Sequence[str] = (),
    source: Source = CACHE,
    has: tuple[str, ...] = (),
    lacks: tuple[str, ...] = (),
) -> Case:
    """The most common case: an answer with these lines, then the same request `again`, answered from the cache or not.

    `first` and `again` are lines of the two requests; `source`, `has` and `lacks` are expected of the second.
    """
    given = Answer(status=status, lines=tuple(lines))
    return case(
        name,
        clause,
        Exchange(lines=tuple(first), origin=given),
        Exchange(lines=tuple(again), origin=given, source=source, has=has, lacks=lacks),
    )
