"""Where on a picture the energy of features lies, on one scale for all levels, steps and settings.

Levels differ in how large their numbers are. So what is drawn is the energy of a place over the mean energy of its map:
1 everywhere if the energy is spread evenly, whatever its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dyhead_lab.views.features import energy, energy_share
from dyhead_lab.views.figures import DPI, draw_boxes, style

#: The scale of every map: an eighth of the mean to eight times the mean.
SCALE = LogNorm(1 / 8, 8)
SMALLEST_TEXT = 9  # points
PANEL = 180  # pixels


def density(features: torch.Tensor) -> torch.Tensor:
    """Energy of each place over the mean of its map, (B, C, H, W) -> (B, H, W)."""
    energies = energy(features)
    return energies / energies.mean((1, 2), keepdim=True)


def contrast(features: torch.Tensor, boxes: torch.Tensor, size: tuple[float, float]) -> float:
    """How much more energy a place inside of the boxes has than one outside, as a ratio of means.

    Args:
        features: (1, C, h, w).
        boxes: (n, 4) xyxy in pixels.
        size: (H, W) in pixels of what the map covers, padding included.
    """
    h, w = features.shape[-2:]
    y = (torch.arange(h) + 0.5) * size[0] / h
    x = (torch.arange(w) + 0.5) * size[1] / w
    inside = torch.zeros(h, w, dtype=torch.bool)
    for x1, y1, x2, y2 in boxes.tolist():
        inside |= ((y >= y1) & (y <= y2))[:, None] & ((x >= x1) & (x <= x2))[None]
    energies = energy(features)[0]
    return float(energies[inside].mean() / energies[~inside].mean())


def energy_maps_figure(
    image: torch.Tensor,
    steps: Mapping[str, Sequence[torch.Tensor]],
    levels: Sequence[str],
    boxes: torch.Tensor | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """The image under the density of its features: a row per level, a column per step, one scale for all.

    Args:
        image: (3, H, W) in [0, 1].
        steps: name -> maps (1, C, h, w), one per level.
        levels: names of the levels, fine to coarse.
        boxes: (n, 4) xyxy in pixels; drawn as outlines.
        size: (H, W) in pixels of what the maps cover, padding included; by default the image.

    Raises:
        ValueError: a step has another number of maps than there are levels.
    """
    for name, maps in steps.items():
        if len(maps) != len(levels):
            raise ValueError(f"steps: {name} has {len(maps)} maps, expected {len(levels)}: {', '.join(levels)}")
    H, W = image.shape[1:]
    width = 8.4 / len(steps)
    with style():
        figure = Figure(figsize=(9.3, (width * H / W + 0.25) * len(levels) + 0.3), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(levels), len(steps), squeeze=False)
        for row, level in enumerate(levels):
            for axes, (name, maps) in zip(grid[row], steps.items(), strict=True):
                drawn = _draw(axes, image, maps[row], size or (H, W))
                axes.set_title(f"{name}, {level}" if row == 0 else level, fontsize=10)
                for x1, y1, x2, y2 in [] if boxes is None else boxes.tolist():
                    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", linewidth=1.2)
        _colour_bar(figure, drawn, grid)
    return figure


def boxes_and_features_figure(
    image: torch.Tensor,
    detection: Mapping[str, torch.Tensor],
    features: Sequence[torch.Tensor],
    levels: Sequence[str],
    names: Sequence[str],
    threshold: float = 0.5,
) -> Figure:
    """The image with its boxes, and beside it the density of the features on each level.

    Args:
        image: (3, H, W) in [0, 1].
        detection: of this image, as detectors return it.
        features: traced maps (1, C, h, w), one per level, fine to coarse.
        levels: names of the levels.
        names: class names.
        threshold: boxes of lower score are left out.
    """
    H, W = image.shape[1:]
    columns = -(-len(features) // 2)
    kept = detection["scores"] >= threshold
    with style():
        # The picture is kept twice, as output and as the state of a widget, and its noise compresses badly.
        figure = Figure(figsize=(4.2 + 1.9 * columns, 3.9), dpi=DPI, layout="constrained")
        grid = figure.add_gridspec(2, 2 + columns)
        first = figure.add_subplot(grid[:, :2])
        pixels = image.permute(1, 2, 0).clamp(0, 1).numpy(force=True)
        first.imshow(pixels, extent=(0, W, H, 0), interpolation="nearest")
        boxes, labels, scores = (detection[key][kept] for key in ("boxes", "labels", "scores"))
        draw_boxes(first, boxes, labels, names, scores, SMALLEST_TEXT)
        first.set(xlim=(0, W), ylim=(H, 0), xticks=(), yticks=())
        first.set_title(f"{int(kept.sum())} boxes of score {threshold} or more", fontsize=10)
        panels = []
        for place, (level, maps) in enumerate(zip(levels, features, strict=True)):
            axes = figure.add_subplot(grid[place // columns, 2 + place % columns])
            drawn = _draw(axes, image, maps, (H, W))
            axes.set_title(f"{level}: {float(energy_share(maps)):.0%} in a tenth", fontsize=SMALLEST_TEXT)
            panels.append(axes)
        _colour_bar(figure, drawn, panels)
    return figure


def _draw(axes: Axes, image: torch.Tensor, features: torch.Tensor, size: tuple[float, float]) -> Any:
    """One map over its image in grey."""
    H, W = image.shape[1:]
    axes.imshow(_grey(image), cmap="gray", vmin=0, vmax=1, extent=(0, W, H, 0), interpolation="nearest")
    shown = density(features)[0].numpy(force=True)
    drawn = axes.imshow(
        shown, cmap="inferno", norm=SCALE, alpha=0.65, extent=(0, size[1], size[0], 0), interpolation="nearest"
    )
    axes.set(xticks=(), yticks=(), xlim=(0, W), ylim=(H, 0))
    return drawn


def _grey(image: torch.Tensor) -> np.ndarray:
    """The image in 16 shades of grey, at most :data:`PANEL` pixels wide: what lies behind a map need not be large."""
    grey = image.mean(0, keepdim=True)[None].clamp(0, 1)
    share = min(1.0, PANEL / image.shape[2])
    smaller = F.interpolate(grey, scale_factor=share, mode="area") if share < 1 else grey
    return (smaller[0, 0] * 15).round().div(15).numpy(force=True)


def _colour_bar(figure: Figure, drawn: Any, panels: Any) -> None:
    bar = figure.colorbar(drawn, ax=panels, shrink=0.8, extend="both", ticks=[1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8])
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"], fontsize=SMALLEST_TEXT)
    bar.set_label("energy of a place / mean of its map", fontsize=SMALLEST_TEXT)
    bar.minorticks_off()
