"""Commands of one tick of the event loop leave as one pipeline."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import (
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..errors import RegionUnavailableError
from .breaker import Breaker
from .pipe import Answered, Chunk, Pipe, chunk, joined, written
from .scripts import Script

logger = logging.getLogger(__name__)

Argument = str | bytes | int | float
Client = Redis | RedisCluster

MAX_BATCH: Final = 256
"""Commands in one pipeline."""
MAX_WAITING: Final = 20_000
"""Commands that may wait for a connection; more are refused as unavailable."""
PIPELINES: Final = 4
"""Pipelines under way at once, each with a connection of its own."""
UNREACHABLE: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    asyncio.TimeoutError,
    RedisClusterException,
    ClusterDownError,
    ReadOnlyError,  # the address leads to a replica now
    InvalidResponse,  # it leads to something that is no Redis
)
"""What redis-py raises when a server cannot be reached, or is not the one that is wanted."""
_NOT_NOW: Final = ("MISCONF", "NOREPLICAS", "BUSY ")
_FIRST_PAUSE: Final = 0.05


class Confirmation(msgspec.Struct, frozen=True):
    """A command that waits until what its connection has written is safe, and the number that it must answer."""

    arguments: tuple[Argument, ...]
    least: int


_NOTHING: Final = Confirmation((), 0)
"""For what is safe enough as soon as it is done."""


class _Command(msgspec.Struct, frozen=True, gc=False):
    """A command; `rest` are the last of its arguments, those that are written already."""

    arguments: tuple[Argument, ...]
    script: Script | None
    answered: Answered
    confirmation: Confirmation | None = None
    rest: Chunk | None = None

    @property
    def wire(self) -> bytes:
        """The command in its form on the wire."""
        if self.rest is None:
            return written(self.arguments)
        first = chunk(*self.arguments)
        return b"".join((b"*%d\r\n" % (first.count + self.rest.count), *first.pieces, *self.rest.pieces))

    @property
    def all_arguments(self) -> tuple[Argument, ...]:
        """All arguments by themselves."""
        return self.arguments if self.rest is None else (*self.arguments, *self.rest.arguments())


_Came = list[Any] | Exception | None
"""What came of a batch that was sent: a result for each command, or why there is none."""


class Executor:
    """Run commands and scripts on one region's client.

    `attempts`: how often a pipeline is sent when the connection fails; more than once only where every command may be
    repeated. `breaker` hears of every failure; while it is open nothing is sent, and after that an executor that makes
    one attempt sends one pipeline to see whether Redis is back. Errors: `RegionUnavailableError` when Redis cannot be
    reached or cannot take the command now (full memory), `redis.exceptions.ResponseError` for what else it answers.
    """

    def __init__(self, region: str, client: Client, breaker: Breaker, *, attempts: int = 1) -> None:
        self._region = region
        self._client = client
        # What redis-py makes of answers by their commands; a Cluster's client has done that already.
        self._callbacks = None if isinstance(client, RedisCluster) else client.response_callbacks
        self._breaker = breaker
        self._attempts = attempts
        self._waiting: list[_Command] = []
        self._pipes: list[Pipe] = []
        self._idle = PIPELINES
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent: set[asyncio.Future[None]] = set()

    async def command(self, *arguments: Argument) -> Any:
        """Run one command; its keys must lie in one slot."""
        return await self._submit(arguments, None)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script, loaded again when the server has forgotten it."""
        return await self._submit(("EVALSHA", script.sha, len(keys), *keys, *arguments), script)

    async def run_confirmed(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], confirmation: Confirmation | None
    ) -> tuple[Any, bool]:
        """Run a script, and tell whether what it wrote is as safe as `confirmation` asks; None asks for nothing.

        A script that is repeated must write again: what counts is what the same connection has written.
        """
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        answer, confirmed = await self._submit(command, script, confirmation or _NOTHING)
        return answer, confirmed

    def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], answered: Answered) -> None:
        """Run a script as `run` does, sent at once where possible; `answered` hears what comes of it."""
        self._queue(_Command(("EVALSHA", script.sha, len(keys), *keys, *arguments), script, answered))
        self._launch_at_once()

    def call_written(
        self, script: Script, keys: Chunk, arguments: Chunk, confirmation: Confirmation | None, answered: Answered
    ) -> None:
        """Run a script as `run_confirmed` does, sent at once where possible; `answered` hears what that would give."""
        command = ("EVALSHA", script.sha, keys.count)
        self._queue(_Command(command, script, answered, confirmation or _NOTHING, joined(keys, arguments)))
        self._launch_at_once()

    def submit(self, *arguments: Argument) -> asyncio.Future[Any]:
        """Queue one command behind those already queued in this tick; the answer comes later."""
        return self._submit(arguments, None)

    async def close(self) -> None:
        """Wait for what is under way, then refuse what still waits."""
        while under_way := self._tasks | self._sent:
            await asyncio.wait(under_way)
        self._refuse(self._waiting, "closed")
        self._waiting = []
        self._close_pipes()

    def _submit(
        self, arguments: tuple[Argument, ...], script: Script | None, confirmation: Confirmation | None = None
    ) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue(_Command(arguments, script, functools.partial(_resolve, answer), confirmation))
        return answer

    def _queue(self, command: _Command) -> None:
        if self._breaker.is_open:
            raise RegionUnavailableError(self._region, "skipped after failures")
        if len(self._waiting) >= MAX_WAITING:
            raise RegionUnavailableError(self._region, "too many commands are waiting")
        self._waiting.append(command)
        self._schedule(asyncio.get_running_loop())

    def _launch_at_once(self) -> None:
        if self._idle:
            self._launch()

    @property
    def _is_probing(self) -> bool:
        return self._attempts == 1 and self._breaker.is_half_open and self._idle < PIPELINES

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled and self._idle and self._waiting:
            self._scheduled = True
            loop.call_soon(self._launch)

    def _launch(self) -> None:
        self._scheduled = False
        if self._breaker.is_open or self._is_probing:
            self._refuse(self._waiting, "skipped after failures")
            self._waiting = []
        if not self._idle:  # what was sent at once has taken the last one
            return
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        if batch:
            self._idle -= 1
            pipe = self._idle_pipe()
            if pipe is None:
                self._begin(batch)
            else:
                self._send_over(pipe, batch)
        self._schedule(asyncio.get_running_loop())

    def _idle_pipe(self) -> Pipe | None:
        while self._pipes:
            pipe = self._pipes.pop()
            if pipe.is_open:
                return pipe
        return None

    def _begin(self, batch: list[_Command], came: _Came = None) -> None:
        task = asyncio.get_running_loop().create_task(self._send(batch, came))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._go_on()

    def _go_on(self) -> None:
        self._idle += 1
        self._schedule(asyncio.get_running_loop())

    def _send_over(self, pipe: Pipe, batch: list[_Command]) -> None:
        """Send a batch over an open pipe, without a task; what does not go well goes on in one."""
        confirmations = self._confirmations(batch)
        try:
            wire = _wire(batch, confirmations)
        except Exception as error:  # an argument that cannot be sent
            self._pipes.append(pipe)
            self._begin(batch, error)
            return
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent.add(ended)

        def answered(answers: list[Any]) -> None:
            self._sent.discard(ended)
            ended.set_result(None)
            if pipe.is_open:
                self._pipes.append(pipe)
            came: list[Any] | Exception
            try:
                came = self._read(batch, confirmations, answers)
            except Exception as error:
                came = error
            if isinstance(came, Exception) or any(isinstance(result, NoScriptError) for result in came):
                self._begin(batch, came)
                return
            self._breaker.succeeded()
            self._tell(batch, came)
            self._go_on()

        pipe.ask_for(wire, len(batch) + len(confirmations), answered)

    async def _send(self, batch: list[_Command], came: _Came) -> None:
        """Send a batch, or go on with what came of it already."""
        try:
            results = await self._reload(batch, await self._patiently(batch, came))
        except UNREACHABLE as error:
            refused = unreachable(self._region, error)
            for command in batch:
                command.answered(refused)
        except asyncio.CancelledError:
            self._refuse(batch, "closing")
            raise
        except Exception as error:  # whatever happens, nobody may wait for ever
            self._give_up(batch, error)
        else:
            self._tell(batch, results)

    def _tell(self, batch: Sequence[_Command], results: Sequence[Any]) -> None:
        for command, result in zip(batch, results, strict=True):
            command.answered(refusal(self._region, result) if isinstance(result, Exception) else result)

    def _give_up(self, batch: Sequence[_Command], error: Exception) -> None:
        logger.error("region %s: a pipeline failed", self._region, exc_info=error)
        self._refuse(batch, str(error))

    async def _patiently(self, commands: Sequence[_Command], came: _Came = None) -> list[Any]:
        pause = _FIRST_PAUSE
        for attempt in range(1, self._attempts + 1):
            try:
                if isinstance(came, Exception):
                    raise came
                results = await self._pipeline(commands) if came is None else came
            except UNREACHABLE as error:
                await self._forget_addresses(error)
                if attempt == self._attempts:
                    self._breaker.failed()
                    raise
                came = None
                await asyncio.sleep(pause)
                pause *= 2
            else:
                self._breaker.succeeded()
                return results
        raise AssertionError("attempts is at least 1")

    async def _forget_addresses(self, error: BaseException) -> None:
        """Look anew for the server where the address may lead to another one by now."""
        if isinstance(self._client, RedisCluster):
            await self._client.aclose()
        elif isinstance(error, ReadOnlyError):
            self._close_pipes()
            await self._client.connection_pool.disconnect()

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._pipes = []

    async def _pipeline(self, commands: Sequence[_Command]) -> list[Any]:
        if isinstance(self._client, RedisCluster):
            await self._client.initialize()  # which node holds a key is not known before
        confirmations = self._confirmations(commands)
        answers: Sequence[Any]
        if isinstance(self._client, RedisCluster):
            answers = await _to_nodes(self._client, commands, confirmations)
        else:
            wire = _wire(commands, confirmations)
            answers = await self._through_pipe(self._client, wire, len(commands) + len(confirmations))
        return self._read(commands, confirmations, answers)

    def _confirmations(self, commands: Sequence[_Command]) -> list[tuple[Confirmation, Any]]:
        """What is to be waited for: on each node's connection, behind everything that it has written."""
        found: dict[tuple[Confirmation, Any], None] = {}
        for command in commands:
            if command.confirmation is not None and command.confirmation is not _NOTHING:
                found[command.confirmation, self._node(command)] = None
        return list(found)

    def _read(
        self, commands: Sequence[_Command], confirmations: Sequence[tuple[Confirmation, Any]], answers: Sequence[Any]
    ) -> list[Any]:
        """What the answers to some commands, and to what was to be confirmed of them, say of each."""
        results = list(answers[: len(commands)])
        if self._callbacks is not None:
            results = [
                _parsed(self._callbacks, command.arguments[0], result)
                for command, result in zip(commands, results, strict=True)
            ]
        for answer in answers:
            if isinstance(answer, Exception) and isinstance(answer, UNREACHABLE):
                raise answer
        known = dict(zip(confirmations, answers[len(commands) :], strict=True))
        return [
            result if command.confirmation is None else self._confirmed(command, command.confirmation, result, known)
            for command, result in zip(commands, results, strict=True)
        ]

    async def _through_pipe(self, client: Redis, wire: bytes, count: int) -> list[Any]:
        pipe = self._idle_pipe() or await Pipe.open(client)
        try:
            return await pipe.ask(wire, count)
        finally:
            if pipe.is_open:
                self._pipes.append(pipe)

    def _node(self, command: _Command) -> Any:
        """The node of a Cluster that holds the keys of a command to be confirmed."""
        if command.confirmation is None or not isinstance(self._client, RedisCluster):
            return None
        return self._client.get_node_from_key(command.all_arguments[3])  # type: ignore[arg-type] # octets too

    def _confirmed(self, command: _Command, confirmation: Confirmation, result: Any, answers: Mapping[Any, Any]) -> Any:
        if isinstance(result, Exception):
            return result
        if confirmation is _NOTHING:
            return result, True
        answer = answers.get((confirmation, self._node(command)))  # None: the command was led to another node
        if isinstance(answer, Exception):
            logger.warning("region %s: %s: %s", self._region, confirmation.arguments[0], answer)
        # WAIT answers a number, WAITAOF one for the server itself and one for its replicas.
        number = answer[0] if isinstance(answer, list) else answer
        return result, isinstance(number, int) and number >= confirmation.least

    async def _reload(self, batch: Sequence[_Command], results: list[Any]) -> list[Any]:
        """Send scripts that the server does not know once more, with their text."""
        missing = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
        if not missing:
            return results
        again = []
        for i in missing:
            command = batch[i]
            text = command.script.text if command.script else ""
            again.append(msgspec.structs.replace(command, arguments=("EVAL", text, *command.arguments[2:])))
        for i, result in zip(missing, await self._patiently(again), strict=True):
            results[i] = result
        return results

    def _refuse(self, batch: Sequence[_Command], reason: str) -> None:
        for command in batch:
            command.answered(RegionUnavailableError(self._region, reason))


async def _to_nodes(
    cluster: RedisCluster, commands: Sequence[_Command], confirmations: Sequence[tuple[Confirmation, Any]]
) -> list[Any]:
    """Run commands on the nodes of a Cluster that hold their keys, and confirmations on the nodes that they name."""
    pipeline: Any = cluster.pipeline()
    async with pipeline:
        for command in commands:
            pipeline.execute_command(*command.all_arguments)
        for confirmation, node in confirmations:
            pipeline.execute_command(*confirmation.arguments, target_nodes=node)
        results: list[Any] = await pipeline.execute(raise_on_error=False)
    return results


def _wire(commands: Sequence[_Command], confirmations: Sequence[tuple[Confirmation, Any]]) -> bytes:
    """What goes over one connection."""
    return b"".join(
        [
            *[command.wire for command in commands],
            *[written(confirmation.arguments) for confirmation, _ in confirmations],
        ]
    )


def _parsed(callbacks: Mapping[Any, Any], name: Argument, answer: Any) -> Any:
    """An answer as redis-py gives it."""
    callback = callbacks.get(name) if isinstance(name, str) else None
    return answer if callback is None or isinstance(answer, Exception) else callback(answer)


def unreachable(region: str, error: BaseException) -> RegionUnavailableError:
    """Say that a region cannot be reached, and why."""
    return RegionUnavailableError(region, f"cannot be reached: {str(error) or type(error).__name__}")


def refusal(region: str, error: Exception) -> Exception:
    """The error of a command that the server has refused: `RegionUnavailableError` where it does so for now."""
    is_for_now = isinstance(error, (OutOfMemoryError, MasterDownError)) or (
        isinstance(error, ResponseError) and str(error).startswith(_NOT_NOW)
    )
    return RegionUnavailableError(region, str(error)) if is_for_now else error


def _resolve(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, (RedisError, RegionUnavailableError)):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def as_mapping(answer: Any) -> dict[bytes, Any]:
    """Read an answer of names and values, which redis-py gives as it came or as a dict."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
