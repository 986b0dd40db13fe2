"""Learned scale ratios against what an image holds: per level, per detector, and before and after a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    VERMILION,
    style,
)

COLOURS = (BLUE, ORANGE, GREEN, VERMILION)
MARKERS = "osD^"
TICKS = (0.5, 0.7, 1, 1.4, 2)  # the range that the released gates leave


def relations_figure(
    x_n: np.ndarray, ratios: Sequence[np.ndarray], levels: Sequence[str], titles: Sequence[str], xlabel: str
) -> Figure:
    """A dot per image and a panel per level: the ratio over something that the image holds.

    Args:
        x_n: of each image.
        ratios: for each level the ratios of the n images.
        levels: names, finest first.
        titles: what was measured on each level.
        xlabel: what ``x_n`` is.
    """
    with style():
        figure = Figure(figsize=(2.3 * len(levels), 2.9), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
        for axes, ratio_n, level, title in zip(grid, ratios, levels, titles, strict=True):
            axes.axhline(0, color=INK, linewidth=1, linestyle="--")
            axes.scatter(x_n, np.log2(ratio_n), 9, BLUE, alpha=0.85, linewidths=0)
            axes.set_title(f"{level}: {title}", fontsize=9)
        _log_ratio(grid[0])
        figure.supxlabel(xlabel, fontsize=10)
    return figure


def changes_figure(changes: Mapping[str, Sequence[np.ndarray]], levels: Sequence[str]) -> Figure:
    """How log2 ratios move when every image is changed: a panel per change, the middle 90 % of the images as a line.

    Args:
        changes: what was done -> for each level the differences of log2 ratios, one per image.
        levels: names, finest first.
    """
    with style():
        figure = Figure(figsize=(2.1 * len(changes) + 0.6, 2.8), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(changes), sharey=True, squeeze=False)[0]
        for number, (axes, (name, rows)) in enumerate(zip(grid, changes.items(), strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            low, median, high = np.quantile(rows, (0.05, 0.5, 0.95), axis=1)
            axes.axhline(0, color=INK, linewidth=1, linestyle="--")
            axes.vlines(range(len(levels)), low, high, color=colour, linewidth=2)
            axes.plot(range(len(levels)), median, MARKERS[number % len(MARKERS)], color=colour)
            axes.set_xticks(range(len(levels)), list(levels))
            axes.set_title(name, fontsize=10)
        grid[0].set_ylabel("change of log2 ratio")
    return figure


def _log_ratio(axes: Axes) -> None:
    axes.set_ylim(-1.04, 1.04)
    axes.set_yticks(np.log2(TICKS), [str(tick) for tick in TICKS])
    axes.set_ylabel("scale ratio")


def blocks_figure(ratios: Mapping[str, np.ndarray], levels: Sequence[str]) -> Figure:
    """The ratios of each block and level: a panel for each block, a dot for each image, a bar at the median.

    Args:
        ratios: name of a detector -> (blocks, L, n) log2 ratios.
        levels: names, finest first.
    """
    blocks = len(next(iter(ratios.values())))
    with style():
        figure = Figure(figsize=(3.7 * blocks + 1.4, 3.2), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, blocks, sharey=True, squeeze=False)[0]
        for block, axes in enumerate(grid):
            axes.axhline(0, color=INK, linewidth=1, linestyle="--")
            for number, (name, rows) in enumerate(ratios.items()):
                colour = COLOURS[number % len(COLOURS)]
                for l, values in enumerate(rows[block]):
                    x = l + 0.22 * (number - (len(ratios) - 1) / 2)
                    axes.plot(np.full(len(values), x), values, MARKERS[number], color=colour, markersize=4, alpha=0.6,
                              label=name if l == block == 0 else None)  # fmt: skip
                    axes.hlines(np.median(values), x - 0.1, x + 0.1, color=colour, linewidth=3)
            axes.set_xticks(range(len(levels)), list(levels))
            axes.set_title(f"block {block + 1}", fontsize=10)
        _log_ratio(grid[0])
        figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def doses_figure(
    doses: Mapping[str, tuple[Sequence[float], np.ndarray]], floor_L: np.ndarray, levels: Sequence[str]
) -> Figure:
    """How far ratios move, against the strength of a change: a panel for each level, the mirror image as a floor.

    Args:
        doses: what was done -> (factors, (doses, L) mean absolute change of log2 ratio).
        floor_L: the same of a change that should mean nothing.
        levels: names, finest first.
    """
    with style():
        figure = Figure(figsize=(1.6 * len(levels) + 1.6, 3.0), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
        for l, (axes, level) in enumerate(zip(grid, levels, strict=True)):
            axes.axhline(floor_L[l], color=INK, linewidth=1.2, linestyle="--", label="mirror image" if not l else None)
            for number, (name, (factors, moved)) in enumerate(doses.items()):
                colour, marker = COLOURS[1 + number], MARKERS[1 + number]
                label = None if l else name
                axes.plot(factors, moved[:, l], f"{marker}-", color=colour, markersize=5, label=label)
            axes.set_xscale("log")
            axes.set_xticks((1, 2, 4, 10), ("1", "2", "4", "10"))
            axes.minorticks_off()
            axes.set_title(level, fontsize=10)
        grid[0].set(ylabel="mean |change of log2 ratio|", ylim=(0, None))
        figure.supxlabel("factor of the change", fontsize=10)
        figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure
