"""One object, written in the three ways of the detectors: relative to an anchor, from a centre, as points."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, style


def representations_figure(
    image: torch.Tensor, box: np.ndarray, anchor: np.ndarray, place: np.ndarray, points: np.ndarray
) -> Figure:
    """Three panels with the same orange box: an anchor beside it, distances from a place, points that span it.

    Args:
        image: (3, H, W) in [0, 1].
        box: of the object, x1, y1, x2, y2 in pixels.
        anchor: x1, y1, x2, y2.
        place: (x, y), the middle of a cell, inside the box.
        points: (P, 2), (x, y).

    Raises:
        ValueError: ``place`` lies outside the box.
    """
    x1, y1, x2, y2 = box
    x, y = place
    if not (x1 <= x <= x2 and y1 <= y <= y2):
        raise ValueError(f"place: got ({x:.1f}, {y:.1f}), expected a position inside the box {box.tolist()}")
    with style():
        figure = Figure(figsize=(9.6, 3.4), dpi=DPI, layout="constrained")
        by_anchor, by_centre, by_points = figure.subplots(1, 3)
        for axes in (by_anchor, by_centre, by_points):
            height, width = image.shape[1:]
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, width, height, 0), alpha=0.8)
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
            _outline(axes, box, ORANGE, "-")
        by_anchor.set_title("box: an anchor and how to change it", fontsize=10)
        _outline(by_anchor, anchor, BLUE, "--")
        middles = [(corners[:2] + corners[2:]) / 2 for corners in (anchor, box)]
        by_anchor.annotate("", middles[1], middles[0], arrowprops={"arrowstyle": "->", "color": BLUE, "linewidth": 2})
        by_centre.set_title("centre: a place and four distances", fontsize=10)
        for end in ((x1, y), (x, y1), (x2, y), (x, y2)):
            by_centre.annotate("", end, (x, y), arrowprops={"arrowstyle": "->", "color": BLUE, "linewidth": 2})
        by_points.set_title("key points: their smallest box", fontsize=10)
        by_points.plot(*points.T, "o", color=BLUE, markeredgecolor="white", markersize=7)
        for axes in (by_centre, by_points):
            axes.plot(x, y, "s", color="white", markeredgecolor=INK, markersize=6)
    return figure


def _outline(axes: Axes, box: np.ndarray, colour: str, linestyle: str) -> None:
    x1, y1, x2, y2 = box
    for width, edge, opacity in ((4, "black", 0.5), (2, colour, 1)):
        look: Any = {"edgecolor": edge, "linewidth": width, "alpha": opacity, "linestyle": linestyle}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))
