"""The plots, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from .rounds import Row

_OURS: Final = ("plug-in", "gateway")
_COLOURS: Final = {"ours": "#2a6f97", "bare": "#444444", "others": "#adb5bd"}
_COLUMNS: Final = 2
_WIDE: Final = 100
"""From here on a scale shows powers of ten."""


class Curve(msgspec.Struct, frozen=True):
    """How something grows: of each series the points in ascending order."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]


def _figure(width: float, height: float) -> Any:
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_comparison(rows: Sequence[Row], file: Path) -> Path | None:
    """Draw each row's ratio to its baseline, with its quartiles; None without matplotlib."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.baseline, []).append(row)
    figure = _figure(9.0, 0.9 + 0.27 * len(rows) + 0.5 * len(groups))
    if figure is None:
        return None
    plots = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[len(group) + 1 for group in groups.values()])
    for plot, (baseline, group) in zip(plots.flat, groups.items(), strict=True):
        _draw_group(plot, baseline, sorted(group, key=lambda row: row.ratio))
    figure.savefig(file)
    return file


def _draw_group(plot: Any, baseline: str, group: Sequence[Row]) -> None:
    ratios = [row.ratio for row in group]
    low = [max(0.0, row.ratio - row.ratio_low) for row in group]
    high = [max(0.0, row.ratio_high - row.ratio) for row in group]
    bars = plot.barh([row.name for row in group], ratios, xerr=(low, high), color=[_colour(row) for row in group])
    plot.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=4, fontsize=8)
    plot.axvline(1.0, color=_COLOURS["bare"], linewidth=0.8)
    plot.set_xlabel(f"requests per second, {baseline} = 1", fontsize=8)
    plot.tick_params(labelsize=8)
    plot.margins(x=0.12)


def _colour(row: Row) -> str:
    return _COLOURS["ours" if row.name.startswith(_OURS) else "bare" if row.name.startswith("bare") else "others"]


def draw_curves(curves: Sequence[Curve], file: Path) -> Path | None:
    """Draw every curve in a plot of its own; None without matplotlib."""
    lines = math.ceil(len(curves) / _COLUMNS)
    figure = _figure(9.0, 2.8 * lines)
    if figure is None:
        return None
    plots = list(figure.subplots(lines, _COLUMNS, squeeze=False).flat)
    for plot in plots[len(curves) :]:
        plot.set_axis_off()
    for plot, curve in zip(plots, curves, strict=False):
        _draw_curve(plot, curve)
    figure.savefig(file)
    return file


def _draw_curve(plot: Any, curve: Curve) -> None:
    for name, points in curve.series.items():
        plot.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, label=name)
    most = max((x for points in curve.series.values() for x, _ in points), default=0)
    if most >= _WIDE:
        plot.set_xscale("symlog", linthresh=1)
    plot.set_ylim(0, 1.25 * max((y for points in curve.series.values() for _, y in points), default=1.0))
    plot.set_title(curve.title, fontsize=9)
    plot.set_xlabel(curve.x, fontsize=8)
    plot.set_ylabel(curve.y, fontsize=8)
    plot.tick_params(labelsize=8)
    plot.legend(fontsize=7)
