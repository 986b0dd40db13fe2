"""Where a token lies: sine positions, and the part of each level that is not padding.

Sources: DETR (Carion et al., 2020) and Deformable DETR (Zhu et al., 2021, appendix A.4), as in their official code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

TEMPERATURE = 10_000.0


def sines(x: Tensor, features: int) -> Tensor:
    """Write every number as ``features`` sines and cosines of growing wavelength, interleaved.

    Args:
        x: angles, (...,).
        features: even number of values per angle.

    Returns:
        (..., features): sin(x / T^(2i/features)), cos(the same), for i = 0, 1, ...
    """
    index = torch.arange(0, features, 2, dtype=torch.float32, device=x.device)
    angles = x[..., None] / TEMPERATURE ** (index / features)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def sine_positions(padding_BHW: Tensor, channels: int, centred: bool) -> Tensor:
    """Sine position of every cell, counted inside the part of the map that is not padding.

    Args:
        padding_BHW: True where a cell is padding, (B, H, W).
        channels: C, a multiple of 4: the first half tells y, the second x.
        centred: count cells from their centres (Deformable DETR) instead of their far edges (DETR).

    Returns:
        (B, C, H, W), float32.
    """
    valid = (~padding_BHW).float()
    shift = 0.5 if centred else 0.0
    y, x = valid.cumsum(1), valid.cumsum(2)
    y = (y - shift) / (y[:, -1:] + 1e-6) * (2 * math.pi)
    x = (x - shift) / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    return torch.cat([sines(y, channels // 2), sines(x, channels // 2)], -1).permute(0, 3, 1, 2)


def box_sines(boxes_norm_cxcywh: Tensor, channels: int) -> Tensor:
    """Sine position of boxes: (..., 4) in [0, 1] -> (..., 4 * channels // 2)."""
    return sines(boxes_norm_cxcywh * (2 * math.pi), channels // 2).flatten(-2)


def resize_padding(padding_BHW: Tensor, size: Sequence[int]) -> Tensor:
    """The padding mask at the resolution of a feature map: nearest neighbour, (B, H, W) bool."""
    return torch.nn.functional.interpolate(padding_BHW[:, None].float(), size=tuple(size))[:, 0].bool()


def valid_cells(padding_BHW: Tensor) -> Tensor:
    """Columns and rows (x, y) that are not padding, counted along the first row and column; (B, 2), float32."""
    valid = (~padding_BHW).float()
    return torch.stack([valid[:, 0].sum(1), valid[:, :, 0].sum(1)], -1)
