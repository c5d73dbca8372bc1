"""What commands print: results to the standard output, as text or JSON; progress and problems to the standard error."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BAR: Final = 30


def say(text: str) -> None:
    """Print a line of the result. What clients have sent may be in it: it controls no terminal."""
    octets = "\n".join(_CONTROL.sub("?", line) for line in text.split("\n")) + "\n"
    sys.stdout.write(octets.encode("utf-8", "replace").decode("utf-8"))


def complain(text: str) -> None:
    """Print a problem."""
    sys.stderr.write(f"aiohttp-regioncache: {_CONTROL.sub('?', text)}\n")


def say_json(result: Any) -> None:
    """Print a result as one JSON document."""
    say(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under the names of their columns; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[at]) for line in (columns, *cells)) for at in range(len(columns))]
    to_right = [bool(rows) and all(isinstance(row[at], (int, float)) for row in rows) for at in range(len(columns))]
    for line in (list(columns), *cells):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, to_right, strict=True)
        ]
        say("  ".join(padded).rstrip())


def say_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair on a line; those without a value are left out."""
    shown = [(name, _cell(value)) for name, value in fields if value not in (None, "", ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name.ljust(width)}  {value}")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    return _CONTROL.sub("?", str(value))


def moment(seconds: float | None) -> str:
    """A time in RFC 3339 form, UTC; empty for none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Progress:
    """A bar on the standard error while long work goes on; nothing when that is no terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Show how much of the work is done."""
        if self._is_shown:
            filled = _BAR * done // max(1, total)
            sys.stderr.write(f"\r{self._what} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total}\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
