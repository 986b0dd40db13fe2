"""Pictures of a pyramid: where the energy of its levels lies, and which object each point learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.views.features import TOP, energy, energy_share
from dyhead_lab.views.figures import DPI, INK, ORANGE, SKY, VERMILION, style

WIDE, GREYS = 280, 14  # pixels and shades of a photograph below something else
BRIGHTEST = 4.0  # times the mean of a level; what is brighter looks the same
COLOURS = (ORANGE, SKY, VERMILION)


def levels_figure(image: Tensor, levels: Mapping[str, Tensor]) -> Figure:
    """A photograph, and its maps over it: where the energy of each level lies, all on one scale.

    Args:
        image: (3, H, W) in [0, 1].
        levels: name -> (1, C, h, w), fine to coarse. Drawn is the sum of squares over channels over its mean.
    """
    H, W = image.shape[1:]
    columns = 2 if len(levels) < 4 else 3
    rows = -(-(len(levels) + 1) // columns)
    with style():
        figure = Figure(figsize=(3.1 * columns, 3.1 * rows * (H / W + 0.1)), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        grid[0].imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0))
        grid[0].set_title(f"the photograph, {H} x {W} pixels", fontsize=9)
        panels = []
        for axes, (name, maps) in zip(grid[1:], levels.items(), strict=False):
            shown = _draw_energy(axes, image, maps)
            _, C, h, w = maps.shape
            axes.set_title(f"{name}: {C} channels, {h} x {w} cells", fontsize=9)
            panels.append(axes)
        for axes in grid:
            axes.axis("off")
        figure.colorbar(shown, ax=panels, label="energy, times the mean of its level", shrink=0.6)
    return figure


def features_figure(image: Tensor, steps: Mapping[str, Sequence[Tensor]], levels: Sequence[str]) -> Figure:
    """An image, and beside it a row of maps per step: where the energy lies before and after, all on one scale.

    Each title tells the share of a map's energy in its strongest tenth, which does not depend on the scale.

    Args:
        image: (3, H, W) in [0, 1].
        steps: letter -> maps (1, C, h, w), one per level.
        levels: numbers of the levels, fine to coarse.

    Raises:
        ValueError: a step has not one map for each level.
    """
    for name, maps in steps.items():
        if len(maps) != len(levels):
            raise ValueError(f"steps: {name} has {len(maps)} maps, expected {len(levels)}: {', '.join(levels)}")
    H, W = image.shape[1:]
    with style():
        figure = Figure(figsize=(9.3, 2.1 * len(steps)), dpi=DPI, layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=(1, 2))
        left, right = halves
        axes = left.subplots()
        axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, W, H, 0))
        axes.set_title(f"the picture, {H} x {W} pixels", fontsize=9)
        axes.axis("off")
        grid = right.subplots(len(steps), len(levels), squeeze=False)
        for row, (name, maps) in zip(grid, steps.items(), strict=True):
            for axes, level, one in zip(row, levels, maps, strict=True):
                shown = _draw_energy(axes, image, one)
                axes.set_title(f"{name}{level}: {float(energy_share(one)):.0%}", fontsize=9)
                axes.axis("off")
        right.colorbar(shown, ax=grid, label="energy, times the mean of its map")
        figure.supxlabel(f"percentages: energy in the strongest {TOP:.0%} of a map's cells", fontsize=9)
    return figure


def _draw_energy(axes: Axes, image: Tensor, maps: Tensor) -> AxesImage:
    """The energy of (1, C, h, w) over its mean, on this chapter's one scale, over the image in greys."""
    _draw_underneath(axes, image)
    H, W = image.shape[1:]
    relative = energy(maps)[0] / energy(maps).mean()
    return axes.imshow(
        relative.numpy(force=True),
        extent=(0, W, H, 0),
        cmap="viridis",
        vmin=0,
        vmax=BRIGHTEST,
        alpha=0.6,
        interpolation="nearest",
    )


def _draw_underneath(axes: Axes, image: Tensor) -> None:
    """The photograph in a few greys, as fine as a small panel shows it: a notebook that holds many stays small."""
    H, W = image.shape[1:]
    small = F.interpolate(image.mean(0)[None, None], size=(round(WIDE * H / W), WIDE), mode="area")[0, 0]
    greys = (0.25 + 0.75 * small).mul(GREYS).round().div(GREYS).numpy(force=True)
    axes.imshow(greys, extent=(0, W, H, 0), cmap="Greys_r", vmin=0, vmax=1, interpolation="nearest")


def assignment_figure(
    image: Tensor,
    boxes_M4: np.ndarray,
    names: Sequence[str],
    points: Mapping[str, np.ndarray],
    chosen: Mapping[str, np.ndarray],
) -> Figure:
    """The points of each level on the image, in the colour of the object that they learn to find.

    Args:
        image: (3, H, W) in [0, 1].
        boxes_M4: objects, xyxy in pixels, at most three.
        names: of the objects.
        points: level -> (N, 2) as (x, y) in pixels.
        chosen: level -> (N,), the object of each point, or -1.

    Raises:
        ValueError: there are more objects than colours.
    """
    if len(boxes_M4) > len(COLOURS):
        raise ValueError(f"boxes_M4: got {len(boxes_M4)} objects, at most {len(COLOURS)} can be told apart by colour")
    H, W = image.shape[1:]
    with style():
        rows = -(-len(points) // 3)
        figure = Figure(figsize=(9.3, 3.1 * rows * (H / W + 0.1) + 0.3), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, 3, squeeze=False).flatten()
        for axes in grid:
            axes.axis("off")
        for axes, (level, points_N2) in zip(grid, points.items(), strict=False):
            _draw_underneath(axes, image)
            idle = chosen[level] < 0
            axes.plot(*points_N2[idle].T, ".", color=INK, markersize=min(2, 0.5 + 600 / len(idle)))
            for m, (x1, y1, x2, y2) in enumerate(boxes_M4):
                axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=COLOURS[m], linewidth=2))
                own = points_N2[chosen[level] == m]
                axes.plot(*own.T, "o", color=COLOURS[m], markersize=6, markeredgecolor="black", markeredgewidth=0.6)
            axes.set(xlim=(0, W), ylim=(H, 0))
            axes.set_title(f"{level}: {int((~idle).sum())} of {len(idle)} points learn", fontsize=9)
        handles = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="black") for colour in COLOURS[: len(names)]]
        if len(grid) > len(points):
            grid[-1].legend(handles, names, loc="center", title="learns", frameon=False, fontsize=10)
        else:
            figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=10)
    return figure


def normalised(image: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(1, 3, H, W): an image as a backbone of ImageNet wants it."""
    return ((image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1))[None]
