"""Figures of the laboratory with two tasks: what was lost, and what shape each activation took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import nn

from dyhead_lab.views.figures import BLUE, DPI, INK, VERMILION, style

#: Which images -> what is wanted of channels below 4, and of the others.
WANTED: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], ...]] = {
    "edges": (torch.abs, torch.abs),
    "parts": (torch.relu, torch.zeros_like),
}
COLOURS = (VERMILION, BLUE)

#: (task, channel) -> name of the activation -> its values before, sorted, and after.
Curves = dict[tuple[str, int], dict[str, tuple[torch.Tensor, torch.Tensor]]]


def lines_of(
    activations: Mapping[str, nn.Module], x: torch.Tensor, edges: torch.Tensor, channels: Sequence[int]
) -> Curves:
    """What activations make of the values of some channels, for images of either task.

    Args:
        activations: name -> module.
        x: (B, C, H, W).
        edges: which images ask for edges, (B,).
        channels: which channels.
    """
    curves: Curves = {}
    with torch.no_grad():
        after = {name: activation(x) for name, activation in activations.items()}
    for task, kept in (("edges", edges), ("parts", ~edges)):
        for channel in channels:
            given, order = x[kept, channel].flatten().sort()
            curves[task, channel] = {name: (given, y[kept, channel].flatten()[order]) for name, y in after.items()}
    return curves


def two_tasks_figure(losses: Mapping[str, Sequence[float]], curves: Curves) -> Figure:
    """Losses on the left; on the right a panel for each task and channel, with what is wanted as a grey line.

    Args:
        losses: name of the activation -> loss of each step.
        curves: of :func:`lines_of`, for two channels.
    """
    with style():
        figure = Figure(figsize=(9, 4.2), dpi=DPI, layout="constrained")
        grid = figure.add_gridspec(2, 4)
        left = figure.add_subplot(grid[:, :2])
        for (name, values), colour in zip(losses.items(), COLOURS, strict=False):
            left.plot(values, color=colour, label=name)
        left.set(xlabel="step", ylabel="mean square error", ylim=(0, None))
        left.legend(frameon=False)
        for number, ((task, channel), lines) in enumerate(curves.items()):
            axes = figure.add_subplot(grid[number // 2, 2 + number % 2])
            for (given, after), colour in zip(lines.values(), COLOURS, strict=False):
                axes.plot(given, after, ".", color=colour, markersize=2)
            reach = torch.linspace(-2.5, 2.5, 101)
            axes.plot(reach, WANTED[task][int(channel >= 4)](reach), "--", color=INK, linewidth=1.2, zorder=5)
            axes.set(title=f"{task}, channel {channel}", xlim=(-2.6, 2.6), ylim=(-0.6, 2.7))
            axes.title.set_fontsize(10)
        figure.supxlabel("right: after against before the activation; dashed: what is wanted", fontsize=9)
    return figure
