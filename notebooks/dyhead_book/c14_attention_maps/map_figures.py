"""Figures of the chapter on attention maps: maps on one scale, shares beside their controls, what silencing does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, style

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
MARKERS = "osD^v"
SMALL = 9  # points
FADED = 0.8  # brightness of the image below a map


def maps_figure(
    panels: Mapping[str, tuple[Tensor, Tensor]],
    label: str,
    columns: int = 4,
    boxes: Mapping[str, Tensor] | None = None,
    spans: tuple[float, float] | None = None,
    cmap: str = "inferno",
) -> Figure:
    """Maps over their images, all on one scale with one colour bar.

    Args:
        panels: title -> (image (3, H, W) in [0, 1], map (h, w) of any resolution that covers it).
        label: of the colour bar, with the unit.
        columns: pictures per row.
        boxes: title -> (4,) xyxy in pixels of a box to outline.
        spans: lowest and highest value of the scale; None: from 0 to the largest of all.
        cmap: a diverging one where the middle of the scale means: nothing was chosen.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    H, W = next(iter(panels.values()))[0].shape[1:]
    low, high = spans or (0.0, max(float(values.max()) for _, values in panels.values()))
    with style():
        width = min(2.6, 8.0 / columns) if columns > 2 else 3.7
        figure = Figure(figsize=(width * columns + 0.9, (width * H / W + 0.35) * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, (title, (image, values)) in zip(grid.flat, panels.items(), strict=False):
            height, wide = image.shape[1:]
            reach = (0, wide, height, 0)
            grey = torch.nn.functional.avg_pool2d(image[None], 2)[0].mean(0) * FADED  # no figure here is about pixels
            axes.imshow(grey.numpy(force=True), cmap="gray", vmin=0, vmax=1, extent=reach)
            drawn = axes.imshow(
                values.float().numpy(force=True), cmap=cmap, vmin=low, vmax=high, alpha=0.7, extent=reach
            )
            if boxes is not None and title in boxes:
                x1, y1, x2, y2 = boxes[title].tolist()
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=SKY, linewidth=1.6)
            axes.set(xlim=(0, wide), ylim=(height, 0))
            axes.set_title(title, fontsize=SMALL)
        bar = figure.colorbar(drawn, ax=grid, fraction=0.05, pad=0.02)
        bar.set_label(label, fontsize=SMALL)
    return figure


def mean_and_interval(values_n: np.ndarray) -> tuple[float, float]:
    """Mean, and half of the interval that holds it with 95 % (twice its standard error)."""
    values_n = np.asarray(values_n, float)
    error = values_n.std(ddof=1) / len(values_n) ** 0.5 if len(values_n) > 1 else float("nan")
    return float(values_n.mean()), 2 * float(error)


def shares_figure(shares: Mapping[str, Sequence[np.ndarray]], places: Sequence[str], label: str) -> Figure:
    """Means of several measurements beside each other, with the interval of each mean over the objects.

    Args:
        shares: what was measured -> for each place the values of n objects, in [0, 1].
        places: where: names of layers or levels.
        label: of the axis.
    """
    with style():
        figure = Figure(figsize=(7.6, 3.1), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for number, (name, rows) in enumerate(shares.items()):
            x = np.arange(len(places)) + 0.11 * (number - (len(shares) - 1) / 2)
            means, halves = np.array([mean_and_interval(row) for row in rows]).T
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.errorbar(x, means, halves, fmt=marker, color=colour, capsize=3, label=name)
        axes.set_xticks(range(len(places)), list(places))
        axes.set(ylim=(0, 1.04), ylabel=label, xlim=(-0.5, len(places) - 0.5))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.5)
        figure.legend(loc="outside right center", frameon=False, fontsize=SMALL)
    return figure


def carry_figure(curves: Mapping[str, np.ndarray], share: float = 0.9) -> Figure:
    """How much of the attention the best tokens carry together, against how many they are.

    Args:
        curves: name -> (N,) attention that each token receives, in any order and unit. A name with "before" is dashed.
        share: to mark.
    """
    with style():
        figure = Figure(figsize=(7.6, 3.4), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        colours: dict[str, str] = {}
        for name, heat_N in curves.items():
            falling = np.sort(np.asarray(heat_N, float))[::-1]
            kind = name.split(",")[0]
            colour = colours.setdefault(kind, COLOURS[len(colours) % len(COLOURS)])
            line = "--" if "before" in name else "-"
            share_N = np.concatenate([[0], falling.cumsum() / falling.sum()])
            axes.plot(np.linspace(0, 1, len(share_N)), share_N, line, color=colour, label=name)
        axes.axhline(share, color=INK, linewidth=1, linestyle=":")
        axes.set(xlabel="share of the tokens, those that receive most first", ylabel="share of the attention")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside right center", frameon=False, fontsize=SMALL)
    return figure


def silenced_figure(scores: Mapping[str, np.ndarray]) -> Figure:
    """Score of each object before and after tokens were silenced: a dot per object, a bar at the mean.

    Args:
        scores: what was silenced -> (n,) scores of the same n objects.
    """
    with style():
        figure = Figure(figsize=(7.0, 3.1), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        rows = np.array(list(scores.values()))
        for number, (colour, values) in enumerate(zip((INK, *COLOURS), rows, strict=False)):
            _column(axes, number, values, colour)
        axes.set_xticks(range(len(rows)), list(scores), fontsize=SMALL)
        axes.set(ylim=(0, 1), ylabel="score of the object's class")
    return figure


def _column(axes: Axes, place: int, values: np.ndarray, colour: str) -> None:
    sideways = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(place + sideways, values, "o", color=colour, markersize=4, alpha=0.7)
    axes.hlines(values.mean(), place - 0.25, place + 0.25, color=colour, linewidth=3)
    axes.annotate(f"{values.mean():.2f}", (place + 0.28, values.mean()), color=INK, fontsize=SMALL, va="center")
