"""Curves over the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, style

COLOURS = (ORANGE, BLUE, GREEN, PURPLE)


def losses_figure(curves: Mapping[str, Sequence[float]], unit: str = "loss, per object") -> Figure:
    """Curves of losses, and of what goes with them, on a logarithmic axis.

    Args:
        curves: name of a loss -> its value at each step; at most four.
        unit: what the vertical axis counts.

    Raises:
        ValueError: there are more curves than colours.
    """
    if len(curves) > len(COLOURS):
        raise ValueError(f"curves: got {len(curves)}, expected at most {len(COLOURS)}")
    with style():
        figure = Figure(figsize=(7, 3.4), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
            axes.semilogy(range(1, len(values) + 1), values, color=colour, label=name, linewidth=1.6)
        axes.set(xlabel="step of training", ylabel=unit)
        axes.grid(color=INK, alpha=0.25, linewidth=0.5)
        axes.legend(frameon=False, labelcolor=INK)
    return figure
