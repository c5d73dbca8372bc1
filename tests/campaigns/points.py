"""Places in an edge where it can be made to end, to stand still, or to miss a reply. Nothing of this is in the package.

A point is armed from outside with what shall happen at its next pass: `kill` (SIGKILL), `stop` (SIGSTOP) or `lose`
(the reply of Redis is lost, on a connection that breaks).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web
from redis.exceptions import ConnectionError as RedisConnectionError

from aiohttp_regioncache.gateway.forward import Forwarder
from aiohttp_regioncache.semantics.methods import is_read
from aiohttp_regioncache.store import queue
from aiohttp_regioncache.store.executor import Executor
from aiohttp_regioncache.sync.sender import Sender

KILL: Final = "kill"
STOP: Final = "stop"
LOSE: Final = "lose"
_SIGNALS: Final = {KILL: signal.SIGKILL, STOP: signal.SIGSTOP}

BEFORE_SEND: Final = "before-send"
AFTER_SEND: Final = "after-send"
BEFORE_SETTLE: Final = "before-settle"
SETTLE_REPLY: Final = "settle-reply"
ACCEPT_REPLY: Final = "accept-reply"
AFTER_FORWARD: Final = "after-forward"
"""A write through: the origin has answered, nothing is invalidated yet."""
POINTS: Final = (BEFORE_SEND, AFTER_SEND, BEFORE_SETTLE, SETTLE_REPLY, ACCEPT_REPLY, AFTER_FORWARD)
_REPLIES: Final = {"settle": SETTLE_REPLY, "accept": ACCEPT_REPLY}


class Points:
    """What is armed in this process. `say` is told of each point that was reached, before anything happens."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._armed: dict[str, str] = {}

    def obey(self, command: str) -> None:
        """Take a line `ACTION POINT`, or `disarm`."""
        action, _, point = command.partition(" ")
        if action == "disarm":
            self._armed.clear()
        else:
            self._armed[point] = action

    def reach(self, point: str) -> bool:
        """Do what is armed at this point; tells whether anything was, to those who live on."""
        action = self._armed.pop(point, None)
        if action is None:
            return False
        self._say(f"{action} {point}")
        if action in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[action])
        return True

    def install(self) -> None:
        """Wrap the functions of the package that pass the points."""
        self._around_sending()
        self._before_settling()
        self._around_replies()
        self._after_forwarding()

    def _around_sending(self) -> None:
        ask = Sender._ask

        async def watched(sender: Sender, *arguments: Any, **options: Any) -> Any:
            self.reach(BEFORE_SEND)
            attempt = await ask(sender, *arguments, **options)
            self.reach(AFTER_SEND)
            return attempt

        _put(Sender, "_ask", watched)

    def _before_settling(self) -> None:
        settle = queue.settle

        async def watched(*arguments: Any, **options: Any) -> Any:
            self.reach(BEFORE_SETTLE)
            return await settle(*arguments, **options)

        _put(queue, "settle", watched)

    def _around_replies(self) -> None:
        read = Executor._read

        def watched(executor: Executor, commands: Sequence[Any], *answers: Any) -> list[Any]:
            results = read(executor, commands, *answers)
            for command, result in zip(commands, results, strict=True):
                point = _REPLIES.get(command.script.name) if command.script else None
                if point is not None and not isinstance(result, Exception) and self.reach(point):
                    raise RedisConnectionError("the reply was lost")
            return results

        _put(Executor, "_read", watched)

    def _after_forwarding(self) -> None:
        forward = Forwarder.forward

        async def watched(forwarder: Forwarder, request: web.Request) -> web.StreamResponse:
            response = await forward(forwarder, request)
            if not is_read(request.method):
                self.reach(AFTER_FORWARD)
            return response

        _put(Forwarder, "forward", watched)


def _put(owner: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)
