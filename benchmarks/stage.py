"""What every measurement stands on: a directory, a Redis, an origin, and servers that end with it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from redis import Redis

from . import cores
from .load import Asked, Load
from .processes import HOST, Process, free_port, module, until
from .servers import regioncache, valkey

HOOKS: Final = Path(__file__).parent / "hooks"
_NO_UVLOOP: Final = {"PYTHONPATH": str(HOOKS), "BENCH_NO_UVLOOP": "1"}
_DATABASES: Final = 128

Command = Callable[[int], Sequence[str]]
"""Makes the command of a server from the port that it is to listen on."""


class Stage:
    """`with Stage() as stage`: `stage.start(...)`, `stage.redis(database)`, `stage.origin.port`.

    Everything listens on loopback alone.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="regioncache-bench-"))
        self.origin: Process
        self.valkey: Process
        self._stack = contextlib.ExitStack()
        self._started = 0
        self._database = 0
        self._emptied: list[int] = []
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        try:
            self.valkey = self.start(lambda port: valkey.command(self.directory / "valkey", port), on=cores.LOAD)
            self.origin = self.start(lambda port: module("benchmarks.servers.origin", port), on=cores.LOAD)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process not in (self.valkey, self.origin):  # the others need these to the end
                process.end()
        self._stack.close()

    def start(
        self, command: Command, *, on: frozenset[int] = cores.SERVER, environment: dict[str, str] | None = None
    ) -> Process:
        """Start a server and wait until it takes connections; without uvloop, unless `environment` says otherwise."""
        port = free_port()
        self._started += 1
        log = self.directory / f"{self._started}.log"
        process = Process(
            command(port), port, log=log, on=on, environment=_NO_UVLOOP if environment is None else environment
        )
        self._stack.callback(process.stop)
        self._processes.append(process)
        process.ready()
        return process

    def serve(self, *, workers: int = 1, **options: Any) -> Process:
        """Start `aiohttp-regioncache serve` in front of the origin; `options` as in `servers.regioncache.settings`."""
        on = options.pop("on", cores.SERVER)
        environment = options.pop("environment", None)
        file = self.settings(**options)
        return self.start(
            lambda port: regioncache.command(file, port, workers),
            on=on,
            environment=environment,
        )

    def settings(self, **options: Any) -> Path:
        """Write the settings of one of our servers, with a database of its own unless `redis` is given."""
        if "redis" not in options:
            database = self.database()
            options["redis"] = self.redis_url(database)
            if options.pop("emptied", options.get("behind", False)):
                self._emptied.append(database)
        options.setdefault("origin", self.origin.port)
        self._started += 1
        return regioncache.write(self.directory / f"{self._started}.toml", regioncache.settings(**options))

    def database(self) -> int:
        """A database of the Redis that nobody uses yet."""
        self._database += 1
        if self._database >= _DATABASES:
            raise RuntimeError("no database is left")
        return self._database

    def empty(self) -> None:
        """Forget the writes that wait, which nobody replays, and what is to be stored anew."""
        self.drop(*self._emptied)

    def drop(self, *databases: int) -> None:
        """Make databases empty."""
        for database in databases:
            with self.redis(database) as redis:
                redis.flushdb()

    def redis_url(self, database: int) -> str:
        """The address of a database."""
        return f"redis://{HOST}:{self.valkey.port}/{database}"

    def redis(self, database: int) -> Redis:
        """A plain client of a database."""
        return Redis(host=HOST, port=self.valkey.port, db=database)


def until_right(port: int, plan: Sequence[Asked], *, anew: Callable[[], None] | None = None) -> None:
    """Wait until a server gives the right answer to every request of a plan; it may have to fetch something first.

    `anew` is called before each try.
    """

    def is_right() -> bool:
        if anew is not None:
            anew()
        load = Load(port, [plan], connections=1)
        try:
            return not load.closed(once=True).wrong
        except OSError:
            return False
        finally:
            load.close()

    until(is_right, f"the server on port {port} gives no right answers")
