"""Commands over one connection without waiting between them: the answers come in the same order.

redis-py makes the connection, with everything that belongs to it: TLS, authentication, Sentinel. What it takes for each
command (a connection of its pool, locks, timeouts, futures) costs several times what a small command does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import msgspec
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Answered = Callable[[Any], None]
"""Hears the answer, or the error of redis-py."""

_LOST: Final = "the connection was lost"
_PATIENCE: Final = 5.0


class Pipe(asyncio.Protocol):
    """Take over a connection of redis-py, which goes back to its `pool` when it has ended.

    It ends when a command waits and nothing has come for the connection's `socket_timeout`.
    """

    def __init__(self, pool: Any, connection: AbstractConnection) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._connection = connection
        self._timeout: float = connection.socket_timeout or _PATIENCE
        self._heard = 0.0
        self._reader = hiredis.Reader(replyError=connection._parser.parse_error)
        self._waiting: deque[tuple[float, Answered]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception = RedisConnectionError(_LOST)
        stream = connection._writer
        if stream is None:
            raise RedisConnectionError(_LOST)
        self._transport = stream.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, client: Redis) -> Pipe:
        """Connect as a client of redis-py does. Raises what that does."""
        pool: Any = client.connection_pool
        connection = await pool.get_connection()
        try:
            return cls(pool, connection)
        except RedisConnectionError:  # it was lost before it could be taken over
            await _give_back(pool, connection)
            raise

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent."""
        return not self._transport.is_closing()

    @property
    def under_way(self) -> int:
        """How many commands have no answer yet."""
        return len(self._waiting)

    def send(self, commands: bytes, answered: Answered, count: int = 1) -> None:
        """Send `count` commands in their form on the wire. `answered` hears each answer, and must not raise."""
        if self._transport.is_closing():
            for _ in range(count):
                answered(RedisConnectionError(_LOST))
            return
        now = self._loop.time()
        self._waiting.extend([(now, answered)] * count)
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout, self._sweep)
        self._transport.write(commands)

    async def ask(self, commands: bytes, count: int) -> list[Any]:
        """Send `count` commands in their form on the wire and wait for their answers, errors among them."""
        answer: asyncio.Future[list[Any]] = self._loop.create_future()

        def answered(answers: list[Any]) -> None:
            if not answer.done():
                answer.set_result(answers)

        self.ask_for(commands, count, answered)
        return await answer

    def ask_for(self, commands: bytes, count: int, answered: Callable[[list[Any]], None]) -> None:
        """Send `count` commands in their form on the wire. `answered` hears all answers, and must not raise."""
        answers: list[Any] = []

        def one_answered(answer: Any) -> None:
            answers.append(answer)
            if len(answers) == count:
                answered(answers)

        self.send(commands, one_answered, count)

    def close(self) -> None:
        """End the connection; commands without an answer hear of it."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are there."""
        reader = self._reader
        self._heard = self._loop.time()
        try:
            reader.feed(data)
            while self._waiting and (answer := reader.gets()) is not False:
                self._waiting.popleft()[1](answer)
        except hiredis.ProtocolError as error:
            self._end(RedisConnectionError(f"no answer of a Redis: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everybody who waits."""
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, deque()
        self._before.connection_lost(error)
        self._ending = self._loop.create_task(_give_back(self._pool, self._connection))
        for _, answered in waiting:
            answered(self._error)

    def pause_writing(self) -> None:
        """What is written is bounded by those who ask."""

    def resume_writing(self) -> None:
        """What is written is bounded by those who ask."""

    def _sweep(self) -> None:
        """End the connection when nothing has come for too long, else look again when that may be."""
        self._timer = None
        if not self._waiting:
            return
        due = max(self._waiting[0][0], self._heard) + self._timeout
        if due <= self._loop.time():
            self._end(RedisTimeoutError(f"no answer within {self._timeout:g} s"))
        else:
            self._timer = self._loop.call_at(due, self._sweep)

    def _end(self, error: Exception) -> None:
        self._error = error
        self._transport.abort()


async def _give_back(pool: Any, connection: AbstractConnection) -> None:
    await connection.disconnect(nowait=True)
    await pool.release(connection)


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """`count` arguments of a command in their form on the wire, in pieces that are put together when they leave."""

    pieces: Sequence[bytes]
    count: int

    @property
    def wire(self) -> bytes:
        """The form on the wire."""
        return b"".join(self.pieces)

    def arguments(self) -> list[bytes]:
        """The arguments themselves."""
        reader = hiredis.Reader()
        reader.feed(b"*%d\r\n%b" % (self.count, self.wire))
        arguments: list[bytes] = reader.gets()
        return arguments


def written(arguments: tuple[str | bytes | float, ...]) -> bytes:
    """A command in its form on the wire."""
    wire: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type] # its types know tuples of one alone
    return wire


def chunk(*arguments: str | bytes | float) -> Chunk:
    """Write arguments in their form on the wire."""
    return Chunk((written(arguments).partition(b"\r\n")[2],), len(arguments))


def joined(*chunks: Chunk) -> Chunk:
    """Several of them one behind the other."""
    pieces: list[bytes] = []
    for each in chunks:
        pieces += each.pieces
    return Chunk(pieces, sum([each.count for each in chunks]))


def packed(key: str) -> bytes:
    """A key in its form on the wire."""
    octets = key.encode()
    return b"$%d\r\n%b\r\n" % (len(octets), octets)


def unpacked(argument: bytes) -> bytes:
    """The key again, of its form on the wire."""
    return argument.partition(b"\r\n")[2][:-2]
