"""Which place of which level belongs to which object, over the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dyhead_lab.detectors.losses import centerness
from dyhead_lab.views.figures import DPI, PALETTE, style


def assignment_figure(image: Tensor, boxes: Tensor, points: Sequence[Tensor], matched: Tensor) -> Figure:
    """A panel for each level: small dots are places without an object, the others have the colour of their object.

    The larger such a dot, the more central it lies in its object.

    Args:
        image: (3, H, W) in [0, 1].
        boxes: the objects, xyxy (G, 4) in pixels.
        points: (x, y) of the places of each level, (n, 2) in pixels, fine to coarse from P3 on.
        matched: index of the object of each place, levels one after the other, (N,); negative where there is none.

    Raises:
        ValueError: there are not as many matches as places.
    """
    counts = [len(level) for level in points]
    if sum(counts) != len(matched):
        raise ValueError(f"matched: got {len(matched)} places, expected {sum(counts)}, those of all levels")
    height, width = image.shape[1:]
    with style():
        figure = Figure(figsize=(9.6, 2.9), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(points), squeeze=False)[0]
        for level, (axes, here, own) in enumerate(zip(panels, points, matched.split(counts), strict=True)):
            axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, width, height, 0), alpha=0.55)
            for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                colour = PALETTE[number % len(PALETTE)]
                axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="black", linewidth=2.6))
                axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6))
                mine = own == number
                size = 15 + 70 * centerness(here[mine], boxes[number].expand(int(mine.sum()), 4))
                axes.scatter(*here[mine].T.tolist(), s=size.tolist(), color=colour, edgecolor="black", zorder=3)
            axes.scatter(*here[own < 0].T.tolist(), s=3, color="black", alpha=0.5)
            found = int(torch.count_nonzero(own >= 0))
            axes.set_title(f"P{level + 3}: {found} of {len(here)} places", fontsize=10)
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
    return figure
