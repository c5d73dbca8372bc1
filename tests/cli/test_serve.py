"""The server in real processes: workers, signals, sockets, TLS, the access log, readiness."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.cli.server import Server
from tests.cli.tools import REGIONS, command, write_config
from tests.support import eventually
from tests.support.certificates import Authority
from tests.support.world import World

READY = "/_regioncache/health/ready"
LIVE = "/_regioncache/health/live"
COMMON = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /pages/1\?q=%22 HTTP/1\.1" 200 8 '
    r'"-" "a \\x22 b\\xc3\\xa9" "([^"]+)" \d+\.\d'
)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "world", regions=REGIONS[:1]) as world:
        world.origin.documents["/pages/1"] = {"n": 1}
        yield world


@pytest.fixture
def config(tmp_path: Path, world: World) -> Path:
    return write_config(tmp_path, world, origin=world.origin.url)


def replace(file: Path, content: bytes) -> None:
    """Write a file anew."""
    file.write_bytes(content)


async def ask(url: str, **options: Any) -> aiohttp.ClientResponse:
    """GET on a connection of its own."""
    options.setdefault("timeout", aiohttp.ClientTimeout(10))
    async with aiohttp.ClientSession() as session, session.get(url, **options) as answer:
        await answer.read()
        return answer


async def status_of(url: str) -> int:
    """The status of a GET; 0 when the connection is refused or breaks."""
    try:
        return (await ask(url)).status
    except aiohttp.ClientConnectionError:
        return 0


async def one_answers(url: str) -> bool:
    """Whether one of many connections at once gets an answer."""
    asking = [asyncio.ensure_future(status_of(url)) for _ in range(24)]
    done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return any(task.result() == 200 for task in done)


class Load:
    """Clients that ask without a pause, on kept and on new connections; `failed` says what went wrong.

    They POST: aiohttp's client would send a GET again on its own when a kept connection is closed.
    """

    def __init__(self, url: str) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._url = url
        self._done = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._clients = [asyncio.ensure_future(self._ask(force_close=number % 2 == 0)) for number in range(8)]
        await self.goes_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        await asyncio.gather(*self._clients)

    async def goes_on(self) -> None:
        """Wait until another hundred requests are answered."""
        enough = self.answered + 100
        await eventually(lambda: self.answered >= enough)

    async def _ask(self, *, force_close: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=force_close)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:
            while not self._done.is_set():
                try:
                    async with session.post(self._url + "/posts", data=b"x") as answer:
                        await answer.read()
                        answer.raise_for_status()
                    self.answered += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failed.append(repr(error))


async def test_every_worker_answers(config: Path) -> None:
    async with Server(config, "--workers", "2") as server:
        for stopped in server.started:
            server.send_to(stopped, signal.SIGSTOP)
            assert await one_answers(server.url + "/pages/1")
            server.send_to(stopped, signal.SIGCONT)
        assert len(server.started) == 2


async def test_a_killed_worker_is_replaced_and_the_others_answer_meanwhile(config: Path) -> None:
    async with Server(config, "--workers", "2") as server:
        server.send_to(server.pid_of(0), signal.SIGKILL)
        assert await one_answers(server.url + "/pages/1")
        await eventually(lambda: len(server.started) == 3)
        server.send_to(server.pid_of(1), signal.SIGSTOP)
        assert await one_answers(server.url + "/pages/1")
        assert server.says("ended with status -9")


async def test_who_dies_again_is_awaited_longer_and_the_others_take_its_connections(config: Path) -> None:
    async with Server(config, "--workers", "2") as server:
        for count in (3, 4):
            server.send_to(server.pid_of(0), signal.SIGKILL)
            if count == 4:
                await eventually(lambda: server.says("worker 0 is started again in 0.5 s"))
                answers = await asyncio.gather(*(status_of(server.url + LIVE) for _ in range(16)))
                assert (set(answers), len(server.started)) == ({200}, 3)  # none had to wait for the next one
            await eventually(lambda count=count: len(server.started) == count)  # type: ignore[misc]
        server.send_to(server.pid_of(1), signal.SIGSTOP)
        assert await one_answers(server.url + "/pages/1")


async def test_a_graceful_restart_under_load_loses_no_request(config: Path) -> None:
    async with Server(config, "--workers", "2") as server, Load(server.url) as load:
        for _ in range(2):
            before = server.started[-2:]
            await server.reload(workers=2)
            await eventually(lambda gone=before: not any(map(server.is_running, gone)))  # type: ignore[misc]
            await load.goes_on()
    assert load.failed == []


async def test_fewer_and_more_workers_lose_no_request(world: World, config: Path, tmp_path: Path) -> None:
    def configure(workers: int) -> None:
        write_config(tmp_path, world, origin=world.origin.url, more=f"serve = {{workers = {workers}}}")

    configure(4)
    async with Server(config) as server, Load(server.url) as load:
        for workers in (1, 3):
            configure(workers)
            before = list(server.started)
            await server.reload(workers=workers)
            await eventually(lambda gone=before: not any(map(server.is_running, gone)))  # type: ignore[misc]
            await load.goes_on()
            assert sum(map(server.is_running, server.started)) == workers
    assert load.failed == []


async def test_a_worker_that_dies_while_the_one_before_it_finishes_is_replaced(world: World, config: Path) -> None:
    async with Server(config) as server:
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(ask(server.url + "/pages/1", timeout=aiohttp.ClientTimeout(60)))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        await server.reload(workers=1)
        server.send_to(server.pid_of(0), signal.SIGKILL)
        await eventually(lambda: len(server.started) == 3)
        assert (await ask(server.url + LIVE)).status == 200
        world.origin.read_gate.set()
        assert (await slow).status == 200


async def test_readiness_holds_over_a_graceful_restart(world: World, config: Path, tmp_path: Path) -> None:
    write_config(tmp_path, world, origin=world.origin.url, more="serve = {drain = 2}")
    async with Server(config) as server:
        (old,) = server.started
        reloading = asyncio.ensure_future(server.reload(workers=1))
        seen = set()
        while server.is_running(old):
            seen.add(await status_of(server.url + READY))
        await reloading
        assert seen == {200}


async def test_a_stop_lets_a_running_request_end_and_takes_no_more(world: World, config: Path) -> None:
    async with Server(config, "--workers", "2") as server:
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(ask(server.url + "/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        url = server.url
        server.send(signal.SIGTERM)

        async def is_refused() -> bool:
            return await status_of(url + LIVE) == 0

        await eventually(is_refused)
        assert server.process.returncode is None
        server.send(signal.SIGHUP)  # comes too late to mean anything
        world.origin.read_gate.set()
        answer = await slow
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await server.status() == 0
        assert not any(map(server.is_running, server.started))


async def test_a_second_signal_stops_at_once(world: World, config: Path) -> None:
    async with Server(config) as server:
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(status_of(server.url + "/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        await server.reload(workers=1)  # the one that is replaced has the request
        server.send(signal.SIGTERM)
        await eventually(lambda: server.says("stopping"))
        server.send(signal.SIGINT)
        assert await server.status() == 0
        assert await slow == 0
        assert not any(map(server.is_running, server.started))


async def test_readiness_is_503_while_stopping(world: World, config: Path, tmp_path: Path) -> None:
    write_config(tmp_path, world, origin=world.origin.url, more="serve = {drain = 1.5}")
    async with Server(config) as server:
        url = server.url
        assert await status_of(url + READY) == 200
        server.send(signal.SIGTERM)

        async def is_stopping() -> bool:
            return await status_of(url + READY) == 503

        await eventually(is_stopping)
        assert await status_of(url + "/pages/1") == 200
        assert await server.status() == 0


async def test_health_is_nobody_elses(config: Path) -> None:
    async with Server(config) as server:
        forwarded = await ask(server.url + READY, headers={"X-Forwarded-For": "192.0.2.1"})
        assert (forwarded.status, await status_of(server.url + READY)) == (404, 200)


async def test_readiness_is_503_without_a_region(world: World, config: Path) -> None:
    async with Server(config) as server:
        await world.servers[REGIONS[0]].kill()

        async def is_unready() -> bool:
            return await status_of(server.url + READY) == 503

        await eventually(is_unready)
        assert await status_of(server.url + LIVE) == 200


@pytest.mark.parametrize(
    "wrong",
    ["colour = 1", "[", "a = " + 5_000 * "[", "\udcff", "regions = []", 'serve = {tls_cert = "x", tls_key = "y"}'],
)
async def test_wrong_settings_change_nothing(world: World, config: Path, tmp_path: Path, wrong: str) -> None:
    async with Server(config) as server:
        replace(config, wrong.encode(errors="surrogateescape"))
        server.send(signal.SIGHUP)
        await eventually(lambda: server.says("the settings stay as they were"))
        assert await status_of(server.url + "/pages/1") == 200
        assert len(server.started) == 1
        server.send_to(server.pid_of(0), signal.SIGKILL)  # nor for who takes its place
        await eventually(lambda: len(server.started) == 2)
        assert await status_of(server.url + "/pages/1") == 200
        write_config(tmp_path, world, origin=world.origin.url)
        await server.reload(workers=1)
        assert not any("Traceback" in line for line in server.log)


BEHIND = '[[rules]]\npath = "/items/{id}"\nwrite = "behind"\n'


async def test_settings_with_which_no_worker_starts_change_nothing(world: World, config: Path, tmp_path: Path) -> None:
    async with world.servers[REGIONS[0]].client() as client:
        await client.config_set("maxmemory", "100mb")
        await client.config_set("maxmemory-policy", "allkeys-lru")  # writes behind are refused on such a server
    async with Server(config, "--workers", "2") as server:
        write_config(tmp_path, world, origin=world.origin.url, more=BEHIND)
        server.send(signal.SIGHUP)
        await eventually(lambda: server.says("the settings stay as they were"), within=30)
        assert len(server.started) == 2
        assert all(map(server.is_running, server.started))
        assert await status_of(server.url + "/pages/1") == 200


async def test_a_start_that_fails_is_status_1(world: World, tmp_path: Path) -> None:
    async with world.servers[REGIONS[0]].client() as client:
        await client.config_set("maxmemory", "100mb")
        await client.config_set("maxmemory-policy", "allkeys-lru")
    config = write_config(tmp_path, world, origin=world.origin.url, more=BEHIND)
    outcome = await command("serve", "-c", config, "--port", "0")
    assert outcome.status == 1
    assert "allkeys-lru" in outcome.err


async def test_a_stop_during_the_start_is_obeyed(config: Path) -> None:
    async with Server(config, "--workers", "2", waits=False) as server:
        await eventually(lambda: len(server.children()) == 2)
        children = server.children()
        server.send(signal.SIGTERM)
        assert await server.status() == 0
        assert server.started == []
        assert not any(map(server.is_running, children))


async def test_an_embedded_region_outlives_its_workers(world: World, tmp_path: Path) -> None:
    config = tmp_path / "embedded.toml"
    region = f'{{name = "{REGIONS[0]}", redis = "embedded://{tmp_path / "data"}"}}'
    replace(config, f'origin = "{world.origin.url}"\nregions = [{region}]\n'.encode())
    async with Server(config) as server:
        assert await status_of(server.url + "/pages/1") == 200
        await server.reload(workers=1)
        server.send_to(server.pid_of(0), signal.SIGKILL)
        await eventually(lambda: len(server.started) == 3)
        assert (await ask(server.url + "/pages/1")).headers["Cache-Status"].partition("; ")[2].startswith("hit")
        assert world.origin.reads["/pages/1"] == 1
        server.send(signal.SIGTERM)
        assert await server.status() == 0
        assert not any("Traceback" in line for line in server.log)


async def test_changed_settings_are_taken_at_a_graceful_restart(world: World, config: Path, tmp_path: Path) -> None:
    async with Server(config) as server:
        write_config(tmp_path, world, origin=world.origin.url, more='serve = {access_log = "json", port = 1}')
        await server.reload(workers=1)

        async def is_logged() -> bool:
            assert await status_of(server.url + "/pages/1") == 200
            return bool(server.access)  # a worker of before, which has no log, may take what comes at the same moment

        await eventually(is_logged)


async def test_tls_with_another_certificate_after_a_restart(config: Path, tmp_path: Path) -> None:
    name, certificate, key = "shop.example", tmp_path / "edge.pem", tmp_path / "edge.key"

    def install(directory: str) -> ssl.SSLContext:
        """Put a new certificate in the place of the one before; gives what a client that trusts it uses."""
        (tmp_path / directory).mkdir()
        authority = Authority(tmp_path / directory, name)
        replace(certificate, authority.certificate.read_bytes())
        replace(key, authority.key.read_bytes())
        return ssl.create_default_context(cafile=str(certificate))

    first = install("first")
    async with Server(config, "--tls-cert", certificate, "--tls-key", key) as server:
        page = server.url + "/pages/1"
        assert page.startswith("https://127.0.0.1:")
        assert (await ask(page, ssl=first, server_hostname=name)).status == 200
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("DEFAULT:@SECLEVEL=0")  # or the client itself would refuse
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(page, ssl=old)

        second = install("second")
        before = server.started[0]
        await server.reload(workers=1)
        await eventually(lambda: not server.is_running(before))
        assert (await ask(page, ssl=second, server_hostname=name)).status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(page, ssl=first, server_hostname=name)

        replace(key, b"no key")
        server.send(signal.SIGHUP)
        await eventually(lambda: server.says("the settings stay as they were"))
        assert (await ask(page, ssl=second, server_hostname=name)).status == 200


async def ask_unix(path: Path, page: str = "/pages/1") -> int:
    """The status of a GET over a unix socket."""
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://edge{page}") as answer:
        return answer.status


async def test_a_unix_socket_that_workers_share_is_removed_at_the_end(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    async with Server(config, "--socket", path, "--workers", "2") as server:
        assert server.url == f"unix:{path}"
        assert [await ask_unix(path) for _ in range(8)] == [200] * 8
        await server.reload(workers=2)
        assert await ask_unix(path) == 200
        assert await ask_unix(path, READY) == 200
        server.send(signal.SIGTERM)
        assert await server.status() == 0
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced_and_one_in_use_is_not(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with Server(config, "--socket", path):
        assert await ask_unix(path) == 200
        second = await command("serve", "-c", config, "--socket", path)
        assert second.status == 1
        assert f"another server listens on {path}" in second.err
        assert await ask_unix(path) == 200


async def test_a_socket_is_in_use_however_many_wait_for_it(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        outcome = await asyncio.wait_for(command("serve", "-c", config, "--socket", path), 20)
    assert outcome.status == 1
    assert f"another server listens on {path}" in outcome.err


async def test_a_file_that_is_no_socket_is_left_alone(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    outcome = await command("serve", "-c", config, "--socket", path)
    assert outcome.status == 1
    assert str(path) in outcome.err
    assert path.read_text() == "precious"


async def test_a_port_that_is_taken_is_said_clearly(config: Path) -> None:
    async with Server(config, "--workers", "2") as server:
        port = server.url.rpartition(":")[2]
        second = await command("serve", "-c", config, "--port", port, "--workers", "2")
        assert second.status == 1
        assert second.err.count(f"127.0.0.1:{port}") == 1, second.err
        assert "in use" in second.err
        assert "Traceback" not in second.err
        assert await status_of(server.url + "/pages/1") == 200


async def test_a_port_that_shares_with_nobody_is_taken_as_well(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = await command("serve", "-c", config, "--port", str(taken.getsockname()[1]))
    assert outcome.status == 1
    assert "in use" in outcome.err


async def test_a_port_comes_before_the_socket_of_the_file(world: World, config: Path, tmp_path: Path) -> None:
    write_config(tmp_path, world, origin=world.origin.url, more=f'serve = {{socket = "{tmp_path / "http.sock"}"}}')
    async with Server(config, "--port", "0") as server:
        assert await status_of(server.url + "/pages/1") == 200


async def test_settings_without_an_origin_are_status_2(world: World, tmp_path: Path) -> None:
    outcome = await command("serve", "-c", write_config(tmp_path, world), "--port", "0")
    assert outcome.status == 2
    assert "origin" in outcome.err


async def test_workers_stop_when_their_parent_is_killed(world: World, config: Path) -> None:
    async with Server(config, "--workers", "2") as server:
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(ask(server.url + "/pages/1"))
        await eventually(lambda: world.origin.reads["/pages/1"] == 1)
        server.process.kill()
        await eventually(lambda: server.process.returncode is not None)
        world.origin.read_gate.set()
        assert (await slow).status == 200
        await eventually(lambda: not any(map(server.is_running, server.started)))


async def test_the_access_log_in_common_form(config: Path) -> None:
    async with Server(config, "--access-log", "common") as server:
        for _ in range(2):
            await ask(server.url + "/pages/1?q=%22", headers={"User-Agent": 'a " b\u00e9'})
        await eventually(lambda: len(server.access) == 2)
        found = [COMMON.fullmatch(line) for line in server.access]
        assert all(found), server.access
        assert [match[1].partition(";")[0] for match in found if match] == ["fwd=miss", "hit"]


async def test_the_access_log_in_json_form_is_written_to_the_last_line(world: World, config: Path) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with Server(config, "--access-log", "json") as server:
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "User-Agent": 'a " \u00e9'}
        for _ in range(2):
            await ask(server.url + "/pages/1?q=1", headers=headers)
        async with aiohttp.request("HEAD", server.url + "/pages/1?q=1"):
            pass
        world.origin.read_gate.clear()
        slow = asyncio.ensure_future(status_of(server.url + "/pages/2"))
        await eventually(lambda: world.origin.reads["/pages/2"] == 1)
        server.send(signal.SIGTERM)
        await eventually(lambda: server.says("stopping"))
        world.origin.read_gate.set()
        assert await slow == 404
        await server.status()
        first, second, head, last = map(json.loads, server.access)
    assert first["path"] == "/pages/1"
    assert (first["method"], first["status"], first["bytes"], first["peer"]) == ("GET", 200, 8, "127.0.0.1")
    assert (first["trace_id"], first["user_agent"]) == (trace, 'a " \u00e9')
    assert first["cache_status"].startswith("fwd=")
    assert second["cache_status"].startswith("hit")
    assert second["region"] == REGIONS[0]
    assert (head["method"], head["bytes"]) == ("HEAD", 0)
    assert (last["path"], last["status"]) == ("/pages/2", 404)
