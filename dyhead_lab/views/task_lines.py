"""The dynamic activation of task-aware attention, drawn: two lines per channel, and how they follow the image.

Everything is drawn from traced ``task_coefficients`` (B, 4, C): a1, b1, a2, b2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..attention.task import larger_line
from ..trace import Trace
from .figures import BLUE, DPI, GREEN, INK, ORANGE, VERMILION, style

#: a1, b1, a2, b2 of ReLU.
RELU = (1.0, 0.0, 0.0, 0.0)
NAMES = ("a1", "b1", "a2", "b2")


def coefficients_of(trace: Trace) -> list[list[torch.Tensor]]:
    """Coefficients (B, 4, C) of one pass as ``[block][level]``, fine to coarse.

    The paper's form has one set of coefficients for the whole pyramid, so each block has one entry.

    Raises:
        ValueError: no task coefficients were traced.
    """
    calls: dict[str, list[torch.Tensor]] = {}
    for path, coefficients_B4C in trace.find("task_coefficients"):
        calls.setdefault(path, []).append(coefficients_B4C.float().cpu())
    if not calls:
        raise ValueError("trace: holds no task_coefficients, expected a pass of a model with task-aware attention")
    return list(calls.values())


def strangest_channels(coefficients_B4C: torch.Tensor, count: int) -> list[int]:
    """The channels whose mean coefficients lie farthest from ReLU, farthest first."""
    _check(coefficients_B4C)
    distance_C = (coefficients_B4C.mean(0) - torch.tensor(RELU)[:, None]).norm(dim=0)
    return distance_C.topk(count).indices.tolist()


def lines_figure(coefficients_B4C: torch.Tensor, channels: Sequence[int], reach: float = 2.0) -> Figure:
    """Small multiples, one channel each: the two lines of the mean coefficients, the larger of them, and ReLU.

    Thin curves are single images: where they lie on each other the activation does not follow the image.

    Args:
        coefficients_B4C: traced coefficients of one level.
        channels: which channels to draw.
        reach: inputs from -reach to reach.
    """
    _check(coefficients_B4C)
    x = torch.linspace(-reach, reach, 201)
    columns = min(4, len(channels))
    rows = -(-len(channels) // columns)
    with style():
        figure = Figure(figsize=(2.3 * columns, 2.1 * rows + 0.5), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, channel in zip(grid.flat, channels, strict=False):
            _draw_channel(axes, x, coefficients_B4C[:, :, channel])
            axes.set_title(f"channel {channel}", fontsize=9)
        for axes in list(grid.flat)[len(channels) :]:
            axes.axis("off")
        grid[0, 0].set(ylim=(-0.75 * reach, 1.5 * reach))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _draw_channel(axes: Axes, x: torch.Tensor, coefficients_B4: torch.Tensor) -> None:
    a1, b1, a2, b2 = coefficients_B4.mean(0)
    for one in coefficients_B4:
        axes.plot(x, larger_line(x, *one), color=VERMILION, linewidth=0.6, alpha=0.4)
    axes.plot(x, x.relu(), color=INK, linestyle=":", linewidth=1.4, label="ReLU")
    axes.plot(x, a1 * x + b1, color=BLUE, linestyle="--", linewidth=1, label="first line")
    axes.plot(x, a2 * x + b2, color=GREEN, linestyle="-.", linewidth=1, label="second line")
    axes.plot(x, larger_line(x, a1, b1, a2, b2), color=VERMILION, linewidth=2, label="the larger (thin: one image)")
    axes.axhline(0, color=INK, linewidth=0.4)
    axes.axvline(0, color=INK, linewidth=0.4)


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
            _check(coefficients_B4C)
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


def _check(coefficients_B4C: torch.Tensor) -> None:
    if coefficients_B4C.dim() != 3 or coefficients_B4C.shape[1] != 4:
        raise ValueError(f"coefficients_B4C: got shape {tuple(coefficients_B4C.shape)}, expected (B, 4, C)")
