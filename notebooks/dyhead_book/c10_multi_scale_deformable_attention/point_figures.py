"""Figures of the chapter on multi-scale deformable attention: points on a photograph, and how they travelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, PALETTE, SKY, style

#: Area in points^2 of the disc of a point that has all of the weight of its head.
LARGEST_DISC = 110


def _photo(axes: Axes, image: Tensor, stride: int) -> None:
    """A photograph as a level of this stride sees it: the mean of each cell."""
    H, W = image.shape[1:]
    cells = avg_pool2d(image[None], stride)[0]
    axes.imshow(cells.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0), alpha=0.8, interpolation="nearest")
    axes.set(xlim=(0, W), ylim=(H, 0))
    axes.axis("off")


def pyramid_points_figure(image: Tensor, locations_MLP2: Tensor, reference: Tensor, strides: Sequence[int]) -> Figure:
    """The points of one query on each level, over the cells of that level.

    Args:
        image: (3, H, W) in [0, 1], divisible by the strides.
        locations_MLP2: (M, L, P, 2) as (x, y) in [0, 1]; points outside of the image are left out.
        reference: (2,), the query's place.
        strides: of the levels, in pixels.
    """
    H, W = image.shape[1:]
    with style():
        figure = Figure(figsize=(3.1 * len(strides), 3.1 * H / W + 0.3), dpi=DPI, layout="constrained")
        for level, (axes, stride) in enumerate(zip(figure.subplots(1, len(strides)), strides, strict=True)):
            _photo(axes, image, stride)
            for head, points in enumerate(locations_MLP2[:, level]):
                x, y = (points.numpy(force=True) * (W, H)).T
                axes.plot(x, y, "o", color=PALETTE[head % len(PALETTE)], markersize=5, markeredgecolor="black")
            axes.plot(
                *(reference.numpy(force=True) * (W, H)), "X", color="white", markersize=9, markeredgecolor="black"
            )
            axes.set_title(f"stride {stride}: {W // stride} x {H // stride} cells", fontsize=10)
    return figure


def journey_figure(
    image: Tensor,
    start: tuple[Tensor, Tensor],
    end: tuple[Tensor, Tensor],
    query: Tensor,
    aims_Q2: Tensor,
    stride: int,
) -> Figure:
    """Where the points of a few queries lay at the start and where they lie at the end.

    Args:
        image: (3, H, W) in [0, 1].
        start, end: locations (Q, M, L, P, 2) in [0, 1] and weights (Q, M, L, P).
        query: (2,) in pixels, where all queries stand.
        aims_Q2: (Q, 2) in pixels, what each of them was asked for.
        stride: of the finest level, in pixels; the image is drawn in its cells.
    """
    H, W = image.shape[1:]
    colours = (SKY, ORANGE, PALETTE[2], PALETTE[4])
    with style():
        figure = Figure(figsize=(9.6, 4.8 * H / W + 0.3), dpi=DPI, layout="constrained")
        for axes, title, (where, weights) in zip(
            figure.subplots(1, 2), ("before training", "after it, area = weight"), (start, end), strict=True
        ):
            _photo(axes, image, stride)
            for kind, colour in zip(range(len(aims_Q2)), colours, strict=False):
                x, y = (where[kind].flatten(0, 2).numpy(force=True) * (W, H)).T
                area = LARGEST_DISC * weights[kind].flatten().numpy(force=True)
                axes.scatter(x, y, s=area, color=colour, edgecolors="black", linewidths=0.6)
                axes.plot(*aims_Q2[kind].tolist(), "s", markersize=24, markerfacecolor="none",
                          markeredgecolor="black", markeredgewidth=3.5)  # fmt: skip
                axes.plot(*aims_Q2[kind].tolist(), "s", markersize=24, markerfacecolor="none",
                          markeredgecolor=colour, markeredgewidth=2)  # fmt: skip
            axes.plot(*query.tolist(), "X", color="white", markersize=11, markeredgecolor="black")
            axes.set_title(title, fontsize=10)
    return figure


def learning_figure(losses: Mapping[str, Sequence[float]], window: int = 20) -> Figure:
    """Running means of losses that are shares of a variance, on one axis."""
    with style():
        figure = Figure(figsize=(6.4, 3.0), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for (name, values), colour in zip(losses.items(), (BLUE, ORANGE), strict=False):
            smooth = np.convolve(values, np.ones(window) / window, "valid")
            axes.plot(np.arange(len(smooth)) + window / 2, smooth, color=colour, label=name)
        axes.set(xlabel="step", ylabel="share of the variance missed", ylim=(0, 1))
        axes.legend(frameon=False, labelcolor=INK, title="points start as", title_fontsize=10)
    return figure
