"""Where deformable attention reads: the points at the start of training, and those of a query on its image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.views.figures import DPI, INK, PALETTE, ink_on, style

#: Area in points^2 of the disc of a sampling point that has all of the weight of its head.
LARGEST_DISC = 700
HEAD_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Points:
    """Sampling points of one query, as a trace hands them over.

    Attributes:
        locations_MLP2: ``sampling_locations[b, q]``, (x, y) in [0, 1].
        weights_MLP: ``attention_weights[b, q]``.
        reference: (2,) point or (4,) box (cx, cy, w, h), in [0, 1].
    """

    locations_MLP2: Tensor
    weights_MLP: Tensor
    reference: Tensor


def offsets_figure(offsets_MLP2: Tensor, titles: Sequence[str], unit: str = "cells") -> Figure:
    """Offsets around a reference point, one picture per entry of the second axis (a level, or a query).

    Args:
        offsets_MLP2: (M, L, P, 2), (x, y). A head has a colour and a marker of its own.
        titles: one per picture.
        unit: of the offsets, for the axis.
    """
    M, L = offsets_MLP2.shape[:2]
    reach = float(offsets_MLP2.abs().max()) + 0.8
    with style():
        figure = Figure(figsize=(min(2.6 * L, 9.3), 3.2), dpi=DPI, layout="constrained")
        for level, (axes, title) in enumerate(zip(figure.subplots(1, L, squeeze=False)[0], titles, strict=True)):
            for m in range(M):
                x, y = offsets_MLP2[m, level].numpy(force=True).T
                marker, colour = HEAD_MARKERS[m % len(HEAD_MARKERS)], PALETTE[m % len(PALETTE)]
                axes.plot(x, y, marker, color=colour, markersize=7, markeredgecolor=INK, markeredgewidth=0.6)
            axes.plot(0, 0, "+", color=INK, markersize=14, markeredgewidth=2)
            axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", xlabel=f"dx, {unit}")
            axes.grid(color=INK, alpha=0.3, linewidth=0.5)
            axes.set_title(title, fontsize=10)
            if level == 0:
                axes.set_ylabel(f"dy, {unit}")
    return figure


def points_figure(
    image: Tensor, queries: Mapping[str, Points], sizes: Sequence[tuple[int, int]], columns: int = 3
) -> Figure:
    """Sampling points of a few queries on their image: colour tells the level, area the weight.

    Args:
        image: (3, H, W) in [0, 1], without padding.
        queries: title -> its points.
        sizes: (H, W) of the levels, to name them by their stride.
        columns: pictures per row.
    """
    H, W = image.shape[1:]
    columns = min(columns, len(queries))
    rows = -(-len(queries) // columns)
    strides = [round(W / width) for _, width in sizes]
    with style():
        figure = Figure(figsize=(3.2 * columns, 3.4 * rows * H / W + 0.5), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in grid:
            axes.axis("off")
        for axes, (title, points) in zip(grid, queries.items(), strict=False):
            axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0), alpha=0.8)
            _draw_points(axes, points, W, H)
            axes.set(xlim=(0, W), ylim=(H, 0))
            axes.set_title(title, fontsize=10)
        colours = [PALETTE[level % len(PALETTE)] for level in range(len(sizes))]
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="black") for colour in colours]
        names = [f"level {level}, stride {stride}" for level, stride in enumerate(strides)]
        across = len(sizes) if columns > 1 else 1
        figure.legend(handles, names, loc="outside lower center", ncols=across, frameon=False, fontsize=9)
    return figure


def _draw_points(axes: Axes, points: Points, width: int, height: int) -> None:
    for level in range(points.weights_MLP.shape[1]):
        x, y = points.locations_MLP2[:, level].flatten(0, 1).numpy(force=True).T
        area = LARGEST_DISC * points.weights_MLP[:, level].flatten().numpy(force=True)
        colour = PALETTE[level % len(PALETTE)]
        axes.scatter(x * width, y * height, s=area, color=colour, edgecolors="black", linewidths=0.5, alpha=0.9)
    cx, cy, *size = points.reference.tolist()
    axes.plot(cx * width, cy * height, "+", color="white", markersize=13, markeredgewidth=3.5)
    axes.plot(cx * width, cy * height, "+", color="black", markersize=12, markeredgewidth=1.5)
    if size:
        w, h = size
        corner = ((cx - w / 2) * width, (cy - h / 2) * height)
        axes.add_patch(Rectangle(corner, w * width, h * height, fill=False, edgecolor="white", linewidth=2.5))
        axes.add_patch(Rectangle(corner, w * width, h * height, fill=False, edgecolor="black", linewidth=1))


def level_shares_figure(shares: Mapping[str, Tensor], levels: Sequence[str]) -> Figure:
    """How much of the attention goes to each level, one stacked bar per group.

    Args:
        shares: group -> (L,), which sums to 1.
        levels: names of the levels, fine to coarse.
    """
    with style():
        figure = Figure(figsize=(6.4, 0.55 * len(shares) + 1.2), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        start = [0.0] * len(shares)
        for level, name in enumerate(levels):
            width = [float(share[level]) for share in shares.values()]
            colour = PALETTE[level % len(PALETTE)]
            bars = axes.barh(list(shares), width, left=start, color=colour, edgecolor="black", label=name)
            texts = [f"{w:.0%}" if w >= 0.05 else "" for w in width]  # a smaller part has no room for a number
            axes.bar_label(bars, texts, label_type="center", color=ink_on(colour), fontsize=9)
            start = [a + b for a, b in zip(start, width, strict=True)]
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="share of the attention weight")
        axes.legend(frameon=False, labelcolor=INK, ncols=len(levels), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
