"""What an attempt to replay a write came to. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from ..semantics.dates import parse_date
from ..semantics.fields import Headers, first

AMBIGUOUS: Final = "ambiguous"
_GONE: Final = frozenset({404, 410})
_LATER: Final = frozenset({408, 425, 429})
_NEVER: Final = frozenset({501, 505})
_AFTER_ALL: Final = frozenset({409, 412})


class Verdict(Enum):
    """What happens to the write next."""

    SYNCED = "synced"
    REJECTED = "rejected"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    RETRY = "retry"


class Failure(Enum):
    """Why an attempt has no answer."""

    NOT_SENT = "not-sent"  # no connection: the origin has seen nothing
    NO_ANSWER = "no-answer"  # it may have been applied


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One attempt: the origin's answer, or the failure that stood in its place."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: Failure | None = None
    problem: str = ""

    @property
    def is_unknown(self) -> bool:
        """Whether the origin may or may not have applied the write."""
        return self.failure is Failure.NO_ANSWER or self.status in (502, 504)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A verdict with its reason; `retry_after` is seconds that the origin asked for."""

    verdict: Verdict
    reason: str
    retry_after: float | None = None


class History(msgspec.Struct, frozen=True, gc=False):
    """What happened to a write before this attempt: tries, whether one had an unknown outcome, its age in seconds."""

    tries: int
    unknown: bool
    age: float


class Patience(msgspec.Struct, frozen=True, gc=False):
    """When a write is given up: after so many tries, seconds or vanished senders; whether it may be sent twice."""

    max_tries: int
    max_age: float
    repeatable: bool
    max_stalls: int = 20


def judge(method: str, attempt: Attempt, history: History, patience: Patience, *, now: float) -> Outcome:
    """Decide what an attempt means for its write (RFC 9110 section 15). `now` is seconds since the epoch."""
    status = attempt.status
    if is_success(method, attempt):
        return Outcome(Verdict.SYNCED, f"status {status}")
    if attempt.is_unknown and not patience.repeatable:
        return Outcome(Verdict.DEAD, AMBIGUOUS)
    if is_temporary(attempt):
        return _given_up(history, patience) or Outcome(
            Verdict.RETRY, attempt.problem or f"status {status}", retry_after(attempt.headers, now)
        )
    if history.unknown and status in _AFTER_ALL:
        return Outcome(Verdict.DEAD, AMBIGUOUS)
    if 300 <= status < 400:
        return Outcome(Verdict.DEAD, "redirect")
    return Outcome(Verdict.REJECTED, "auth" if status in (401, 403) else f"status {status}")


def is_success(method: str, attempt: Attempt) -> bool:
    """Decide whether the origin has the write."""
    status = attempt.status
    return 200 <= status < 300 or status == 303 or (method == "DELETE" and status in _GONE)


def is_failing(attempt: Attempt) -> bool:
    """Decide whether an attempt says that the origin, or what stands before it, is out of order."""
    return attempt.failure is not None or attempt.status in (502, 503, 504)


def before_sending(unknown: int, stalls: int, patience: Patience) -> Outcome | None:
    """Decide whether a write may be sent at all; None when it may.

    `unknown` earlier attempts have an unknown outcome; `stalls` senders vanished over it.
    """
    if unknown and not patience.repeatable:
        return Outcome(Verdict.DEAD, AMBIGUOUS)
    return Outcome(Verdict.DEAD, "too-many-stalls") if stalls > patience.max_stalls else None


def blocks(judged: Outcome, on_dead: str) -> bool:
    """Decide whether a write that ended so keeps those behind it waiting for an operator.

    `on_dead` is `block`, `skip`, or empty: then only one that may have been applied does.
    """
    return judged.verdict is Verdict.DEAD and (on_dead == "block" or (not on_dead and judged.reason == AMBIGUOUS))


def is_temporary(attempt: Attempt) -> bool:
    """Decide whether what failed may succeed later, as it is."""
    if attempt.failure is not None:
        return True
    if attempt.status == 409:  # the idempotency key's first request is still at work; it says when to come back
        return first(attempt.headers, "Retry-After") is not None
    return attempt.status in _LATER or (attempt.status >= 500 and attempt.status not in _NEVER)


def _given_up(history: History, patience: Patience) -> Outcome | None:
    if history.tries + 1 >= patience.max_tries:
        return Outcome(Verdict.DEAD, "too-many-tries")
    return Outcome(Verdict.DEAD, "too-old") if history.age > patience.max_age else None


def retry_after(headers: Headers, now: float) -> float | None:
    """Read `Retry-After` as seconds from now (RFC 9110 section 10.2.3); None without a valid one."""
    value = first(headers, "Retry-After")
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    date = parse_date(value)
    return None if date is None else max(0.0, date - now)


def retry_delay(
    tries: int, asked: float | None, *, base: float, cap: float, spread: Callable[[], float] = random.random
) -> float:
    """Seconds to wait after `tries` failures: exponential with full jitter, at least what the origin asked, capped."""
    delay = spread() * min(cap, base * 2.0 ** min(tries, 32))
    return min(cap, max(delay, asked or 0.0))
