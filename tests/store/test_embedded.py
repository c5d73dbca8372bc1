"""Embedded servers: one owner per directory, nothing lost and nothing left behind."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from aiohttp_regioncache.errors import EmbeddedServerError, SettingsError
from aiohttp_regioncache.store.embedded import (
    EmbeddedOptions,
    EmbeddedServer,
    find_server_binary,
    load_or_make_secret,
    parse_embedded_url,
    unix_socket_in,
)
from tests.support import eventually

OWNER = """
import asyncio, sys
from aiohttp_regioncache.store.embedded import EmbeddedServer

async def main():
    server = await EmbeddedServer.open(sys.argv[1])
    print(server.pid, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await server.close()

asyncio.run(main())
"""

Open = Callable[[str], Awaitable[EmbeddedServer]]


@pytest.fixture
async def open_server() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_one(url: str) -> EmbeddedServer:
            server = await EmbeddedServer.open(url)
            stack.push_async_callback(server.close)
            return server

        yield open_one


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "home"


@pytest.fixture
def url(directory: Path) -> str:
    return f"embedded://{directory}"


@asynccontextmanager
async def owner_process(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run another Python process that owns the server; a line on its input lets it leave."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, url, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() not in (b"None\n", b"")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def execute(server: EmbeddedServer, *command: str) -> Any:
    """Execute a command, again while the server is being started."""
    async with asyncio.timeout(10), Redis.from_url(server.url) as client:
        run: Any = client.execute_command  # untyped in redis-py
        while True:
            try:
                return await run(*command)
            except RedisConnectionError:
                await asyncio.sleep(0.01)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_locked(directory: Path) -> bool:
    """Tell whether an owner or a server lives; an ended process that nobody has reaped does not count."""
    with (directory / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("embedded://./data/home", EmbeddedOptions(path=Path("data/home"))),
        ("embedded://Data/home", EmbeddedOptions(path=Path("Data/home"))),
        ("embedded:///abs/path", EmbeddedOptions(path=Path("/abs/path"))),
        ("embedded:///a%20b%3Fc", EmbeddedOptions(path=Path("/a b?c"))),
        (
            "embedded://x?appendfsync=always&maxmemory=64mb",
            EmbeddedOptions(path=Path("x"), appendfsync="always", maxmemory="64mb"),
        ),
    ],
)
def test_url_is_parsed(url: str, options: EmbeddedOptions) -> None:
    assert parse_embedded_url(url) == options


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://localhost", "embedded://PATH"),
        ("embedded://", "path of a directory"),
        ("embedded://?appendfsync=no", "path of a directory"),
        ("embedded:///a%00b", "path of a directory"),
        ("embedded://x?port=1", "'port' is unknown"),
        ("embedded://x?appendfsync", "'appendfsync' must be one of always, everysec, no"),
        ("embedded://x?appendfsync=sometimes", "'appendfsync' must be one of always, everysec, no"),
        ("embedded://x?maxmemory=lots", "'maxmemory' must be a size"),
        ("embedded://x?maxmemory=0", "'maxmemory' must be a size"),
        ("embedded://x?maxmemory=1mb&maxmemory=2mb", "'maxmemory' is given twice"),
    ],
)
def test_bad_url_is_refused_by_name(url: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"redis: .*{problem}"):
        parse_embedded_url(url)


async def test_settings_of_the_server(open_server: Open, url: str, directory: Path) -> None:
    server = await open_server(f"{url}?appendfsync=always&maxmemory=64mb")
    config = await execute(server, "CONFIG GET", "*")
    assert config["port"] == "0"
    assert config["save"] == ""
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
    assert (config["maxmemory"], config["maxmemory-policy"]) == (str(64 * 2**20), "volatile-lru")
    assert mode_of(directory) == 0o700
    assert server.url == f"unix://{directory}/server.sock"
    assert server.pid is not None
    assert os.getsid(server.pid) != os.getsid(0), "Ctrl-C must not reach the server"


async def test_unlimited_memory_evicts_nothing(open_server: Open, url: str) -> None:
    server = await open_server(url)
    config = await execute(server, "CONFIG GET", "*")
    assert (config["appendfsync"], config["maxmemory"]) == ("everysec", "0")
    assert config["maxmemory-policy"] == "noeviction"


async def test_relative_path_with_blanks(open_server: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = await open_server("embedded://./my%20data")
    assert server.directory == tmp_path / "my data"
    assert await execute(server, "PING")


async def test_data_persists_and_nothing_else_is_left(open_server: Open, url: str, directory: Path) -> None:
    server = await open_server(url)
    await execute(server, "SET", "key", "value")
    await server.close()
    assert not is_locked(directory)
    assert names_in(directory) == ["appendonlydir", "lock", "server.log"]
    again = await open_server(url)
    assert again.is_owner
    assert await execute(again, "GET", "key") == b"value"


async def test_two_objects_in_one_process_share_one_server(open_server: Open, url: str) -> None:
    first = await open_server(url)
    second = await open_server(url)
    assert (first.is_owner, second.is_owner, second.pid) == (True, False, None)
    await execute(first, "SET", "key", "value")
    await first.close()
    await eventually(lambda: second.is_owner)
    assert await execute(second, "GET", "key") == b"value"


async def test_many_openers_at_once_make_one_owner(url: str) -> None:
    servers = await asyncio.gather(*(EmbeddedServer.open(url) for _ in range(5)))
    try:
        assert [server.is_owner for server in servers].count(True) == 1
    finally:
        await asyncio.gather(*(server.close() for server in servers))


@pytest.mark.parametrize("farewell", ["leaves", "is killed"])
async def test_takeover_from_another_process(open_server: Open, url: str, farewell: str) -> None:
    async with owner_process(url) as owner:
        server = await open_server(url)
        assert not server.is_owner
        await execute(server, "SET", "key", "value")
        if farewell == "leaves":
            await owner.communicate(b"\n")
            assert owner.returncode == 0
        else:
            owner.kill()
        await eventually(lambda: server.is_owner)
    assert await execute(server, "GET", "key") == b"value"


async def test_killed_parent_leaves_no_orphan_and_loses_nothing(open_server: Open, url: str, directory: Path) -> None:
    async with owner_process(url) as owner, Redis.from_url(f"unix://{directory}/server.sock") as client:
        for number in range(1000):
            await client.set(f"key:{number}", number)
        owner.kill()
        await owner.wait()
    await eventually(lambda: not is_locked(directory))
    server = await open_server(url)
    assert await execute(server, "DBSIZE") == 1000


async def test_killed_parent_of_a_server_that_hangs_leaves_no_orphan(url: str, directory: Path) -> None:
    async with owner_process(url) as owner:
        os.kill(int((directory / "server.pid").read_text()), signal.SIGSTOP)
        owner.kill()
        await owner.wait()
        assert is_locked(directory), "the server itself must hold the lock"
    await eventually(lambda: not is_locked(directory))


async def test_killed_server_comes_back(open_server: Open, url: str, caplog: pytest.LogCaptureFixture) -> None:
    server = await open_server(f"{url}?appendfsync=always")
    await execute(server, "SET", "key", "value")
    killed = server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: server.pid not in (None, killed))
    assert await execute(server, "GET", "key") == b"value"
    assert "ended with status -9" in caplog.text


async def test_broken_data_is_an_error_with_the_log(open_server: Open, url: str, directory: Path) -> None:
    server = await open_server(url)
    await server.close()
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended with status 1; its log ends:.*manifest"):
        await EmbeddedServer.open(url)
    assert not is_locked(directory)


async def test_server_that_does_not_answer_in_time(url: str, directory: Path) -> None:
    async with owner_process(url):
        pid = int((directory / "server.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EmbeddedServerError, match=r"did not answer within 0\.2 s"):
            await EmbeddedServer.open(url, start_timeout=0.2)


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o750)
    return path


async def test_directory_open_to_others_is_refused(open_directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="must belong to this user alone"):
        await EmbeddedServer.open(f"embedded://{open_directory}")


async def test_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="cannot use the directory"):
        await EmbeddedServer.open(f"embedded://{tmp_path}/file")


async def test_long_path_has_its_socket_elsewhere(open_server: Open, tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 120)
    server = await open_server(f"embedded://{directory}")
    other = await open_server(f"embedded://{directory}")
    assert not other.is_owner
    assert len(bytes(server.socket_path)) <= 103
    assert mode_of(server.socket_path.parent) == 0o700
    assert await execute(other, "PING")
    await other.close()
    await server.close()
    assert not server.socket_path.parent.exists()


async def test_foreign_socket_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = tmp_path / ("x" * 120)
    unix_socket_in(directory).parent.mkdir(mode=0o755)
    with pytest.raises(EmbeddedServerError, match="must belong to this user alone"):
        await EmbeddedServer.open(f"embedded://{directory}")


def test_binary_is_found() -> None:
    assert os.access(find_server_binary(), os.X_OK)


def test_binary_on_path_serves_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-server").symlink_to(find_server_binary())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary() == tmp_path / "redis-server"


async def test_missing_binary_says_what_to_install(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedServerError, match=r"aiohttp-regioncache\[embedded\].*valkey-server"):
        await EmbeddedServer.open(url)


def test_secret_is_made_once_and_private(directory: Path) -> None:
    secret = load_or_make_secret(directory)
    assert len(secret) == 43
    assert load_or_make_secret(directory) == secret
    assert mode_of(directory / "secret") == 0o600
    assert names_in(directory) == ["secret"]


def test_processes_that_race_get_the_same_secret(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as processes:
        for turn in range(20):
            secrets = set(processes.map(load_or_make_secret, [tmp_path / str(turn)] * 4))
            assert len(secrets) == 1


def test_damaged_secret_is_refused(directory: Path) -> None:
    load_or_make_secret(directory)
    (directory / "secret").write_text("")
    with pytest.raises(EmbeddedServerError, match="no usable secret"):
        load_or_make_secret(directory)
