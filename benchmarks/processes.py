"""Processes that are measured: started on a core, watched, ended with the one who started them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from . import cores

HOST: Final = "127.0.0.1"
_READY_WITHIN: Final = 20.0
_STOP_WITHIN: Final = 10.0
_POLL: Final = 0.02
_KIB_OF_PAGE: Final = os.sysconf("SC_PAGE_SIZE") // 1024

# Ends the command when its own input ends: also when the benchmark has been killed.
_GUARD: Final = 'exec 3<&0; "$@" </dev/null 3<&- & read -r line <&3; kill -TERM $! 2>/dev/null; wait $!'

# Below the ports that the system gives to outgoing connections, and beside those of the tests.
_PORTS: Final = range(12_000, 20_000)
_numbers = itertools.count(random.randrange(len(_PORTS)))


def free_port() -> int:
    """A TCP port that nobody listens on now, another one each time."""
    while True:
        port = _PORTS[next(_numbers) % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def until(is_true: Callable[[], bool], what: str, *, within: float = _READY_WITHIN, every: float = _POLL) -> None:
    """Wait until something is true. Raises `TimeoutError`, saying `what` did not happen."""
    deadline = time.monotonic() + within
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {within:g} s")
        time.sleep(every)


class Times(NamedTuple):
    """Seconds that a process has run, and that it could have run while others had the core."""

    used: float
    waited: float

    def since(self, before: Times) -> Times:
        """What has come since `before`."""
        return Times(self.used - before.used, self.waited - before.waited)


class Process:
    """A server on `port`, started by `command` on some cores; its output goes into the file `log`."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        *,
        log: Path,
        on: frozenset[int] = cores.SERVER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._log = log
        self._name = " ".join(command[:4])
        with cores.pinned(on), log.open("wb") as output:
            self._guard = subprocess.Popen(
                ("/bin/sh", "-c", _GUARD, "guard", *command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    def ready(self) -> None:
        """Wait until it takes connections.

        Raises `RuntimeError` when it has ended, and `TimeoutError`, with the end of its log.
        """
        was_there = False

        def is_ready() -> bool:
            nonlocal was_there
            is_there = bool(self._pids())
            if was_there and not is_there:
                raise RuntimeError(f"{self._name} has ended: {self._said()}")
            was_there = is_there
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, self.port), 1.0).close()
                return True
            return False

        try:
            until(is_ready, "it takes no connections")
        except TimeoutError as error:
            raise TimeoutError(f"{self._name}: {error}: {self._said()}") from None

    def _said(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:]

    def end(self) -> None:
        """Tell it to end."""
        assert self._guard.stdin is not None  # noqa: S101 - it was asked for
        self._guard.stdin.close()

    def stop(self) -> None:
        """End it and wait for that, by force when it does not end by itself."""
        self.end()
        try:
            self._guard.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()

    def cpu_seconds(self) -> float:
        """Seconds of a core that it has used, with its children."""
        return self.times().used

    def times(self) -> Times:
        """What it has used of its cores, and what it has waited for one, with its children."""
        used, waited = 0, 0
        for pid in self._pids():
            for ran, stood in _times_of(pid):
                used += ran
                waited += stood
        return Times(used / 1e9, waited / 1e9)

    def rss_kib(self) -> int:
        """KiB of memory that are resident, with those of its children."""
        return sum(map(_rss_of, self._pids()))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its children."""
        for pid in self._pids():
            os.kill(pid, number)

    def threads(self) -> list[int]:
        """The numbers of its threads, with those of its children."""
        return [int(task.name) for pid in self._pids() for task in _tasks_of(pid)]

    def _pids(self) -> list[int]:
        return list(_below(self._guard.pid))


def _below(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in _tasks_of(pid):
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)


def _tasks_of(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").iterdir()


def _times_of(pid: int) -> Iterator[tuple[int, int]]:
    """Nanoseconds on a core and in wait for one, of each thread."""
    with contextlib.suppress(OSError):
        for task in _tasks_of(pid):
            used, waited, *_ = (task / "schedstat").read_text().split()
            yield int(used), int(waited)


def _rss_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _KIB_OF_PAGE
    return 0


def module(name: str, *arguments: object) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", name, *map(str, arguments)]
