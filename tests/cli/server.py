"""The server as its users run it: a parent and its workers, in processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import eventually

_READY = re.compile(r"worker (\d+) \(process (\d+)\) is ready")
_LISTENS = re.compile(r"listening on (\S+) with")


class Server:
    """`async with Server(config, "--workers", "2") as server`: it listens, on a free port unless told otherwise.

    With `waits=False` it is only being started.
    `log` is what it has said so far, `access` the lines of its access log.
    """

    def __init__(self, config: Path, *arguments: str | Path, waits: bool = True) -> None:
        address = () if {"--socket", "--port"} & {*map(str, arguments)} else ("--port", "0")
        self._arguments = ("serve", "-c", str(config), *map(str, arguments), *address)
        self._waits = waits
        self.log: list[str] = []
        self.access: list[str] = []
        self.process: asyncio.subprocess.Process
        self._readers: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where it says that it listens."""
        return next(match[1] for line in self.log if (match := _LISTENS.search(line)))

    @property
    def started(self) -> list[int]:
        """The process ids of all workers that have got ready so far, in this order."""
        return [int(match[2]) for line in self.log if (match := _READY.search(line))]

    def children(self) -> list[int]:
        """The process ids of the parent's children."""
        parent = self.process.pid
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    def pid_of(self, number: int) -> int:
        """The process id of the worker that got ready last under this number."""
        return [int(m[2]) for line in self.log if (m := _READY.search(line)) and int(m[1]) == number][-1]

    def says(self, text: str) -> bool:
        """Whether a line of its log holds `text`."""
        return any(text in line for line in self.log)

    def send(self, number: signal.Signals) -> None:
        """Send the parent a signal."""
        self.process.send_signal(number)

    def is_running(self, pid: int) -> bool:
        """Whether one of its processes has not ended; its number may be another's by now."""
        try:
            return self._arguments[2].encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between opening and reading
            return False

    def send_to(self, pid: int, number: signal.Signals) -> None:
        """Send one of its processes a signal."""
        assert self.is_running(pid)
        os.kill(pid, number)

    async def reload(self, *, workers: int) -> None:
        """Restart it gracefully, and wait until `workers` new ones have taken over."""
        before = len(self.started)
        self.send(signal.SIGHUP)
        await eventually(lambda: len(self.started) == before + workers, within=30)

    async def status(self) -> int:
        """Wait for its end; gives the exit status."""
        async with asyncio.timeout(30):
            status = await self.process.wait()
            await asyncio.gather(*self._readers)
        return status

    async def _start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aiohttp_regioncache", *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        for stream, lines in ((self.process.stderr, self.log), (self.process.stdout, self.access)):
            assert stream is not None
            self._readers.append(asyncio.ensure_future(_read(stream, lines)))

    async def __aenter__(self) -> Self:
        await self._start()
        try:
            if self._waits:
                await eventually(lambda: self.says("listening on") or self.process.returncode is not None, within=30)
                assert self.process.returncode is None, self.log
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        for pid in (self.process.pid, *self.started):
            if self.is_running(pid):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
        await self.status()


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode().rstrip("\n"))
