"""Random views for pictures that have no up, as through a microscope: a square part, any way round, in other light."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

#: An object of which less than this share of its area is left by a crop is no longer an object.
LEAST_VISIBLE = 0.4


class SquareView:
    """A random square part of an image, resized, turned by a random quarter turn and perhaps mirrored.

    All eight symmetries of the square are equally likely, so that every object is seen in eight ways.

    Args:
        size: side of the result in pixels.
        least: the shortest side of the part, as a share of the image's shorter side; the longest is that side.

    The transform takes an image (3, H, W) and a target whose ``boxes`` are ``BoundingBoxes``. Boxes are cut at the
    border of the part. Those of which less than :data:`LEAST_VISIBLE` is left are dropped, with the entries of every
    tensor that has one for each box. Masks are not supported.
    """

    def __init__(self, size: int = 240, least: float = 0.75):
        if not 0 < least <= 1:
            raise ValueError(f"least: expected a share in (0, 1], got {least}")
        self.size, self.least = size, least

    def __call__(self, image: tv_tensors.Image, target: dict[str, Any]) -> tuple[tv_tensors.Image, dict[str, Any]]:
        if "masks" in target:
            raise ValueError("target: SquareView turns boxes, expected no masks")
        height, width = image.shape[-2:]
        longest = min(height, width)
        side = _random_int(round(self.least * longest), longest)
        top, left = _random_int(0, height - side), _random_int(0, width - side)
        boxes = target["boxes"]
        cut = F.crop(boxes, top, left, side, side)
        kept = _areas(cut) >= LEAST_VISIBLE * _areas(boxes)
        image, cut = (F.resized_crop(x, top, left, side, side, [self.size] * 2) for x in (image, boxes))
        for flip in (F.horizontal_flip, F.vertical_flip):
            if torch.rand(()) < 0.5:
                image, cut = flip(image), flip(cut)
        if torch.rand(()) < 0.5:  # with both flips, one quarter turn reaches all eight
            image, cut = tv_tensors.wrap(image.transpose(-1, -2), like=image), _transposed(cut)
        rows = {name: _rows(values, kept) for name, values in target.items()}
        return image, {**rows, "boxes": tv_tensors.wrap(cut[kept], like=cut)}


def microscope() -> v2.Compose:
    """A square view, and light and stain that vary by a fifth."""
    return v2.Compose([SquareView(), v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)])


def _random_int(least: int, most: int) -> int:
    """A whole number in [least, most], both included, from torch's generator."""
    return int(torch.randint(least, most + 1, ()))


def _transposed(boxes: tv_tensors.BoundingBoxes) -> tv_tensors.BoundingBoxes:
    """Boxes xyxy after rows and columns of their square image have changed places."""
    return tv_tensors.wrap(boxes[:, [1, 0, 3, 2]], like=boxes)


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    x1, y1, x2, y2 = boxes.as_subclass(torch.Tensor).unbind(1)
    return (x2 - x1) * (y2 - y1)


def _rows(values: Any, kept: torch.Tensor) -> Any:
    """The entries of a tensor with one for each box that belong to kept boxes; anything else as it is."""
    has_one_each = isinstance(values, torch.Tensor) and values.dim() > 0 and len(values) == len(kept)
    return values[kept] if has_one_each else values
