"""Pictures of sampling: the four pixels of bilinear interpolation, and where the taps of a convolution read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dyhead_lab.ops.formula import tap_positions
from dyhead_lab.views.figures import BLUE, DPI, ORANGE, SKY, style

KERNEL = (3, 3)


def four_pixels_figure(image_HW: np.ndarray, p_y: float, p_x: float) -> Figure:
    """The four pixels around a position with their weights G, and the areas that these weights are.

    The weight of a pixel is the area of the rectangle between the position and the opposite pixel.

    Args:
        image_HW: grey values; small enough to see single pixels.
        p_y, p_x: the position in pixels, inside the image.
    """
    H, W = image_HW.shape
    if not (0 <= p_y <= H - 1 and 0 <= p_x <= W - 1):
        raise ValueError(f"p_y, p_x: got ({p_y}, {p_x}), expected a position inside an image of {H} x {W} pixels")
    row, column = min(math.floor(p_y), H - 2), min(math.floor(p_x), W - 2)
    with style():
        figure = Figure(figsize=(0.9 * W, 0.9 * H), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(image_HW, cmap="Greys_r", alpha=0.35)
        for i in (row, row + 1):
            for j in (column, column + 1):
                weight = (1 - abs(i - p_y)) * (1 - abs(j - p_x))
                axes.plot(j, i, "o", color=BLUE, markersize=7)
                above = (0, 8) if i == row else (0, -16)
                label: Any = {
                    "ha": "center",
                    "color": "white",
                    "bbox": {"facecolor": BLUE, "edgecolor": "none", "pad": 1.5},
                }
                axes.annotate(f"{weight:.2f}", (j, i), above, textcoords="offset points", **label)
                opposite_y, opposite_x = 2 * row + 1 - i, 2 * column + 1 - j
                corner = min(opposite_x, p_x), min(opposite_y, p_y)
                size = abs(opposite_x - p_x), abs(opposite_y - p_y)
                axes.add_patch(Rectangle(corner, *size, facecolor=SKY, alpha=0.15 + 0.6 * weight, edgecolor="white"))
        axes.plot(p_x, p_y, "X", color=ORANGE, markersize=11, markeredgecolor="black")
        axes.set(xticks=range(W), yticks=range(H), xlabel="column, x", ylabel="row, y")
    return figure


def taps_figure(
    image: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    stride: float,
    cells: Sequence[tuple[int, int]],
    names: Sequence[str] = (),
) -> Figure:
    """Where a 3x3 deformable convolution reads for a few output cells, drawn on the image.

    Args:
        image: (3, H, W) in [0, 1].
        offset: (18, h, w) traced offsets of one level, (dy, dx) per tap, in cells of that level.
        mask: (9, h, w) traced modulation; a tap's disc has this area.
        stride: pixels per cell of the level.
        cells: (row, column) of the output cells, one picture each.
        names: titles of the pictures; none: the cells.
    """
    y, x = tap_positions(offset[None].cpu(), KERNEL, (1, 1), (1, 1), (1, 1))
    regular_y, regular_x = tap_positions(torch.zeros_like(offset[None]).cpu(), KERNEL, (1, 1), (1, 1), (1, 1))
    with style():
        height = 3.2 * max(image.shape[1] / image.shape[2], 0.75)
        figure = Figure(figsize=(3.2 * len(cells), height), dpi=DPI, layout="constrained")
        titles = names or [f"cell {cell}" for cell in cells]
        panels = figure.subplots(1, len(cells), squeeze=False)[0]
        for axes, (row, column), title in zip(panels, cells, titles, strict=True):
            at = (0, 0, slice(None), row, column)
            start = np.stack([regular_x[at], regular_y[at]], -1) * stride + stride / 2
            end = np.stack([x[at], y[at]], -1) * stride + stride / 2
            _draw_taps(axes, image, start, end, mask[:, row, column].numpy(force=True))
            axes.set_title(title, fontsize=10)
    return figure


def _draw_taps(axes: Axes, image: torch.Tensor, start: np.ndarray, end: np.ndarray, mask: np.ndarray) -> None:
    """Arrows from the regular grid to where the taps read; (9, 2) as (x, y) in pixels of the image."""
    H, W = image.shape[1:]
    axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0), alpha=0.85)
    axes.plot(*start.T, "s", color="white", markersize=4, markeredgecolor="black", markeredgewidth=0.5)
    for from_xy, to_xy in zip(start, end, strict=True):
        axes.annotate("", to_xy, from_xy, arrowprops={"arrowstyle": "-", "color": "white", "linewidth": 1})
    axes.scatter(end[:, 0], end[:, 1], s=140 * mask, color=ORANGE, edgecolors="black", linewidths=0.7, zorder=3)
    axes.plot(*start[4], "+", color="black", markersize=9, zorder=4)
    axes.set(xlim=(0, W), ylim=(H, 0), xticks=(), yticks=())
