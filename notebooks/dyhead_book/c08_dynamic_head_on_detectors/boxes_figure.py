"""Pictures with the boxes that a detector found in them, in rows as wide as the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from torch import Tensor

from dyhead_lab.views.figures import DPI, draw_boxes, style

WIDTH = 9.6  # inches
LABEL = 9  # points
LINE = 1.7 * LABEL  # from a label to one below it, in points
GAP = 0.03  # between images, of the height of one in the widest row


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
    rows = [range(first, min(first + columns, len(images))) for first in range(0, len(images), columns)]
    widths = [[images[i].shape[-1] / images[i].shape[-2] for i in row] for row in rows]  # of a height of 1
    most = max(sum(row) + GAP * (len(row) - 1) for row in widths)
    heights = [most / (sum(row) + GAP * (len(row) - 1)) for row in widths]  # so that every row is as wide
    total = sum(heights) + GAP * (len(rows) - 1)
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * total / most), dpi=DPI)
        top = total
        for row, sizes, height in zip(rows, widths, heights, strict=True):
            left, top = 0.0, top - height
            for i, size in zip(row, sizes, strict=True):
                place = (left / most, top / total, size * height / most, height / total)
                _draw(figure.add_axes(place), images[i], found[i], names, least)
                left += (size + GAP) * height
            top -= GAP
    return figure


def _draw(axes: Axes, image: Tensor, found: Mapping[str, Tensor], names: Sequence[str], least: float) -> None:
    height, width = image.shape[-2:]
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, width, height, 0))
    axes.axis("off")
    kept = found["scores"] >= least
    axes.set(xlim=(0, width), ylim=(height, 0))
    draw_boxes(axes, found["boxes"][kept], found["labels"][kept], names, found["scores"][kept], font_size=LABEL)
    _part_labels(axes)


def _part_labels(axes: Axes) -> None:
    """Labels of boxes with one and the same corner stand below each other, the highest score on top."""
    taken: dict[tuple[int, int], int] = {}
    for label in reversed([text for text in axes.texts if isinstance(text, Annotation)]):  # the highest score is last
        corner = (round(label.xy[0]), round(label.xy[1]))
        x, y = label.get_position()
        label.set_position((x, y - LINE * taken.get(corner, 0)))
        taken[corner] = taken.get(corner, 0) + 1
