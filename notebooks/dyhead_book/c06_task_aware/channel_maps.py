"""One channel of one level as maps over a photograph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure

from dyhead_lab.views.figures import DPI, style


def channel_maps_figure(image: torch.Tensor, maps: Mapping[str, torch.Tensor]) -> Figure:
    """The photograph, then a panel a map over it, in grey: blue is negative, red positive, on one scale.

    Args:
        image: (3, H, W) in [0, 1].
        maps: name -> (h, w), up to three.
    """
    height, width = image.shape[1:]
    h, w = next(iter(maps.values())).shape
    cell = max(width / w, height / h)  # pixels of the photograph; the network's input may be padded, it is never cut
    reach = (0, w * cell, h * cell, 0)
    top = max(float(values.abs().max()) for values in maps.values())
    grey = image.mean(0).numpy(force=True)
    with style():
        figure = Figure(figsize=(9, 5.4), dpi=DPI, layout="constrained")
        panels = list(figure.subplots(2, 2).flat)
        panels[0].imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, width, height, 0))
        panels[0].set_title("photograph", fontsize=10)
        for axes, (name, values) in zip(panels[1:], maps.items(), strict=False):
            axes.imshow(grey, cmap="gray", extent=(0, width, height, 0))
            drawn = axes.imshow(
                values.numpy(force=True), extent=reach, cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.7,
                interpolation="nearest",
            )  # fmt: skip
            axes.set_title(name, fontsize=10)
        for axes in figure.axes:
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
        figure.colorbar(drawn, ax=figure.axes, label="value of the channel", shrink=0.7)
    return figure
