"""Tables, as Markdown, which can be read in a terminal as well."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | int | float


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table; the first column stands to the left, the others to the right."""
    cells = [list(columns), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    rule = "|".join(("-" * (width + 1) + (":" if at else "-")) for at, width in enumerate(widths))
    lines = [_line(row, widths) for row in cells]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        text.rjust(width) if at else text.ljust(width) for at, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "| " + " | ".join(cells) + " |"


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{share:.1%}"


def pair(values: tuple[float, float]) -> str:
    """Two values of which the second is the higher percentile."""
    return " / ".join(_shown(float(value)) for value in values)
