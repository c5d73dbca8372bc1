"""What the commands have in common: options, exit statuses, and the regions that they open."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from ..cipher import Cipher
from ..errors import PurgeError, RegionUnavailableError, SettingsError
from ..settings import Settings, load
from ..store.region import RegionStore, open_all

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

STATUSES: Final = """\
exit status:
  0  done
  1  failed, or not done for all
  2  wrong usage or settings
  3  what was named is not there
  4  a region, or all that were asked, or the origin cannot be reached
"""

Commands = Any
"""What `ArgumentParser.add_subparsers` gives; argparse has no public name for it."""
Run = Callable[[argparse.Namespace], Awaitable[int]]


def add_command(
    commands: Commands, name: str, run: Run | None, *, summary: str, examples: Sequence[str], json: bool = True
) -> argparse.ArgumentParser:
    """Add a command with its examples, `--config` and, if it has results, `--json`."""
    shown = "\n".join(f"  {example}" for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"examples:\n{shown}\n\n{STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if run is not None:
        parser.set_defaults(run=run)
        parser.add_argument(
            "-c", "--config", metavar="FILE", default="regioncache.toml", help="the settings (default: %(default)s)"
        )
        if json:
            parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_group(commands: Commands, name: str, *, summary: str, examples: Sequence[str]) -> Commands:
    """Add a command that consists of others."""
    parser = add_command(commands, name, None, summary=summary, examples=examples)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Read the settings that a command is to use. Raises `SettingsError` and `OSError`."""
    return load(arguments.config)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, regions: Sequence[str] | None = None, *, looks_only: bool = True
) -> AsyncIterator[dict[str, RegionStore]]:
    """Open the stores of all regions, or of those named, that of the home region first; close them again.

    One that cannot be reached is there all the same. Who `looks_only` leaves an empty server as it is. Raises
    `StoreError` for one that holds something else, and `LookupError` for a name that is none.
    """
    known = {region.name: region for region in settings.regions}
    if unknown := [name for name in regions or () if name not in known]:
        raise LookupError(f"{unknown[0]!r} is no region; there are {', '.join(known)}")
    chosen = [region for name, region in known.items() if regions is None or name in regions]
    stores = [
        RegionStore(
            region,
            settings.connections,
            writes_behind=False,
            cipher=Cipher(settings.queue.encryption_keys),
            holdoff=settings.cache.holdoff,
            registers=not looks_only,
        )
        for region in sorted(chosen, key=lambda region: region.name != settings.home_region)
    ]
    await open_all(stores)
    try:
        yield {store.name: store for store in stores}
    finally:
        await asyncio.gather(*(store.close() for store in stores))


T = TypeVar("T")


async def first_reachable(stores: Mapping[str, RegionStore], ask: Callable[[RegionStore], Awaitable[T]]) -> T:
    """Ask the first region that can be reached. Raises the last one's `RegionUnavailableError`."""
    *others, last = stores.values()
    for store in others:
        with contextlib.suppress(RegionUnavailableError):
            return await ask(store)
    return await ask(last)


def status_of_error(error: Exception) -> int:
    """The exit status for what a command raised."""
    if isinstance(error, (SettingsError, PurgeError)):
        return USAGE
    if isinstance(error, LookupError):
        return NOT_FOUND
    if isinstance(error, RegionUnavailableError):
        return UNREACHABLE
    # Of others, only a file that is named wrongly, and a value that is none, are the user's.
    return USAGE if isinstance(error, (FileNotFoundError, ValueError)) else FAILED
