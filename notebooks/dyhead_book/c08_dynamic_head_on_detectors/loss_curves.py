"""Losses over the steps of trainings that are compared, smoothed, a panel for each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, style

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
TITLES = {"classification": "classes", "bbox_regression": "boxes", "bbox_ctrness": "centredness"}


def parts_over_steps(curves: Mapping[str, Sequence[Mapping[str, float]]], window: int = 15) -> Figure:
    """A panel for each part of the loss, in it a curve for each training.

    Args:
        curves: name of a training -> the parts of its loss, step by step; all have the same parts.
        window: each point is the mean of so many steps, which end there; 1 smooths nothing.

    Raises:
        ValueError: there is no training, one has no steps, or the parts differ.
    """
    parts = {tuple(step) for steps in curves.values() for step in steps[:1]}
    if len(parts) != 1 or not all(len(steps) for steps in curves.values()):
        raise ValueError(f"curves: expected trainings with steps and the same parts, got parts {sorted(parts)}")
    [names] = parts
    with style():
        figure = Figure(figsize=(9.6, 2.9), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for (title, steps), colour in zip(curves.items(), COLOURS, strict=False):
                values = np.array([step[name] for step in steps])
                size = min(window, len(values))
                smooth = np.convolve(values, np.full(size, 1 / size), mode="valid")
                axes.plot(np.arange(size, len(values) + 1), smooth, color=colour, label=title, linewidth=1.6)
            axes.set_title(TITLES.get(name, name), fontsize=10)
            axes.set(xlabel="step")
        panels[0].set_ylabel("loss")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(curves), frameon=False, labelcolor=INK)
    return figure
