"""Figures of chapter 13: a batch as the detector gets it, schedules, and rates that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, draw_boxes, style

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
WIDTH = 9.6  # inches


def batch_figure(images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], names: Sequence[str]) -> Figure:
    """The images of a batch with their boxes, in a common size; what is hatched is padding.

    Args:
        images: (3, H, W) each, in [0, 1], of any sizes.
        targets: for each ``boxes`` (n, 4) xyxy in pixels and ``labels`` (n,).
        names: of the classes.
    """
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    with style():
        shape = (7.2, 7.2 / len(images) * height / width + 0.3)  # noise compresses badly: larger pictures are heavy
        figure = Figure(figsize=shape, dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(images), squeeze=False)[0]
        for axes, image, target in zip(panels, images, targets, strict=True):
            h, w = image.shape[1:]
            padding: Any = {"facecolor": "none", "edgecolor": INK, "hatch": "//", "linewidth": 0, "zorder": -1}
            axes.add_patch(Rectangle((0, 0), width, height, **padding))
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, w, h, 0))
            axes.set(xlim=(0, width), ylim=(height, 0), xlabel=f"{w} x {h} of {width} x {height} pixels")
            axes.set(xticks=(), yticks=())
            draw_boxes(axes, target["boxes"], target["labels"], names, font_size=9)
            axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def schedules_figure(rates: Mapping[str, Sequence[float]]) -> Figure:
    """Learning rates over a training, as shares of the peak.

    Args:
        rates: title -> the share of the peak rate at equal distances from the first step to the last.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        for (title, values), colour in zip(rates.items(), COLOURS, strict=False):
            axes.plot(np.linspace(0, 100, len(values)), values, color=colour, label=title, linewidth=1.8)
        axes.set(xlabel="percent of all steps", ylabel="share of the peak rate", ylim=(-0.03, None))
        figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return figure


def divergence_figure(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Losses of the first steps at several rates, on a logarithmic axis; a curve ends where the loss is no number.

    Args:
        curves: the rate, in words -> the loss of each step.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        for (rate, losses), colour in zip(curves.items(), COLOURS, strict=False):
            values = np.array(losses, float)
            finite = np.isfinite(values)
            end = len(values) if finite.all() else int(np.argmin(finite))
            axes.plot(np.arange(1, end + 1), values[:end], color=colour, label=f"rate {rate}", linewidth=1.8)
            if end < len(values) and end:
                axes.plot(end, values[end - 1], "x", color=colour, markersize=9)
                axes.annotate("not a number", (end, values[end - 1]), xytext=(6, 0), textcoords="offset points")
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return figure
