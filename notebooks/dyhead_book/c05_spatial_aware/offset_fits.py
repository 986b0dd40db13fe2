"""What the ways to fit a level's offsets to its coarser neighbour do, drawn as arrows on the image."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from dyhead_lab.attention.spatial import fit_offsets
from dyhead_lab.views.figures import DPI, INK, ORANGE, VERMILION, style

CENTRE = 4  # of the nine taps


#: The ways that differ for the coarser neighbour, but for the one that enlarges it first.
SHOWN = ("centres", "resize", "crop", "flat")


def pointing_offsets(
    size: tuple[int, int], target: tuple[float, float], longest: float = 1.5, share: float = 0.5
) -> torch.Tensor:
    """Offsets (18, H, W) with which all taps of every cell move towards one place: an example to draw.

    Args:
        size: (H, W) of the level.
        target: (y, x) in cells.
        longest: length of the longest offset in cells, unless ``share`` is 1.
        share: of the way that an offset goes, if that is shorter; 1 leads every tap's cell to the very place.
    """
    y, x = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    way = torch.stack([target[0] - y, target[1] - x])
    if share == 1:
        return way.repeat(9, 1, 1)
    length = way.norm(dim=0).clamp(min=1e-6)
    return (way / length * (length * share).clamp(max=longest)).repeat(9, 1, 1)


def coarser_miss(offset: torch.Tensor, target: tuple[float, float], stride: int, offset_fit: str) -> torch.Tensor:
    """How far from a place the centre taps of the coarser neighbour read, (h, w), in pixels.

    Args:
        offset: (18, 2h, 2w) of one level, with which all its cells point at the place.
        target: (y, x) of the place in cells of the level.
        stride: pixels per cell of the level.
        offset_fit: as in :func:`fitted`.
    """
    H, W = offset.shape[1:]
    arrows, cells = fitted(offset, (H // 2, W // 2), offset_fit)
    return _miss(arrows, target, stride, cells * stride)


def finer_miss(offset: torch.Tensor, target: tuple[float, float], stride: int, offset_fit: str) -> torch.Tensor:
    """The same for the finer neighbour, whose convolution of stride 2 stands on every other cell: (2h, 2w)."""
    arrows = 2 * offset + 0.5 if offset_fit == "aligned" else offset
    return _miss(arrows, target, stride, stride // 2, step=2)


def _miss(
    offset: torch.Tensor, target: tuple[float, float], stride: int, own_stride: int, step: int = 1
) -> torch.Tensor:
    """Distance in pixels between ``target`` and what centre taps on every ``step``-th cell read."""
    cells = torch.meshgrid(*(step * torch.arange(float(n)) for n in offset.shape[1:]), indexing="ij")
    ways = (
        (cell + moved + 0.5) * own_stride - (goal + 0.5) * stride
        for cell, moved, goal in zip(cells, offset[2 * CENTRE : 2 * CENTRE + 2], target, strict=True)
    )
    return torch.hypot(*ways)


def fitted(offset: torch.Tensor, size: tuple[int, int], offset_fit: str) -> tuple[torch.Tensor, int]:
    """The offsets that the branch of the coarser neighbour uses.

    Args:
        offset: (18, H, W), in cells of the level.
        size: (h, w) of the neighbour.
        offset_fit: as in :class:`~dyhead_lab.attention.SpatialAwareAttention`.

    Returns:
        offsets on the grid on which that branch is convolved, and how many cells of the level one of its cells is wide.
    """
    if offset_fit == "upsample":
        return offset, 1  # the neighbour is enlarged first
    mask = torch.ones(1, len(offset) // 2, *offset.shape[1:])
    return fit_offsets(offset[None], mask, torch.Size(size), offset_fit)[0][0], 2


def offset_fits_figure(
    image: torch.Tensor, offset: torch.Tensor, size: tuple[int, int], stride: int, target: tuple[float, float]
) -> Figure:
    """Where the centre tap of every cell of the coarser neighbour reads, for each way to fit the offsets.

    Args:
        image: (3, H, W) in [0, 1].
        offset: (18, h, w) of one level, (dy, dx) per tap, in its cells.
        size: (rows, columns) of the coarser neighbour.
        stride: pixels per cell of the level.
        target: (y, x) in pixels, marked by a star.
    """
    height, width = image.shape[1:]
    with style():
        figure = Figure(figsize=(8.4, 2.5), dpi=DPI, layout="constrained")
        for axes, offset_fit in zip(figure.subplots(1, 4).flat, SHOWN, strict=True):
            arrows, cells = fitted(offset, size, offset_fit)
            dy, dx = arrows[2 * CENTRE : 2 * CENTRE + 2] * (cells * stride)
            y, x = ((torch.arange(n) + 0.5) * (cells * stride) for n in dy.shape)
            axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, width, height, 0), alpha=0.45)
            options = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.008}
            axes.quiver(x, y, dx, dy, color=VERMILION, **options)
            axes.plot(*torch.meshgrid(x, y, indexing="xy"), ".", color=INK, markersize=3)
            axes.plot(target[1], target[0], "*", color=ORANGE, markersize=13, markeredgecolor="black")
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=(), title=offset_fit)
    return figure
