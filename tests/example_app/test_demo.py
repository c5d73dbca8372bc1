"""The demo as a newcomer starts it: a command, its table, what it shows, and what it leaves behind."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from example_app import __main__ as command
from example_app.serving import listen
from example_app.world import COUNTRIES
from tests.support import eventually

# Of three near answers, for which distant ones are measured once, the fastest tells on a busy machine too.
SHORT = ("--samples", "3", "--writes", "20")
BRAZIL = {"CF-IPCountry": "BR"}
GERMANY = {"CF-IPCountry": "DE"}


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory for temporary files with a path short enough for sockets; the demo must leave it empty."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


@asynccontextmanager
async def demo(room: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "example_app", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(room)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stdout is not None
    text = ""
    while line := await process.stdout.readline():
        text += line.decode()
        if words in text:
            return text
    raise AssertionError(f"the demo ended:\n{text}")


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def expect_nothing_left(room: Path) -> None:
    assert not names_in(room)
    await expect_no_process(room)


async def expect_no_process(room: Path) -> None:
    async def is_alone() -> bool:
        listing = await asyncio.create_subprocess_exec("ps", "-eo", "args", stdout=asyncio.subprocess.PIPE)
        return str(room).encode() not in (await listing.communicate())[0]

    await eventually(is_alone)


async def test_once_prints_the_table_and_ends(room: Path) -> None:
    async with demo(room, "--once", "--port", "0", *SHORT) as process:
        text = (await process.communicate())[0].decode()
    assert process.returncode == 0, text
    assert sum(line.endswith("x") for line in text.splitlines()) == len(COUNTRIES), text
    assert "20 writes were acknowledged" in text
    assert re.search(r"All \d+ checks passed", text), text
    await expect_nothing_left(room)


async def test_it_serves_what_it_suggests_until_ctrl_c(room: Path) -> None:
    async with demo(room, "--port", "0", *SHORT) as process, aiohttp.ClientSession() as client:
        text = await read_until(process, "Ctrl-C ends everything")
        item = re.findall(r"http://127\.0\.0\.1:\d+/items/1$", text, re.MULTILINE)
        await follow_the_suggestions(client, front=item[0], origin=item[3])
        async with client.get(item[0].removesuffix("items/1")) as page:
            assert page.content_type == "text/html"
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0
    await expect_nothing_left(room)


async def follow_the_suggestions(client: aiohttp.ClientSession, *, front: str, origin: str) -> None:
    async def read(url: str, country: dict[str, str]) -> tuple[Any, str]:
        async with client.get(url, headers=country) as answer:
            return await answer.json(), answer.headers.get("Cache-Status", "")

    async def is_hit(country: dict[str, str]) -> bool:
        return "hit" in (await read(front, country))[1]

    for country in (BRAZIL, GERMANY):
        assert "fwd=miss" in (await read(front, country))[1]
        await eventually(partial(is_hit, country))
    guarana = {"name": "guarana"}
    async with client.put(front, json=guarana, headers=BRAZIL) as written:
        assert written.status == 202
    seen, status = await read(front, BRAZIL)
    assert seen == guarana
    assert status.startswith("regioncache/sa-east-1; hit; detail=dirty")

    async def everybody_has_it() -> bool:
        places = [(origin, {}), (front, GERMANY)]
        return all([(await read(*place))[0] == guarana for place in places])

    await eventually(everybody_has_it)


@pytest.mark.parametrize("words", ["Starting", "Measuring"])
async def test_a_signal_ends_it_at_any_time(room: Path, words: str) -> None:
    async with demo(room, "--once", "--port", "0", *SHORT) as process:
        await read_until(process, words)
        process.terminate()
        output = (await process.communicate())[0].decode()
    assert process.returncode == command.INTERRUPTED, output
    assert "Traceback" not in output
    await expect_nothing_left(room)


async def test_the_data_of_a_killed_demo_are_taken_up_again(room: Path) -> None:
    flags = ("--once", "--port", "0", "--data", str(room / "data"), *SHORT)
    async with demo(room, *flags) as process:
        await read_until(process, "A burst")
        process.kill()
    async with demo(room, *flags) as process:
        text = (await process.communicate())[0].decode()
    assert process.returncode == 0, text
    assert names_in(room) == ["data"]
    await expect_no_process(room)


async def test_a_busy_port_is_named(room: Path) -> None:
    with listen() as taken:
        port = str(taken.getsockname()[1])
        async with demo(room, "--port", port) as process:
            text = (await process.communicate())[0].decode()
    assert process.returncode == 1
    assert f"port {port} is busy" in text
    await expect_nothing_left(room)


def test_a_busy_default_port_is_replaced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with listen() as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(command, "DEFAULT_PORT", port)
        with command.choose_listener(None) as listener:
            other = listener.getsockname()[1]
    assert other != port
    assert f"Port {port} is busy; taking {other}" in capsys.readouterr().out
