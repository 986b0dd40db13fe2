"""How gates and scale ratios are spread over a data set, per block and level: still pictures from traced numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dyhead_lab.attention.scale import scale_ratio
from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    style,
)
from dyhead_lab.views.scale_weights import Gates, branch_names

BINS = 25
TALLEST = 0.85  # of the distance between two rows

KINDS = {"finer": BLUE, "same level": GREEN, "coarser": ORANGE}  # of branches, from top to bottom


def gate_distribution_figure(gates: Gates, levels: Sequence[str]) -> Figure:
    """Histograms of the gates: a row of panels per block, a panel per level, a line in it per branch.

    Args:
        gates: ``[block][level]`` -> (images, branches), as :func:`~dyhead_lab.views.scale_weights.gates_of` gives them.
        levels: names of the levels, finest first.
    """
    with style():
        figure, grid = _panels(gates, columns=len(levels), width=2.2)
        for i, block in enumerate(gates):
            for l, weights in enumerate(block):
                axes = grid[i, l]
                for column, name in enumerate(branch_names(levels, l)):
                    kind = name.split(" (")[0]
                    row = list(KINDS).index(kind)
                    _ridge(axes, weights[:, column].numpy(), row, (0.5, 1), KINDS[kind])
                axes.set_title(f"block {i + 1}, {levels[l]}", fontsize=10)
        first = grid[0, 0]
        first.set(xlim=(0.48, 1.02), ylim=(len(KINDS) - 0.7, -1))
        first.set_xticks((0.5, 0.75, 1), ("0.5", "0.75", "1"))
        first.set_yticks(range(len(KINDS)), list(KINDS))
        figure.supxlabel("gate", fontsize=10)
    return figure


def ratio_distribution_figure(gates: Gates, levels: Sequence[str]) -> Figure:
    """Histograms of the scale ratio: a panel per block, a line in it per level; a dot stands at the median.

    Ratios have a logarithmic axis from 0.5 to 2, the range that the released gates leave them: a ratio and its
    inverse lie equally far from 1.

    Args:
        gates, levels: as for :func:`gate_distribution_figure`.
    """
    with style():
        figure, grid = _panels([[block] for block in gates], columns=1, width=5.5)
        for i, block in enumerate(gates):
            axes = grid[i, 0]
            for l, weights in enumerate(block):
                log_ratio = scale_ratio(weights).log2().numpy()
                _ridge(axes, log_ratio, l, (-1, 1), PURPLE)
                axes.plot(np.median(log_ratio), l, "o", color=PURPLE, markersize=6)
            axes.axvline(0, color=INK, linewidth=1, linestyle="--")
            axes.set_title(f"block {i + 1}", fontsize=10)
        first = grid[0, 0]
        first.set(xlim=(-1.04, 1.04), ylim=(len(levels) - 0.7, -1))
        ticks = (0.5, 0.7, 1, 1.4, 2)
        first.set_xticks(np.log2(ticks), [str(tick) for tick in ticks])
        first.set_yticks(range(len(levels)), list(levels))
        figure.supxlabel("scale ratio: left of 1 the coarser side counts more, right of 1 the finer", fontsize=10)
    return figure


def _panels(gates: Sequence[Sequence[Any]], columns: int, width: float) -> tuple[Figure, np.ndarray]:
    if not gates or not gates[0]:
        raise ValueError("gates: got none, expected at least 1 block and 1 level")
    size = (width * columns + 0.8, 2.2 * len(gates) + 0.5)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, figure.subplots(len(gates), columns, squeeze=False, sharex=True, sharey=True)


def _ridge(axes: Axes, values: np.ndarray, row: int, span: tuple[float, float], colour: str) -> None:
    """A histogram that stands on the line ``row``; its tallest bar has a fixed height. Rows grow downwards."""
    heights, edges = np.histogram(values, BINS, span)
    tops = row - TALLEST * heights / max(1, heights.max())
    axes.stairs(tops, edges, baseline=row, fill=True, color=colour, alpha=0.75)
    axes.axhline(row, color=INK, linewidth=0.5)
