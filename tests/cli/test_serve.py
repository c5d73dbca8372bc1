"""The server in real processes: workers, signals, health, TLS, the access log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.cli.tools import write_config
from tests.support import eventually
from tests.support.certificates import Authority
from tests.support.servers import free_port
from tests.support.world import World


class Server:
    """A running `aiohttp-regioncache serve`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.log: list[str] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode())

    def said(self, text: str) -> bool:
        """Whether something stands in its log."""
        return any(text in line for line in self.log)

    @property
    def workers(self) -> list[int]:
        """The processes that have become ready, in that order."""
        return [int(found[1]) for line in self.log if (found := re.search(r"process (\d+)\) is ready", line))]

    async def ended(self) -> int:
        """Wait for its end."""
        status = await asyncio.wait_for(self.process.wait(), 40)
        await self._reading
        return status

    async def kill(self) -> None:
        """End it whatever it does."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except TimeoutError:
                self.process.kill()
        await self._reading


async def _started(config: Path, options: list[str], out: Path | None) -> asyncio.subprocess.Process:
    with contextlib.ExitStack() as stack:
        log = asyncio.subprocess.DEVNULL if out is None else stack.enter_context(out.open("wb"))
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aiohttp_regioncache", "serve", "-c", str(config), *options,
            stdout=log, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


def _change(config: Path, more: str, *, whole: bool = False) -> None:
    config.write_text(more if whole else config.read_text("utf-8") + more, "utf-8")


@contextlib.asynccontextmanager
async def serving(config: Path, *options: str, url: str = "", out: Path | None = None) -> AsyncIterator[Server]:
    """Run a server until it is left; it listens on a free port unless `options` say otherwise."""
    port = free_port()
    where = () if "--socket" in options or "--port" in options else ("--port", str(port))
    process = await _started(config, [*where, *options], out)
    server = Server(process, url or f"http://127.0.0.1:{port}")
    try:
        await eventually(lambda: server.said("listening on") or process.returncode is not None, within=30)
        yield server
    finally:
        await server.kill()


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "world") as world:
        world.origin.documents["/pages/1"] = {"n": 1}
        yield world


@pytest.fixture
def config(tmp_path: Path, world: World) -> Path:
    return write_config(tmp_path, world, origin=world.origin.url)


async def _get(url: str, **options: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, **options) as answer:
        return answer.status, await answer.text()


async def test_workers_answer_and_one_that_is_killed_is_replaced(config: Path) -> None:
    async with serving(config, "--workers", "2") as server:
        assert len(server.workers) == 2
        for _ in range(20):
            assert (await _get(f"{server.url}/pages/1"))[0] == 200
        os.kill(server.workers[0], signal.SIGKILL)
        await eventually(lambda: len(server.workers) == 3, within=20)
        for _ in range(20):
            assert (await _get(f"{server.url}/pages/1"))[0] == 200


async def test_a_graceful_restart_loses_no_request(world: World, config: Path) -> None:
    async with serving(config, "--workers", "2") as server:
        failed: list[str] = []
        stop = asyncio.Event()

        async def load(session: aiohttp.ClientSession) -> int:
            count = 0
            while not stop.is_set():
                try:
                    async with session.get(f"{server.url}/pages/{count % 7}") as answer:
                        await answer.read()
                        failed.extend([str(answer.status)] if answer.status not in (200, 404) else [])
                except aiohttp.ClientError as error:
                    failed.append(repr(error))
                count += 1
            return count

        async with aiohttp.ClientSession() as session:
            loads = [asyncio.ensure_future(load(session)) for _ in range(4)]
            for turn in (1, 2):
                server.process.send_signal(signal.SIGHUP)
                await eventually(lambda turn=turn: len(server.workers) == 2 + 2 * turn, within=30)  # type: ignore[misc]
            await eventually(lambda: sum("settings as they are now" in line for line in server.log) == 2, within=30)
            stop.set()
            counts = await asyncio.gather(*loads)
        assert failed == []
        assert sum(counts) > 100


async def test_settings_that_are_wrong_change_nothing_at_a_restart(config: Path) -> None:
    async with serving(config) as server:
        _change(config, "regoins = []", whole=True)
        server.process.send_signal(signal.SIGHUP)
        await eventually(lambda: server.said("the settings stay as they were"), within=20)
        assert server.said("regoins")
        assert (await _get(f"{server.url}/pages/1"))[0] == 200


async def test_a_stop_lets_requests_end_and_readiness_says_so(world: World, config: Path) -> None:
    _change(config, "\n[serve]\ndrain = 1\n")
    async with serving(config) as server:
        ready = f"{server.url}/_regioncache/health/ready"
        assert (await _get(ready))[0] == 200
        assert (await _get(f"{server.url}/_regioncache/health/live"))[0] == 200
        assert (await _get(ready, headers={"X-Forwarded-For": "192.0.2.1"}))[0] == 404
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(_get(f"{server.url}/pages/1"))
        await eventually(lambda: bool(world.origin.reads["/pages/1"]))
        server.process.send_signal(signal.SIGTERM)

        async def is_stopping() -> bool:
            return (await _get(ready))[0] == 503

        await eventually(is_stopping)
        world.origin.read_gate.set()
        assert (await slow)[0] == 200
        assert await server.ended() == 0


async def test_workers_end_with_their_parent(config: Path) -> None:
    async with serving(config, "--workers", "2") as server:
        server.process.kill()

        def are_gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in server.workers)

        await eventually(are_gone, within=20)


async def test_a_port_that_is_taken_is_a_clear_error(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with serving(config, "--port", str(taken.getsockname()[1])) as server:
            assert await server.ended() == 1
    assert server.said("Address already in use")
    assert not server.said("Traceback")


async def test_a_unix_socket_and_one_that_was_left_behind(tmp_path: Path, config: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(config, "--socket", str(path), url=f"unix:{path}") as server:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get("http://shop.example/pages/1") as answer:
                assert answer.status == 200
            async with session.get("http://shop.example/_regioncache/health/ready") as answer:
                assert answer.status == 200
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    assert not path.exists()


async def test_tls(tmp_path: Path, config: Path) -> None:
    authority = Authority(tmp_path, "shop.example")
    port = free_port()
    options = ("--port", str(port), "--tls-cert", str(authority.certificate), "--tls-key", str(authority.key))
    async with serving(config, *options, url=f"https://127.0.0.1:{port}") as server:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        status, _ = await _get(f"{server.url}/pages/1", ssl=context, server_hostname="shop.example")
        assert status == 200
        assert server.said("https://127.0.0.1")


@pytest.mark.parametrize("form", ["json", "common"])
async def test_the_access_log(tmp_path: Path, config: Path, form: str) -> None:
    out = tmp_path / "access.log"
    async with serving(config, "--access-log", form, out=out) as server:
        for _ in range(2):
            await _get(f"{server.url}/pages/1", headers={"User-Agent": 'a "b"\u00e9'})
        await eventually(lambda: len(out.read_text("utf-8").splitlines()) == 2)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    lines = out.read_text("utf-8").splitlines()
    if form == "json":
        first, second = (json.loads(line) for line in lines)
        assert (first["status"], first["path"], first["region"]) == (200, "/pages/1", "ap-northeast-1")
        assert "hit" in second["cache_status"]
    else:
        assert all('"GET /pages/1 HTTP/1.1" 200' in line for line in lines)


async def test_without_an_origin_there_is_nothing_to_serve(tmp_path: Path, world: World) -> None:
    async with serving(write_config(tmp_path, world)) as server:
        assert await server.ended() == 2
    assert server.said("origin: is missing")
