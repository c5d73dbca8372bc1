"""The parent of the gateway's workers: it starts, replaces and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from ..errors import RegionCacheError
from ..settings import Serve
from .listeners import Listeners
from .worker import LINGER_SECONDS, READY

logger = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.5
"""Seconds before a worker that died twice soon is started again; it doubles with each further time."""
LONGEST_DELAY: Final = 30.0
STEADY_SECONDS: Final = 10.0
"""A worker that has lived so long is replaced at once."""
_MARGIN_SECONDS: Final = 15.0

Command = Callable[[int, int], Sequence[str]]
"""The command line of a worker, from the descriptors of its socket and of the way to its parent."""


class Worker:
    """A running worker process."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, link: Any) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._link = link
        self.began = asyncio.get_running_loop().time()

    @classmethod
    async def start(cls, command: Command, listening: socket.socket) -> Self:
        """Start a process; it has the socket `listening`, and ends when this process does."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (listening.fileno(), theirs.fileno())
            try:
                process = await asyncio.create_subprocess_exec(
                    *command(*descriptors),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=descriptors,
                    process_group=0,  # Ctrl-C is for the parent, which tells its workers
                )
            except BaseException:
                ours.close()
                raise
        reader, link = await asyncio.open_connection(sock=ours)
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

    async def stop(self, timeout: float) -> None:
        """Have it finish what it does, and end it by force after `timeout` seconds."""
        self.send(signal.SIGTERM)
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
    and stops the old ones when the new ones are ready; address and certificates' place stay as they are.
    """

    def __init__(self, serve: Serve, command: Command, reload: Callable[[], Serve]) -> None:
        self._serve = serve
        self._command = command
        self._reload = reload
        self._listeners = Listeners(serve)
        self._workers: dict[int, Worker] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def run(self) -> int:
        """Run until a signal ends it; gives the exit status: 1 when the workers cannot be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        try:
            if not await self._start():
                return 1
            logger.info("listening on %s with %d workers", self._listeners.url, len(self._workers))
            notify("READY=1")
            await self._obey()
            return 0
        finally:
            notify("STOPPING=1")
            await self._stop()
            self._listeners.close()

    async def _start(self) -> bool:
        """Start every worker; False when one does not get ready. Signals are obeyed after that."""
        return all(await asyncio.gather(*(self._replace(number) for number in range(self._serve.workers))))

    async def _obey(self) -> None:
        while await self._signals.get() == signal.SIGHUP:
            notify("RELOADING=1")
            await self._restart()
            notify("READY=1")
        logger.info("stopping")

    async def _restart(self) -> None:
        """Take the settings as they are now, and replace every worker."""
        try:
            serve = self._reload()
        except (RegionCacheError, OSError) as error:
            logger.error("the settings stay as they were: %s", error)
            return
        if (serve.host, serve.port, serve.socket) != (self._serve.host, self._serve.port, self._serve.socket):
            logger.warning("another address needs a restart; it stays %s", self._listeners.url)
        before, self._serve = self._serve.workers, serve
        replaced = await asyncio.gather(*(self._replace(number) for number in range(serve.workers)))
        if not all(replaced):
            logger.error("not every worker could be replaced; those go on as they were")
            return
        for number in range(serve.workers, before):
            self._retire(number)
        logger.info("%d workers run with the settings as they are now", serve.workers)

    async def _replace(self, number: int) -> bool:
        """Start a worker in the place of the present one, if there is one; that stops when the new one is ready."""
        try:
            worker = await Worker.start(self._command, self._listeners.of(number))
        except OSError as error:
            logger.error("worker %d cannot be started: %s", number, error)
            return False
        if not await worker.is_ready(self._serve.start_timeout):
            logger.error("worker %d (process %d) did not get ready", number, worker.pid)
            worker.send(signal.SIGKILL)
            await worker.ended()
            return False
        before = self._workers.get(number)
        self._workers[number] = worker
        logger.info("worker %d (process %d) is ready", number, worker.pid)
        if before is not None:
            self._let_go(before)
        if number not in self._keepers:
            self._keepers[number] = asyncio.ensure_future(self._keep(number))
        return True

    async def _keep(self, number: int) -> None:
        """Start a worker again whenever the present one has ended by itself."""
        delay = 0.0
        while True:
            worker = self._workers[number]
            status = await worker.ended()
            if self._workers[number] is not worker:
                continue  # it was replaced
            logger.error("worker %d (process %d) ended with status %d", number, worker.pid, status)
            lived = asyncio.get_running_loop().time() - worker.began
            delay = 0.0 if lived >= STEADY_SECONDS else delay
            while not await self._again(number, delay):
                delay = next_delay(delay)
            delay = next_delay(delay)

    async def _again(self, number: int, delay: float) -> bool:
        if delay:
            self._listeners.drop(number)
            logger.warning("worker %d is started again in %g s", number, delay)
            await asyncio.sleep(delay)
        return await self._replace(number)

    def _retire(self, number: int) -> None:
        """Do without a worker."""
        self._keepers.pop(number).cancel()
        self._let_go(self._workers.pop(number))
        self._listeners.drop(number)

    def _let_go(self, worker: Worker) -> None:
        task = asyncio.ensure_future(worker.stop(self._stop_timeout))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    @property
    def _stop_timeout(self) -> float:
        return self._serve.drain + LINGER_SECONDS + self._serve.stop_timeout + _MARGIN_SECONDS

    async def _stop(self) -> None:
        for keeper in self._keepers.values():
            keeper.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            self._let_go(worker)
        impatient = asyncio.ensure_future(self._signals.get())
        ending = asyncio.ensure_future(_all(self._retiring))
        await asyncio.wait((impatient, ending), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            logger.warning("stopping at once")
            for worker in workers:
                worker.send(signal.SIGKILL)
            await ending
        impatient.cancel()


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


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
