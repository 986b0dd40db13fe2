"""Which tokens Sparse DETR keeps, drawn on the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.views.figures import DPI, VERMILION, style


def kept_figure(image: Tensor, kept: Mapping[str, Sequence[Tensor]], boxes: Tensor | None = None) -> Figure:
    """Which tokens are kept, per level: the image shows through where a token is kept, and is dark elsewhere.

    Args:
        image: (3, H, W) in [0, 1].
        kept: title of a row -> per level (h, w) bool, fine to coarse; every row has the same levels.
        boxes: (n, 4) xyxy in pixels to outline.
    """
    H, W = image.shape[1:]
    levels = len(next(iter(kept.values())))
    with style():
        figure = Figure(figsize=(2.3 * levels, 2.5 * len(kept) * H / W), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(kept), levels, squeeze=False)
        for row, (title, masks) in zip(grid, kept.items(), strict=True):
            for level, (axes, mask_HW) in enumerate(zip(row, masks, strict=True)):
                big = torch.nn.functional.interpolate(mask_HW[None, None].float(), (H, W))[0, 0]
                seen = image.cpu() * (0.18 + 0.82 * big.cpu())
                axes.imshow(seen.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0))
                for x1, y1, x2, y2 in [] if boxes is None else boxes.tolist():
                    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=VERMILION, linewidth=1)
                share = float(mask_HW.float().mean())
                axes.set_title(f"{title}, level {level}: {share:.0%}", fontsize=8)
                axes.set(xlim=(0, W), ylim=(H, 0), xticks=(), yticks=())
    return figure
