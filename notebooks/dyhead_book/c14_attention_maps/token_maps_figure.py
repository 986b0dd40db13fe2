"""Maps over tokens, drawn on the image: dense attention, the decoder attention map."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.views.figures import DPI, SKY, style

#: Brightness of the image below a map, so that the map stands out.
FADED = 0.45


def token_maps_figure(
    image: Tensor,
    maps: Mapping[str, Tensor],
    query: tuple[float, float] | None = None,
    boxes: Tensor | None = None,
    columns: int = 4,
    brightest: float | None = None,
) -> Figure:
    """Maps over an image, one picture each; the brighter, the more.

    Args:
        image: (3, H, W) in [0, 1].
        maps: title -> (h, w), of any resolution, stretched over the image. Zero is transparent.
        query: (x, y) in pixels of a query to mark.
        boxes: (n, 4) xyxy in pixels to outline.
        columns: pictures per row.
        brightest: the value that is drawn brightest; None: the largest of each map, so that maps cannot be compared.
    """
    H, W = image.shape[1:]
    rows = -(-len(maps) // columns)
    columns = min(columns, len(maps))
    grey = image.mean(0).numpy(force=True) * FADED
    with style():
        figure = Figure(figsize=(2.5 * columns, 2.75 * rows * H / W), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in grid:
            axes.axis("off")
        for axes, (title, values) in zip(grid, maps.items(), strict=False):
            highest = float(values.max()) if brightest is None else brightest
            bright = (values.float().numpy(force=True) / max(highest, 1e-12)).clip(0, 1)
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, W, H, 0))
            axes.imshow(bright, cmap="inferno", vmin=0, vmax=1, alpha=bright**0.5, extent=(0, W, H, 0))
            if query is not None:
                axes.plot(*query, "X", color=SKY, markersize=9, markeredgecolor="black")
            for x1, y1, x2, y2 in [] if boxes is None else boxes.tolist():
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=SKY, linewidth=1.2)
            axes.set(xlim=(0, W), ylim=(H, 0))
            axes.set_title(title, fontsize=9)
    return figure
