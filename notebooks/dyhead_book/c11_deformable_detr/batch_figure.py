"""A padded batch of photographs, and the middle of each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.views.figures import DPI, INK, VERMILION, style


def batch_figure(images: Sequence[Tensor]) -> Figure:
    """Images as they stand in one batch: padded right and below to the largest, the padding hatched.

    Args:
        images: (3, H, W) each, in [0, 1]. A cross marks the middle of each, the reference (0.5, 0.5).
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    with style():
        figure = Figure(figsize=(3.4 * len(images), 3.4 * height / width + 0.4), dpi=DPI, layout="constrained")
        for axes, image in zip(figure.subplots(1, len(images), squeeze=False)[0], images, strict=True):
            _, H, W = image.shape
            axes.add_patch(Rectangle((0, 0), width, height, fill=False, hatch="//", edgecolor=INK, linewidth=1))
            axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0), zorder=2)
            axes.plot(W / 2, H / 2, "+", color="white", markersize=17, markeredgewidth=5, zorder=3)
            axes.plot(W / 2, H / 2, "+", color=VERMILION, markersize=15, markeredgewidth=3, zorder=3)
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=(), aspect="equal")
            axes.set_title(f"{H} x {W} pixels in {height} x {width}", fontsize=9)
    return figure
