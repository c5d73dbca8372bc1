"""The entry point: reads the command line, runs a command, and turns what goes wrong into an exit status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence

from ..errors import RegionCacheError
from . import check, key, purge, regions, serve, sites, writes
from .arguments import FAILED, INTERRUPTED, STATUSES, status_of_error
from .output import complain


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="aiohttp-regioncache",
        description="A regional HTTP cache over Redis or Valkey: serve as an edge, look into regions, purge.",
        epilog=f"`COMMAND --help` has examples.\n\n{STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, check, regions, sites, writes, purge, key):
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names (the process's own arguments); gives the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = make_parser().parse_args(given)
    arguments.given = given
    if arguments.run is not serve.run:
        logging.basicConfig(level=logging.CRITICAL)  # a command says itself what matters
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            status: int = runner.run(arguments.run(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (RegionCacheError, OSError, LookupError, ValueError) as error:
        complain(str(error.args[0]) if type(error) is LookupError else str(error))
        return status_of_error(error)
    return status


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Make event loops of uvloop where that is installed; None for asyncio's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory
