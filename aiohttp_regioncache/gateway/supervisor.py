"""The parent of the gateway's workers: it starts, replaces and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

from ..errors import RegionCacheError
from ..settings import Serve
from .listeners import Listeners
from .worker import LINGER_SECONDS, READY, SUCCEEDED

logger = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.5
"""Seconds before a worker that died twice soon is started again; it doubles with each further time."""
LONGEST_DELAY: Final = 30.0
STEADY_SECONDS: Final = 10.0
"""A worker that has lived so long is replaced at once."""
_MARGIN_SECONDS: Final = 15.0

Command = Callable[[int, Sequence[int]], Sequence[str]]
"""The command line of a worker, from the descriptors of the way to its parent and of its sockets."""


class Plan(NamedTuple):
    """How to serve, and the settings as text, which a worker reads from its standard input.

    The text is that of the last start or restart: a worker that is replaced in between is the same as before.
    """

    serve: Serve
    text: bytes


class Worker:
    """A running worker process."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, link: Any) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._link = link
        self.began = asyncio.get_running_loop().time()

    @classmethod
    async def start(cls, command: Command, listening: Sequence[socket.socket], text: bytes) -> Self:
        """Start a process; it has the sockets `listening`, reads `text`, and ends when this process does."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [each.fileno() for each in listening]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command(theirs.fileno(), descriptors),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=(theirs.fileno(), *descriptors),
                    start_new_session=True,  # Ctrl-C is for the parent, which tells its workers
                )
            except BaseException:
                ours.close()
                raise
        reader, link = await asyncio.open_connection(sock=ours)
        if process.stdin is not None:
            process.stdin.write(text)
            process.stdin.close()
        return cls(process, reader, link)

    async def is_ready(self, timeout: float) -> bool:
        """Wait until it takes connections; False when it ended before, or took longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.readline() == READY
        except (TimeoutError, OSError):
            return False

    async def ended(self) -> int:
        """Wait for its end; gives the exit status, that of a signal below 0."""
        status = await self._process.wait()
        self._link.close()
        return status

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def succeed(self) -> None:
        """Tell it that another one has taken over its sockets: it stops without a drain, and stays ready till then."""
        if not self._link.is_closing():
            self._link.write(SUCCEEDED)

    async def end(self, timeout: float) -> None:
        """Let it finish what it does, and end it by force after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.ended()
        except TimeoutError:
            logger.warning("worker %d did not stop in %g s; it is killed", self.pid, timeout)
            self.send(signal.SIGKILL)
            await self.ended()


class Supervisor:
    """Keep `serve.workers` processes running on one address.

    A worker that dies is replaced, at once or, if it dies again and again, after a growing delay. SIGTERM and SIGINT
    stop everything gracefully, a second one at once. SIGHUP reads the settings again with `reload`, starts new workers,
    and stops the old ones when all new ones are ready; the address stays as it is.
    """

    def __init__(self, plan: Plan, command: Command, reload: Callable[[], Plan]) -> None:
        self._plan = plan
        self._command = command
        self._reload = reload
        self._listeners = Listeners(plan.serve)
        self._workers: dict[int, Worker] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._running: dict[Worker, asyncio.Task[int]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stop_asked = asyncio.Event()
        self._hurry_asked = asyncio.Event()
        self._reload_asked = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal ends it; gives the exit status: 1 when the workers cannot be started.

        Raises `OSError` for an address that cannot be had.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        self._listeners.open(self._plan.serve.workers)
        living = asyncio.ensure_future(self._live())
        asked = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait((living, asked), return_when=asyncio.FIRST_COMPLETED)
            return await living if living.done() else 0
        finally:
            logger.info("stopping")
            notify("STOPPING=1")
            await _cancelled(living, asked)
            await self._stop()
            self._listeners.close()

    def _on_stop(self) -> None:
        if self._stop_asked.is_set():
            self._hurry_asked.set()
        self._stop_asked.set()

    async def _live(self) -> int:
        """Start, and restart whenever that is asked for; returns only when the start fails."""
        started = await self._start_all(self._plan)
        if started is None:
            return 1
        self._adopt(started)
        logger.info("listening on %s with %d workers", self._listeners.url, len(self._workers))
        notify("READY=1")
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            notify("RELOADING=1")
            await self._restart()
            notify("READY=1")

    async def _restart(self) -> None:
        """Take the settings as they are now, and replace every worker, or none."""
        try:
            plan = self._reload()
        except (RegionCacheError, OSError) as error:
            logger.error("the settings stay as they were: %s", error)
            return
        if _address(plan.serve) != _address(self._plan.serve):
            logger.warning("another address needs a restart; it stays %s", self._listeners.url)
        started = await self._start_all(plan)
        if started is None:
            logger.error("the settings stay as they were: no worker could be replaced")
            return
        self._adopt(started)  # first: those that go have the time that their own settings give them
        self._plan = plan
        logger.info("%d workers run with the settings as they are now", len(started))

    async def _start_all(self, plan: Plan) -> list[Worker] | None:
        """Start every worker; None, and none is left, when one does not get ready."""
        found = await asyncio.gather(*(self._start(number, plan) for number in range(plan.serve.workers)))
        started = [worker for worker in found if worker is not None]
        if len(started) == len(found):
            return started
        for worker in started:
            self._let_go(worker, succeeded=True)
        return None

    async def _start(self, number: int, plan: Plan) -> Worker | None:
        """Start a worker and wait until it is ready; None when that does not come to be."""
        try:
            listening = self._listeners.of(number, plan.serve.workers)
            worker = await Worker.start(self._command, listening, plan.text)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", number, error)
            return None
        self._running[worker] = asyncio.ensure_future(worker.ended())
        self._running[worker].add_done_callback(lambda _: self._running.pop(worker))
        try:
            is_ready = await worker.is_ready(plan.serve.start_timeout)
        except asyncio.CancelledError:
            self._let_go(worker)
            raise
        if is_ready:
            logger.info("worker %d (process %d) is ready", number, worker.pid)
            return worker
        logger.error("worker %d (process %d) did not get ready", number, worker.pid)
        worker.send(signal.SIGKILL)
        await worker.ended()
        return None

    def _adopt(self, started: Sequence[Worker]) -> None:
        """Put new workers in the place of all that there are."""
        for keeper in self._keepers.values():
            keeper.cancel()
        for worker in self._workers.values():
            self._let_go(worker, succeeded=True)
        self._workers = dict(enumerate(started))
        self._keepers = {number: asyncio.ensure_future(self._keep(number)) for number in self._workers}

    async def _keep(self, number: int) -> None:
        """Start a worker again whenever the present one has ended by itself."""
        delay = 0.0
        while True:
            worker = self._workers[number]
            status = await worker.ended()
            logger.error("worker %d (process %d) ended with status %d", number, worker.pid, status)
            lived = asyncio.get_running_loop().time() - worker.began
            delay = 0.0 if lived >= STEADY_SECONDS else delay
            while (another := await self._start_after(delay, number)) is None:
                delay = next_delay(delay)
            self._workers[number] = another
            delay = next_delay(delay)

    async def _start_after(self, delay: float, number: int) -> Worker | None:
        if delay:
            self._listeners.drop(number, self._plan.serve.workers)
            logger.warning("worker %d is started again in %g s", number, delay)
            await asyncio.sleep(delay)
        return await self._start(number, self._plan)

    def _let_go(self, worker: Worker, *, succeeded: bool = False) -> None:
        """Have a worker stop; `succeeded` says that others listen on its sockets."""
        if succeeded:
            worker.succeed()
        else:
            worker.send(signal.SIGTERM)
        serve = self._plan.serve
        task = asyncio.ensure_future(
            worker.end(serve.drain + LINGER_SECONDS + serve.stop_timeout + _MARGIN_SECONDS),
        )
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _stop(self) -> None:
        await _cancelled(*self._keepers.values())
        self._listeners.release()
        for worker in list(self._running):
            self._let_go(worker)
        hurry = asyncio.ensure_future(self._hurry_asked.wait())
        ending = asyncio.ensure_future(_all(self._ending))
        await asyncio.wait((hurry, ending), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            logger.warning("stopping at once")
            for worker in list(self._running):
                worker.send(signal.SIGKILL)
            await ending
        await _cancelled(hurry)


def _address(serve: Serve) -> tuple[object, ...]:
    return serve.host, serve.port, serve.socket


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def next_delay(delay: float) -> float:
    """The seconds to wait before the next attempt, after one that waited `delay`."""
    return min(LONGEST_DELAY, 2 * delay) if delay else FIRST_DELAY


def notify(state: str) -> None:
    """Tell systemd, if it started this process as `Type=notify` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
