"""Signals about writes: what an application hears when one is accepted and when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from aiosignal import Signal

from .tasks import Tasks

logger = logging.getLogger(__name__)

MAX_RUNNING: Final = 1_000
"""Callbacks under way at once; more are left out, with a warning."""


class WriteEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a write.

    `state` is what it has come to: `pending` when it was accepted, or `synced`, `rejected`, `dead`, `superseded`, with
    the `reason`. `answer` is the status of the origin's answer, None without one. `principal` is the keyed hash under
    which it is queued. `accepted` and `settled` are seconds since the epoch by the clock of its region.
    """

    id: str
    region: str
    state: str
    method: str
    url: str
    principal: str
    reason: str = ""
    answer: int | None = None
    accepted: float
    settled: float | None = None


WriteCallback = Callable[[WriteEvent], Awaitable[object]]


class Hooks:
    """One signal for each thing that happens to a write; an application appends to them before it starts.

    Every callback runs in a task of its own: however slow it is and whatever it raises, no answer, replay or other
    callback waits for it. It runs in the process that accepted or settled the write, at most once for each; it does
    not run when that process dies before.
    """

    def __init__(self) -> None:
        self.on_accepted: Signal[WriteEvent] = Signal(self)
        self.on_synced: Signal[WriteEvent] = Signal(self)
        self.on_rejected: Signal[WriteEvent] = Signal(self)
        self.on_dead: Signal[WriteEvent] = Signal(self)
        self.on_superseded: Signal[WriteEvent] = Signal(self)
        self._signals: Mapping[str, Signal[WriteEvent]] = {
            "pending": self.on_accepted,
            "synced": self.on_synced,
            "rejected": self.on_rejected,
            "dead": self.on_dead,
            "superseded": self.on_superseded,
        }
        self._tasks = Tasks(MAX_RUNNING)

    def freeze(self) -> None:
        """Take no more callbacks."""
        for signal in self._signals.values():
            signal.freeze()

    def are_heard(self, state: str) -> bool:
        """Whether anybody wants to know of writes that come to a state."""
        return bool(self._signals[state])

    def announce(self, event: WriteEvent) -> None:
        """Begin to run the callbacks for what happened."""
        for callback in self._signals[event.state]:
            if self._tasks.spawn(_run(callback, event), f"a callback about write {event.id}") is None:
                logger.warning("write %s is %s: too many callbacks are running to start one", event.id, event.state)

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for callbacks that run, then cancel them."""
        await self._tasks.drain(timeout)


def ended_event(
    write_id: str, region: str, state: str, fields: Mapping[str, str], known: Mapping[str, str], *, now: float
) -> WriteEvent:
    """Describe a write that ended as `state`: from what the end adds to its status, and what was known before."""
    return WriteEvent(
        id=write_id,
        region=region,
        state=state,
        method=known.get("method", ""),
        url=known.get("url", ""),
        principal=known.get("principal", ""),
        reason=fields.get("reason", ""),
        answer=int(fields["answer"]) if "answer" in fields else None,
        accepted=int(known.get("accepted", 0)) / 1000,
        settled=now,
    )


async def _run(callback: WriteCallback, event: WriteEvent) -> None:
    await callback(event)
