"""The dynamic activation of task-aware attention, drawn: two lines per channel, and how they follow the image.

Everything is drawn from traced ``task_coefficients`` (B, 4, C): a1, b1, a2, b2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..attention.task import larger_line
from ..trace import Trace
from .figures import BLUE, DPI, GREEN, INK, VERMILION, style

#: a1, b1, a2, b2 of ReLU.
RELU = (1.0, 0.0, 0.0, 0.0)


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
    check_coefficients(coefficients_B4C)
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
    check_coefficients(coefficients_B4C)
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


def check_coefficients(coefficients_B4C: torch.Tensor) -> None:
    """Refuse what is no (B, 4, C).

    Raises:
        ValueError: naming the shape.
    """
    if coefficients_B4C.dim() != 3 or coefficients_B4C.shape[1] != 4:
        raise ValueError(f"coefficients_B4C: got shape {tuple(coefficients_B4C.shape)}, expected (B, 4, C)")
