"""Features drawn by their energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from dyhead_lab.views.features import TOP, energy, energy_share
from dyhead_lab.views.figures import DPI, style


def features_figure(
    image: torch.Tensor, steps: Mapping[str, Sequence[torch.Tensor]], levels: Sequence[str], index: int = 0
) -> Figure:
    """The image, and below it a row per level and a column per step: brighter means more energy.

    Each map is scaled to its own maximum, so that its pattern shows; the share above it does not depend on scale.

    Args:
        image: (3, H, W) in [0, 1].
        steps: name -> maps (B, C, H, W), one per level.
        levels: names of the levels, fine to coarse.
        index: which image of the batch.
    """
    for name, maps in steps.items():
        if len(maps) != len(levels):
            raise ValueError(f"steps: {name} has {len(maps)} maps, expected {len(levels)}: {', '.join(levels)}")
    H, W = image.shape[1:]
    with style():
        figure = Figure(figsize=(2 * (len(steps) + 1), 2.1 * len(levels)), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(levels), len(steps) + 1, squeeze=False)
        for l, level in enumerate(levels):
            if l == 0:
                grid[l, 0].imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, W, H, 0))
            else:
                grid[l, 0].axis("off")
            grid[l, 1].set_ylabel(level, fontsize=11)
            for axes, (name, maps) in zip(grid[l, 1:], steps.items(), strict=True):
                one = maps[l][index : index + 1]
                axes.imshow(energy(one)[0].sqrt().numpy(force=True), cmap="viridis", vmin=0, extent=(0, W, H, 0))
                axes.set_title(f"{name}: {float(energy_share(one)):.0%}", fontsize=9)
        for axes in grid.flat:
            axes.set(xticks=(), yticks=())
        figure.supxlabel(f"percentages: energy in the strongest {TOP:.0%} of positions", fontsize=9)
    return figure
