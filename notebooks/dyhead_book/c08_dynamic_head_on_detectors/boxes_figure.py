"""Pictures with the boxes that a detector found in them, in rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.views.figures import DPI, draw_boxes, style

WIDTH = 9.6  # inches
LABEL = 9  # points


def boxes_figure(
    images: Sequence[Tensor],
    found: Sequence[Mapping[str, Tensor]],
    names: Sequence[str],
    least: float = 0.3,
    columns: int = 2,
) -> Figure:
    """Images with their boxes, so many in a row.

    Args:
        images: (3, H, W) each, in [0, 1].
        found: for each ``boxes`` (n, 4) xyxy in pixels, ``scores`` (n,) and ``labels`` (n,).
        names: of the classes.
        least: boxes of lower score are left out.
        columns: panels in a row.

    Raises:
        ValueError: there are no images, or not as many answers as images.
    """
    if not images or len(images) != len(found):
        raise ValueError(f"found: got {len(found)} for {len(images)} images, expected one for each, at least 1")
    rows = math.ceil(len(images) / columns)
    tallest = max(image.shape[-2] / image.shape[-1] for image in images)
    with style():
        figure = Figure(figsize=(WIDTH, rows * tallest * WIDTH / columns), dpi=DPI, layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels:
            axes.axis("off")
        for axes, image, one in zip(panels, images, found, strict=False):
            height, width = image.shape[-2:]
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, width, height, 0))
            kept = one["scores"] >= least
            draw_boxes(axes, one["boxes"][kept], one["labels"][kept], names, one["scores"][kept], font_size=LABEL)
            axes.set(xlim=(0, width), ylim=(height, 0))
    return figure
