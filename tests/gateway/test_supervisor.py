"""The parent of workers, with workers that need no application."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from aiohttp_regioncache.gateway import supervisor
from aiohttp_regioncache.gateway.supervisor import Plan, Supervisor
from aiohttp_regioncache.settings import Serve
from tests.support import eventually

# Says that it is ready, and takes some time over its last request once it is told that another one has taken over.
_WORKER = """
import pathlib, socket, sys, time
parent = socket.socket(fileno=int(sys.argv[1]))
name = sys.stdin.read()
parent.sendall(b"ready\\n")
if parent.recv(100):
    time.sleep(1.5)
    (pathlib.Path(sys.argv[2]) / name).touch()
"""


async def test_who_is_replaced_has_the_time_that_its_own_settings_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_MARGIN_SECONDS", 0.2)
    monkeypatch.setattr(supervisor, "LINGER_SECONDS", 0.0)
    plans = [Plan(Serve(port=0, stop_timeout=seconds), name) for seconds, name in ((30.0, b"old"), (0.1, b"new"))]

    def command(parent: int, _listening: Sequence[int]) -> list[str]:
        return [sys.executable, "-c", _WORKER, str(parent), str(tmp_path)]

    parent = Supervisor(plans[0], command, lambda: plans[1])
    running = asyncio.ensure_future(parent.run())
    await eventually(lambda: len(parent._workers) == 1)
    (old,) = parent._workers.values()
    os.kill(os.getpid(), signal.SIGHUP)
    await eventually(lambda: parent._workers[0] is not old)
    assert await old.ended() == 0
    assert (tmp_path / "old").exists()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
