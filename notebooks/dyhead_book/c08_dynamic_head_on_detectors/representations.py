"""One object, written in the four ways of the detectors: from an anchor, from a place, by points, by corners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, style


@dataclass(frozen=True)
class Written:
    """An object and what the four notations need.

    Attributes:
        box: x1, y1, x2, y2 in pixels.
        anchor: the same of an anchor near it.
        place: (x, y), the point of a cell, inside the box.
        points: (9, 2), (x, y), on the object.
    """

    box: Tensor
    anchor: Tensor
    place: Tensor
    points: Tensor


#: The motorcycle of the photograph "workshop", by hand. Its anchor is the largest of RetinaNet's on P5, 406 pixels.
MOTORCYCLE = Written(
    box=torch.tensor([95.0, 80, 684, 450]),
    anchor=torch.tensor([101.0, 37, 507, 443]),
    place=torch.tensor([368.0, 272]),
    points=torch.tensor(
        [
            [505.0, 80],
            [554, 152],
            [684, 392],
            [640, 450],
            [330, 436],
            [205, 397],
            [128, 322],
            [95, 226],
            [182, 162],
        ]
    ),
)


def representations_figure(image: Tensor, written: Written) -> Figure:
    """Four panels with the same orange box: an anchor beside it, distances from a place, points, two corners.

    Args:
        image: (3, H, W) in [0, 1].
        written: the object.

    Raises:
        ValueError: its place lies outside its box.
    """
    x1, y1, x2, y2 = written.box.tolist()
    x, y = written.place.tolist()
    if not (x1 <= x <= x2 and y1 <= y <= y2):
        raise ValueError(f"place: got ({x:.1f}, {y:.1f}), expected a position inside the box {written.box.tolist()}")
    height, width = image.shape[1:]
    with style():
        figure = Figure(figsize=(9.6, 6.9), dpi=DPI, layout="constrained")
        panels = list(figure.subplots(2, 2).flat)
        by_anchor, by_place, by_points, by_corners = panels
        for axes in panels:
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, width, height, 0))
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
            _outline(axes, written.box, ORANGE, "-")
        by_anchor.set_title("an anchor and how to change it", fontsize=11)
        _outline(by_anchor, written.anchor, BLUE, "--")
        middles = [(corners[:2] + corners[2:]).div(2).tolist() for corners in (written.anchor, written.box)]
        _arrow(by_anchor, middles[0], middles[1])
        by_place.set_title("a place and four distances", fontsize=11)
        for end in ((x1, y), (x, y1), (x2, y), (x, y2)):
            _arrow(by_place, (x, y), end)
        by_place.plot(x, y, "s", color="white", markeredgecolor=INK, markersize=8)
        by_points.set_title("nine points and the smallest box around them", fontsize=11)
        _dots(by_points, written.points)
        by_corners.set_title("two corners", fontsize=11)
        _dots(by_corners, torch.tensor([[x1, y1], [x2, y2]]))
    return figure


def _dots(axes: Axes, points: Tensor) -> None:
    axes.plot(*points.T.tolist(), "o", color=BLUE, markeredgecolor="white", markersize=9, clip_on=False)


def _arrow(axes: Axes, start: Any, end: Any) -> None:
    for width, colour in ((4.5, "white"), (2.5, BLUE)):
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": width})


def _outline(axes: Axes, box: Tensor, colour: str, linestyle: str) -> None:
    x1, y1, x2, y2 = box.tolist()
    for width, edge, opacity in ((4, "black", 0.5), (2, colour, 1)):
        look: Any = {"edgecolor": edge, "linewidth": width, "alpha": opacity, "linestyle": linestyle}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))
