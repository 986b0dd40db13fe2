"""Boxes: the two ways to write them, how well two of them overlap, and which of them are empty."""

from __future__ import annotations

from collections.abc import Mapping

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


def drop_empty(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detections of one image without those whose box has no width or no height, as clipping leaves them.

    Args:
        found: ``boxes`` (n, 4), xyxy, and further entries of n rows each.

    Boxes that are not a number stay: that a model gives such boxes must show.

    Source: Detectron2, ``detector_postprocess``.
    """
    kept = ~(found["boxes"][:, 2:] <= found["boxes"][:, :2]).any(1)
    return {name: value[kept] for name, value in found.items()}


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Area between two corners; zero where they are crossed."""
    return (high - low).clamp(min=0).prod(-1)
