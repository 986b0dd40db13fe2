"""All coefficients of task-aware attention, per level and channel, and how far they follow the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, style
from dyhead_lab.views.task_lines import RELU, check_coefficients

NAMES = ("a1", "b1", "a2", "b2")


def coefficients_figure(per_level: Sequence[torch.Tensor], levels: Sequence[str]) -> Figure:
    """Every coefficient of every channel: a row per level, a column per coefficient; ReLU is the dotted line.

    A dot is a channel's mean over images; its bar reaches over the images.

    Args:
        per_level: coefficients (B, 4, C) of each level.
        levels: their names.
    """
    if len(per_level) != len(levels):
        raise ValueError(f"per_level: got {len(per_level)}, expected {len(levels)}: {', '.join(levels)}")
    with style():
        figure = Figure(figsize=(9, 1.5 * len(levels) + 0.4), dpi=DPI, layout="constrained")
        grid: Any = figure.subplots(len(levels), 4, squeeze=False, sharex=True, sharey="col")
        for row, coefficients_B4C, level in zip(grid, per_level, levels, strict=True):
            check_coefficients(coefficients_B4C)
            order = coefficients_B4C.mean(0)[0].argsort()
            for column, (axes, name) in enumerate(zip(row, NAMES, strict=True)):
                values_BC = coefficients_B4C[:, column, order]
                axes.axhline(RELU[column], color=INK, linestyle=":", linewidth=1)
                axes.vlines(range(len(order)), values_BC.amin(0), values_BC.amax(0), color=ORANGE, linewidth=1)
                axes.plot(values_BC.mean(0), ".", color=BLUE, markersize=3)
                axes.set(title=f"{level}: {name}", xticks=())
                axes.title.set_fontsize(9)
        figure.supxlabel("channels, sorted by a1 (dot: mean over images, bar: all images, dotted: ReLU)", fontsize=9)
    return figure
