"""An edge of a campaign as a process of its own: `python -m tests.campaigns.edge PLAN`, the plan as JSON.

It says `ready` on standard output, takes the commands of `points` on standard input, and ends when that closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

import aiohttp_regioncache as regioncache
from example_app.serving import listen, start_server, stop_event
from tests.campaigns import mutations
from tests.campaigns.points import Points
from tests.campaigns.rules import INTENT_SECONDS, LEASE, TIMEOUT, rules
from tests.support.world import SECRET, forwarding_app

READY: Final = "ready"
ROOT: Final = Path(__file__).parents[2]
_PR_SET_PDEATHSIG: Final = 1
_START_WITHIN: Final = 30.0
_STARTS: Final = 3
_LOG_TAIL: Final = 2000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge is: its address, its region, and how the regions, by name, and the origin are reached."""

    name: str
    port: int
    origin: str
    region: str
    regions: dict[str, str]
    durability: str = "memory"
    mutations: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"


def settings(plan: Plan) -> regioncache.Settings:
    """The settings of an edge; a dead edge's claims end soon, so that a campaign sees many takeovers."""
    return regioncache.Settings(
        origin=plan.origin,
        regions=[regioncache.Region(name, redis=url) for name, url in plan.regions.items()],
        home_region=plan.region,
        secrets=[SECRET],
        rules=rules(),
        cache=regioncache.Cache(dirty_wait=0.5),
        queue=regioncache.Queue(durability=plan.durability),
        sync=regioncache.Sync(
            lease=LEASE,
            timeout=TIMEOUT,
            retry_base=0.1,
            retry_cap=1.0,
            max_tries=1000,
            max_stalls=1000,
            intent_seconds=INTENT_SECONDS,
        ),
    )


class EdgeProcess:
    """The edge's process, which can be killed, stopped and started again on the same port.

    `log` gets what it writes to standard error. `reached` is called with each point that it reaches.
    """

    def __init__(self, plan: Plan, log: Path) -> None:
        self.plan = plan
        self.url = plan.url
        self.reached: Callable[[str], None] | None = None
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process, standing still or not."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it listens; like a supervisor again when it ends instead.

        An edge ends when the embedded server of its region is down and who owns it stands still.
        """
        for _ in range(_STARTS):
            if await self._is_ready():
                return
        raise RuntimeError(f"edge {self.plan.name} did not start:\n{self._log.read_text()[-_LOG_TAIL:]}")

    async def _is_ready(self) -> bool:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.campaigns.edge", msgspec.json.encode(self.plan).decode())
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=log, cwd=ROOT)
        self._process = process
        assert process.stdout is not None
        async with asyncio.timeout(_START_WITHIN):
            said = (await process.stdout.readline()).decode().strip()
        if said != READY:
            await process.wait()
            return False
        self._listener = asyncio.create_task(self._listen(process.stdout))
        return True

    def tell(self, command: str) -> None:
        """Send a command of `points`; one that has ended hears nothing."""
        if self.is_running and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{command}\n".encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.is_running and self._process is not None:
            self._process.send_signal(number)

    async def ended(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            await self._process.wait()
        if self._listener is not None:
            await self._listener

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        """End it gracefully; once it has ended, nothing happens."""
        if self.is_running and self._process is not None and self._process.stdin is not None:
            self.signal(signal.SIGCONT)
            self._process.stdin.close()
        await self.ended()

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            if self.reached is not None:
                self.reached(line.decode().strip())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, even while it stands still; elsewhere than on Linux nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _each_line(obey: Callable[[str], None]) -> None:
    """Obey the lines of standard input until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        obey(line.decode().strip())


async def _serve(plan: Plan) -> None:
    stop = stop_event()
    points = Points(_say)
    points.install()
    mutations.install(plan.mutations)
    app = forwarding_app()
    regioncache.setup(app, settings(plan))
    server = await start_server(app, listen(plan.port))
    commands = asyncio.create_task(_each_line(points.obey))
    commands.add_done_callback(lambda _: stop.set())
    _say(READY)
    await stop.wait()
    commands.cancel()
    await server.close()


def main(serve: Callable[[Plan], Awaitable[None]] = _serve) -> None:
    """Run the edge of the plan on the command line."""
    _die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=Plan)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
