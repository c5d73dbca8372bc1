"""What was found, for people and for programs: tables in the terminal and as Markdown, everything as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from .plot import Curve, draw_comparison, draw_curves
from .rounds import Row

Cell = str | int | float | None
Say = Callable[[str], None]
_MANY: Final = 100


class Table(msgspec.Struct, frozen=True):
    """A table with a name; `note` says how to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def as_markdown(self) -> str:
        """The table as Markdown, which can be read in a terminal as well."""
        cells = [list(self.columns), *([_shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.columns))]
        left = [_is_text(at, self.rows) for at in range(len(self.columns))]
        lines = [_line(row, widths, left) for row in cells]
        rule = "|".join(
            "-" * (width + 2) if text else "-" * (width + 1) + ":" for width, text in zip(widths, left, strict=True)
        )
        note = [self.note, ""] if self.note else []
        return "\n".join([f"## {self.title}", "", *note, lines[0], f"|{rule}|", *lines[1:], ""])


class Found(msgspec.Struct, frozen=True):
    """What one part of the benchmarks has found; `wrong` is how many answers were."""

    tables: Sequence[Table]
    curves: Sequence[Curve] = ()
    rows: Sequence[Row] = ()
    wrong: int = 0


class Report:
    """Collect what parts find; `write` leaves it in a directory."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._versions = versions
        self._found: dict[str, Found] = {}

    def add(self, part: str, found: Found) -> None:
        """Take what a part has found, and print it."""
        self._found[part] = found
        for table in found.tables:
            print(f"\n{table.as_markdown()}", flush=True)

    def write(self, directory: Path) -> list[Path]:
        """Write `bench.md`, `bench.json` and the plots; gives the files."""
        directory.mkdir(parents=True, exist_ok=True)
        markdown, data = directory / "bench.md", directory / "bench.json"
        about = Table("Versions", ("what", "which"), list(self._versions.items()))
        tables = [table for found in self._found.values() for table in found.tables]
        markdown.write_text("# Benchmarks\n\n" + "\n".join(table.as_markdown() for table in (*tables, about)), "utf-8")
        data.write_text(json.dumps(self._data(), indent=1) + "\n", "utf-8")
        return [markdown, data, *self._plots(directory)]

    def _data(self) -> dict[str, Any]:
        return {"versions": dict(self._versions), "parts": msgspec.to_builtins(self._found)}

    def _plots(self, directory: Path) -> list[Path]:
        rows = [row for found in self._found.values() for row in found.rows]
        curves = [curve for found in self._found.values() for curve in found.curves]
        drawn: list[Path | None] = []
        if rows:
            drawn.append(draw_comparison(rows, directory / "compare.svg"))
        if curves:
            drawn.append(draw_curves(curves, directory / "growth.svg"))
        return [file for file in drawn if file is not None]


def say(text: str) -> None:
    """Tell on a line of its own what is being done."""
    print(
        f"\r\x1b[K{text}" if sys.stderr.isatty() else text,
        end="" if sys.stderr.isatty() else "\n",
        file=sys.stderr,
        flush=True,
    )


def _is_text(at: int, rows: Sequence[Sequence[Cell]]) -> bool:
    return any(isinstance(row[at], str) for row in rows)


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= _MANY else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _line(row: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    cells = (
        cell.ljust(width) if text else cell.rjust(width)
        for cell, width, text in zip(row, widths, left, strict=True)
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"
