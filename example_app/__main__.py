"""The demo: `python -m example_app`."""

import argparse
import asyncio
import socket
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from aiohttp_regioncache.errors import RegionCacheError
from example_app import report
from example_app.burst import Burst, burst
from example_app.checks import Checks
from example_app.demo import running_demo
from example_app.distance import ROUND_TRIP_TO_ORIGIN_MS
from example_app.measure import measure
from example_app.process import OriginError
from example_app.serving import PortBusyError, listen, stop_event
from example_app.ways import Demo

DEFAULT_PORT = 8080
INTERRUPTED = 130

EPILOG = """examples:
  python -m example_app                              measure, then serve until Ctrl-C
  python -m example_app --once                       measure and end; exit code 1 when anything did not work
  python -m example_app --port 9000 --data ./demo    a fixed port; the data stay
  python -m example_app --edges us-east-1 sa-east-1  only these regions
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with choose_listener(options.port) as listener, _directory(options.data) as directory:
            return asyncio.run(run(options, listener, Path(directory)))
    except PortBusyError as error:
        print(f"example_app: {error}; choose another with --port", file=sys.stderr)
    except (OriginError, RegionCacheError, OSError) as error:
        print(f"example_app: {error}", file=sys.stderr)
    except KeyboardInterrupt:  # before the signal had its own handler
        return INTERRUPTED
    return 1


async def run(options: argparse.Namespace, listener: socket.socket, directory: Path) -> int:
    """Show the demo until it ends or SIGINT or SIGTERM stops it; return the exit code."""
    stop = stop_event()
    showing = asyncio.create_task(show(options, listener, directory))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not showing.done():
        showing.cancel()
        await asyncio.wait({showing})
    if showing.cancelled():
        return INTERRUPTED if options.once else 0
    return showing.result()


async def show(options: argparse.Namespace, listener: socket.socket, directory: Path) -> int:
    """Start everything, measure it, and serve on unless `--once` is given; return the exit code."""
    print("Starting an origin in Tokyo, and an edge with a Valkey in each region (ms from the origin):")
    print(f"  {report.distances(options.edges)}", flush=True)
    async with running_demo(options.edges, directory, listener) as demo:
        checks = Checks()
        await _present(demo, options, checks)
        if not options.once:
            print(f"\n{report.suggestions(demo)}", flush=True)
            await asyncio.Event().wait()  # Until a signal cancels it.
        return 1 if checks.failures else 0


async def _present(demo: Demo, options: argparse.Namespace, checks: Checks) -> None:
    print("\nMeasuring what reads and writes cost, in ms, medians ...\n", flush=True)
    print(report.table(await measure(demo, checks, options.samples)), flush=True)
    print(f"\nA burst of {options.writes} writes from all regions at once:", flush=True)
    state = await burst(demo, options.writes, checks, _show_progress)
    print(f"\n{report.outcome(state)}\n{report.verdict(checks)}", flush=True)


def _show_progress(state: Burst) -> None:
    # A terminal shows one line that counts; a file gets a line for each look.
    terminal = sys.stdout.isatty()
    print(report.drain_line(state), end="\r" if terminal else "\n", flush=True)


def choose_listener(port: int | None) -> socket.socket:
    """Take a given port, or else the default one, or a free one when that is busy. Raises PortBusyError."""
    if port is not None:
        return listen(port)
    try:
        return listen(DEFAULT_PORT)
    except PortBusyError:
        listener = listen()
        print(f"Port {DEFAULT_PORT} is busy; taking {listener.getsockname()[1]}.")
        return listener


def _directory(data: Path | None) -> AbstractContextManager[str | Path]:
    if data is None:
        return tempfile.TemporaryDirectory(prefix="regioncache-demo-")
    data.mkdir(parents=True, exist_ok=True)
    return nullcontext(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m example_app",
        description="Run an origin in Tokyo, a Valkey and an edge per region; measure what users see.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="end after the measurements")
    parser.add_argument("--port", type=_port, help=f"port of the main edge (default {DEFAULT_PORT}, or a free one)")
    parser.add_argument("--data", type=Path, help="keep the data in this directory (default: a temporary one)")
    parser.add_argument("--samples", type=_count, default=9, help="measurements of each kind (default 9)")
    parser.add_argument("--writes", type=_count, default=200, help="writes of the burst (default 200)")
    parser.add_argument(
        "--edges",
        nargs="+",
        metavar="REGION",
        choices=list(ROUND_TRIP_TO_ORIGIN_MS),
        default=list(ROUND_TRIP_TO_ORIGIN_MS),
        help=f"regions (default all: {', '.join(ROUND_TRIP_TO_ORIGIN_MS)})",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 (a free one) to 65535")
    return int(text)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
