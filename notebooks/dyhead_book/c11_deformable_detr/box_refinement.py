"""Boxes of object queries: layer by layer on one image, and where each query finds its boxes over many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PALETTE,
    style,
)


def refinement_figure(
    image: Tensor, references: Sequence[Tensor], queries: Mapping[int, str], titles: Sequence[str]
) -> Figure:
    """Reference points and boxes of a few queries, one picture per layer.

    Args:
        image: (3, H, W) in [0, 1].
        references: per layer (Q, 2) points or (Q, 4) boxes, cxcywh, normalised; the final boxes last.
        queries: number of a query -> its label. A query keeps its colour.
        titles: one per entry of ``references``.
    """
    H, W = image.shape[1:]
    with style():
        figure = Figure(figsize=(2.4 * len(references), 2.4 * H / W + 0.8), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(references), squeeze=False)[0]
        for axes, reference, title in zip(grid, references, titles, strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0), alpha=0.75)
            for number, q in enumerate(queries):
                _draw_reference(axes, reference[q], W, H, PALETTE[number % len(PALETTE)])
            axes.set(xlim=(0, W), ylim=(H, 0), xticks=(), yticks=())
            axes.set_title(title, fontsize=9)
        colours = [PALETTE[number % len(PALETTE)] for number in range(len(queries))]
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="black") for colour in colours]
        across = min(len(queries), len(references))
        figure.legend(
            handles, list(queries.values()), loc="outside lower center", ncols=across, frameon=False, fontsize=9
        )
    return figure


def _draw_reference(axes: Axes, reference: Tensor, width: int, height: int, colour: str) -> None:
    cx, cy, *size = reference.tolist()
    axes.plot(cx * width, cy * height, "o", color=colour, markersize=7, markeredgecolor="black")
    if size:
        w, h = size[0] * width, size[1] * height
        corner = (cx * width - w / 2, cy * height - h / 2)
        axes.add_patch(Rectangle(corner, w, h, fill=False, edgecolor="black", linewidth=3, alpha=0.6))
        axes.add_patch(Rectangle(corner, w, h, fill=False, edgecolor=colour, linewidth=1.8))


PLACES_IN_A_ROW = 4
#: Largest area of each class of COCO's sizes, in pixels, and its colour.
SIZES = {"small": (32.0**2, GREEN), "medium": (96.0**2, ORANGE), "large": (float("inf"), BLUE)}


def query_places_figure(boxes_nQ4: Tensor, queries: Sequence[int], side: int) -> Figure:
    """Where a few queries find their boxes over n images: a dot per image at the centre of the box.

    Args:
        boxes_nQ4: (n, Q, 4) cxcywh, normalised.
        queries: numbers of the queries to show.
        side: of the square images in pixels; the colour of a dot tells whether the box is small, medium or large.
    """
    with style():
        rows = -(-len(queries) // PLACES_IN_A_ROW)
        figure = Figure(figsize=(2.2 * PLACES_IN_A_ROW, 2.5 * rows + 0.5), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, PLACES_IN_A_ROW, squeeze=False).flatten()
        for spare in grid[len(queries) :]:
            spare.axis("off")
        for axes, q in zip(grid, queries, strict=False):
            x, y, w, h = boxes_nQ4[:, q].T
            area, above = w * h * side**2, 0.0
            for name, (below, colour) in SIZES.items():
                chosen = (area >= above) & (area < below)
                axes.plot(x[chosen], y[chosen], ".", color=colour, markersize=4, label=name)
                above = below
            axes.set(xlim=(0, 1), ylim=(1, 0), xticks=(), yticks=(), aspect="equal")
            axes.set_title(f"query {q}", fontsize=9)
            for spine in axes.spines.values():
                spine.set_visible(True)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, markerscale=3)
    return figure
