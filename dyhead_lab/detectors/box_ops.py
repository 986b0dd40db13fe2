"""Boxes: the two ways to write them and how well two of them overlap. All functions broadcast."""

from __future__ import annotations

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size -> corners, (..., 4)."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners -> centre and size, (..., 4)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def generalized_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """GIoU = IoU - (hull - union) / hull, in (-1, 1].

    Args:
        a_xyxy, b_xyxy: corners, (..., 4) each, in any common unit. Their leading axes broadcast: equal shapes give
            one value per pair, ``a[:, None]`` and ``b[None]`` give the whole matrix.

    Returns:
        GIoU, the broadcast shape without its last axis. Two boxes without area give nan.

    Source: Rezatofighi et al., CVPR 2019.
    """
    a_low, a_high, b_low, b_high = a_xyxy[..., :2], a_xyxy[..., 2:], b_xyxy[..., :2], b_xyxy[..., 2:]
    intersection = _area(torch.maximum(a_low, b_low), torch.minimum(a_high, b_high))
    hull = _area(torch.minimum(a_low, b_low), torch.maximum(a_high, b_high))
    union = _area(a_low, a_high) + _area(b_low, b_high) - intersection
    return intersection / union - (hull - union) / hull


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Area between two corners; zero where they are crossed."""
    return (high - low).clamp(min=0).prod(-1)
