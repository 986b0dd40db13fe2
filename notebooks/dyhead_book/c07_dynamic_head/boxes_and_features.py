"""What a detector found and what it computed, side by side: the picture of a setting of the switchboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from dyhead_lab.views.features import energy, energy_share
from dyhead_lab.views.figures import DPI, draw_boxes, style


def boxes_and_features_figure(
    image: torch.Tensor,
    detection: Mapping[str, torch.Tensor],
    features: Sequence[torch.Tensor],
    levels: Sequence[str],
    names: Sequence[str],
    threshold: float = 0.5,
) -> Figure:
    """The image with its boxes, and beside it the energy of the features on each level.

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
        figure = Figure(figsize=(4 + 2 * columns, 4), dpi=DPI, layout="constrained")
        grid = figure.add_gridspec(2, 2 + columns)
        first = figure.add_subplot(grid[:, :2])
        first.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, W, H, 0))
        draw_boxes(first, detection["boxes"][kept], detection["labels"][kept], names, detection["scores"][kept])
        first.set(xlim=(0, W), ylim=(H, 0))
        for place, (level, maps) in enumerate(zip(levels, features, strict=True)):
            axes = figure.add_subplot(grid[place // columns, 2 + place % columns])
            axes.imshow(energy(maps)[0].sqrt().numpy(force=True), cmap="viridis", vmin=0, extent=(0, W, H, 0))
            axes.set_title(f"{level}: {float(energy_share(maps)):.0%}", fontsize=9)
        for axes in figure.axes:
            axes.set(xticks=(), yticks=())
    return figure
