"""What is read of a partition in one tick of the event loop is read with one command."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..errors import RegionUnavailableError
from .breaker import Breaker
from .executor import MAX_WAITING, UNREACHABLE, Client, Executor, refusal, unreachable
from .keyspace import Partition
from .pipe import Pipe, unpacked

logger = logging.getLogger(__name__)

Values = Sequence[bytes | None]
"""What lies under some keys, in their order."""
Told = Callable[[Values | Exception], None]

MAX_KEYS: Final = 192
"""Keys of one command."""
UNDER_WAY: Final = 4
"""Commands under way at once: while they are, more are collected for the next."""
MAX_BYTES: Final = 512 * 1024
"""Octets that the answer to one command should have at most: a large one holds up what comes behind it."""


class Glances:
    """Read keys of a region's partitions, those of a tick together, each key once.

    `executor` runs the commands of a Cluster, which go to several nodes. Keys are in the form of `packed`.
    """

    def __init__(self, region: str, client: Client, breaker: Breaker, executor: Executor) -> None:
        self._region = region
        self._client = client
        self._breaker = breaker
        self._executor = executor
        self._pipe: Pipe | None = None
        self._waiting: dict[Partition, _Collected] = {}
        self._count = 0
        self._under_way = 0
        self._typical = 1024.0
        self._is_scheduled = False
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False
        self._failure: Exception | None = None

    def ask(self, partition: Partition, keys: Sequence[bytes], told: Told) -> None:
        """Read keys of a partition; `told` hears what lies there, or the `RegionUnavailableError`. Never raises."""
        if self._is_closed or self._breaker.is_open:
            return told(self._unavailable("closed" if self._is_closed else "skipped after failures"))
        if self._count >= MAX_WAITING:
            return told(self._unavailable("too many commands are waiting"))
        self._count += 1
        collected = self._waiting.get(partition)
        if collected is None:
            collected = self._waiting[partition] = _Collected()
        collected.add(keys, told)
        if not self._is_scheduled and self._under_way < UNDER_WAY:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._send_all)
        return None

    async def get(self, partition: Partition, keys: Sequence[bytes]) -> Values:
        """Read keys of a partition. Raises `RegionUnavailableError`."""
        answer: asyncio.Future[Values] = asyncio.get_running_loop().create_future()

        def told(found: Values | Exception) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        self.ask(partition, keys, told)
        return await answer

    async def close(self) -> None:
        """Read nothing more; who waits hears of it."""
        self._is_closed = True
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._pipe is not None:
            self._pipe.close()
        self._refuse(self._unavailable("closed"))

    def _unavailable(self, reason: str) -> RegionUnavailableError:
        return RegionUnavailableError(self._region, reason)

    def _refuse(self, error: Exception) -> None:
        for collected in self._collected():
            collected.tell(error)

    def _collected(self) -> list[_Collected]:
        """What is waiting, as one command each."""
        waiting, self._waiting, self._count = list(self._waiting.values()), {}, 0
        most = max(3, min(MAX_KEYS, int(3 * MAX_BYTES / self._typical)))
        return [part for collected in waiting for part in collected.divided(most)]

    def _send_all(self) -> None:
        self._is_scheduled = False
        if self._breaker.is_open or (self._breaker.is_half_open and self._under_way):
            self._refuse(self._unavailable("skipped after failures"))
        elif self._pipe is not None and self._pipe.is_open:
            for collected in self._collected():
                self._under_way += 1
                command = b"*%d\r\n$4\r\nMGET\r\n%b" % (len(collected.places) + 1, b"".join(collected.places))
                self._pipe.send(command, functools.partial(self._answered, collected))
        elif isinstance(self._client, RedisCluster):
            for collected in self._collected():
                self._send_to_node(collected)
        elif self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(self._client))

    def _go_on(self) -> None:
        """Send what was asked for meanwhile."""
        if self._waiting and not self._is_scheduled:
            self._send_all()

    def _answered(self, collected: _Collected, answer: Any) -> None:
        self._under_way -= 1
        if not isinstance(answer, list):
            if isinstance(answer, UNREACHABLE):
                # All who lose their answers with a connection hear the same error; those with one that is silent count.
                if answer is not self._failure or isinstance(answer, RedisTimeoutError):
                    self._breaker.failed()
                self._failure = answer
                answer = unreachable(self._region, answer)
            elif isinstance(answer, Exception):
                answer = refusal(self._region, answer)
            self._go_on()
            collected.tell(answer)
            return
        self._breaker.succeeded()
        size = sum([len(value) for value in answer if value is not None]) / len(collected.asked)
        self._typical += (max(1.0, size) - self._typical) / 8
        self._go_on()
        collected.tell_each(answer)

    def _send_to_node(self, collected: _Collected) -> None:
        try:
            answer = self._executor.submit("MGET", *map(unpacked, collected.places))
        except RegionUnavailableError as error:
            collected.tell(error)
            return
        self._under_way += 1

        def answered(answer: asyncio.Future[list[bytes | None]]) -> None:
            self._under_way -= 1
            error = None if answer.cancelled() else answer.exception()
            if answer.cancelled() or error is not None:
                collected.tell(error if isinstance(error, Exception) else self._unavailable("closing"))
            else:
                collected.tell_each(answer.result())
            self._go_on()

        answer.add_done_callback(answered)

    async def _open(self, client: Redis) -> None:
        """Connect, and send what has waited for that."""
        try:
            self._pipe = await Pipe.open(client)
        except UNREACHABLE as error:
            self._breaker.failed()
            self._refuse(unreachable(self._region, error))
        except BaseException as error:
            self._refuse(unreachable(self._region, error))
            raise
        finally:
            self._opening = None
        if self._pipe is not None:
            self._send_all()


class _Collected:
    """Keys to read, each once, and who asked for which."""

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        self.asked: list[tuple[Sequence[bytes], Told]] = []

    def add(self, keys: Sequence[bytes], told: Told) -> None:
        places = self.places
        for key in keys:
            if key not in places:
                places[key] = len(places)
        self.asked.append((keys, told))

    def divided(self, most: int) -> list[_Collected]:
        """The same in parts of so many keys."""
        if len(self.places) <= most:
            return [self]
        parts = [_Collected()]
        for keys, told in self.asked:
            if parts[-1].asked and len(parts[-1].places) + len(keys) > most:
                parts.append(_Collected())
            parts[-1].add(keys, told)
        return parts

    def tell(self, error: Exception) -> None:
        for _, told in self.asked:
            _tell(told, error)

    def tell_each(self, values: Values) -> None:
        places = self.places
        for keys, told in self.asked:
            _tell(told, [values[places[key]] for key in keys])


def _tell(told: Told, found: Values | Exception) -> None:
    try:
        told(found)
    except Exception:  # the others must hear all the same
        logger.exception("what was read could not be taken")
