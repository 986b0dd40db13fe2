"""Anchors of dense detectors, and boxes written relative to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

#: Boxes as (dx, dy, dw, dh) relative to anchors, scaled by these weights, as ATSS and R-CNN write them.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def cell_centres(H: int, W: int, device: torch.device | str = "cpu") -> Tensor:
    """Centres (x, y) of the cells of a map, in cells, row by row, (H * W, 2)."""
    y, x = torch.meshgrid(torch.arange(H, device=device) + 0.5, torch.arange(W, device=device) + 0.5, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


def map_places(levels: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
    """:func:`places` of the maps (B, C, H, W) of a pyramid."""
    return places([(x.shape[-2], x.shape[-1]) for x in levels], strides, levels[0].device)


def places(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Where the cells of a pyramid lie in the image.

    Args:
        sizes: (H, W) of each level, fine to coarse.
        strides: pixels per cell of each level.
        device: where to put them.

    Returns:
        for each level the centres (x, y) of its cells in pixels, (H*W, 2), row by row.

    Raises:
        ValueError: there are not as many strides as levels.
    """
    if len(sizes) != len(strides):
        raise ValueError(f"strides: expected one for each of {len(sizes)} levels, got {len(strides)}")
    return [cell_centres(*size, device) * stride for size, stride in zip(sizes, strides, strict=True)]


def square_anchors(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int], scale: float, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """One square anchor per cell, of side ``scale * stride``, centred on the cell.

    Args:
        sizes, strides, device: as in :func:`places`.
        scale: side of an anchor in cells.

    Returns:
        for each level xyxy boxes (H*W, 4), row by row.
    """
    halves = [scale * stride / 2 for stride in strides]
    points = places(sizes, strides, device)
    return [torch.cat([p - half, p + half], 1) for p, half in zip(points, halves, strict=True)]


class ExactAnchors(AnchorGenerator):
    """torchvision's anchors, neither rounded to whole pixels nor reordered: sizes one after the other, each
    in all ratios, as Detectron2 has them. Official weights depend on both.

    They are float32 also where the features are bfloat16, which knows odd coordinates only up to 256.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Take the anchors of one place to a device; torchvision calls this with the dtype of the features."""
        super().set_cell_anchors(torch.float32, device)

    def generate_anchors(  # type: ignore[override]
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """The anchors of one place, xyxy around its centre, (len(scales) * len(aspect_ratios), 4)."""
        side = torch.tensor(scales, dtype=dtype, device=device)[:, None]
        stretch = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()  # ratio = height / width
        half = torch.stack([side / stretch, side * stretch], -1).view(-1, 2) / 2
        return torch.cat([-half, half], 1)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Deltas (n, 4) relative to ``anchors`` (n, 4) -> xyxy boxes (n, 4). Sizes grow by at most 1000 / 16."""
    return BoxCoder(BOX_WEIGHTS).decode_single(deltas, anchors)


def centres(boxes: Tensor) -> Tensor:
    """Centres (x, y) of xyxy boxes, (..., 4) -> (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def sides(points: Tensor, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom from points (..., 2) to the sides of boxes (..., 4); negative outside."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)
