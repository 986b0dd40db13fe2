"""Random transforms of images with their boxes and masks, on torchvision's v2 transforms.

Transforms that resize decide the size of an image in training: the detector then takes images as they come while it
trains, and resizes to its own ``min_size`` and ``max_size`` only when it detects. Under the others the detector
resizes in training too. Objects of which less than a pixel is left, in width, height or area, are dropped with their
labels and masks by the transforms that resize or crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ..errors import UserError
from .microscope import microscope

#: (image (3, H, W), target with ``boxes`` as tv_tensors.BoundingBoxes) -> the same, transformed.
Transform = Callable[[torch.Tensor, dict[str, Any]], tuple[torch.Tensor, dict[str, Any]]]

#: Shorter sides of DETR and of Detectron2's multi-scale training, and the bound on the longer side.
SHORTER_SIDES = tuple(range(480, 801, 32))
LONGER_SIDE = 1333


class RandomWindow(v2.Transform):
    """Cut out a window of random size and place.

    Args:
        least, most: bounds of its height and width in pixels, both inclusive. Where the image is smaller than a
            bound, the image's side takes the bound's place.
    """

    def __init__(self, least: int, most: int):
        super().__init__()
        if not 1 <= least <= most:
            raise ValueError(f"least: expected 1 <= least <= most, got {least} and {most}")
        self.least, self.most = least, most

    def make_params(self, flat_inputs: list[Any]) -> dict[str, int]:
        """Draw the window for one image; torchvision calls this."""
        height, width = v2.query_size(flat_inputs)
        h, w = (_between(min(self.least, side), min(self.most, side)) for side in (height, width))
        return {"top": _between(0, height - h), "left": _between(0, width - w), "height": h, "width": w}

    def transform(self, inpt: Any, params: dict[str, int]) -> Any:
        """Crop an image, its boxes or its masks to the window; torchvision calls this."""
        return self._call_kernel(F.crop, inpt, **params)


class _NeverEmpty(v2.Transform):
    """Gives a size to which torchvision resizes at least 1 pixel a side: of a very long image it may leave none."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size (height, width) for one image; torchvision calls this."""
        params = super().make_params(flat_inputs)
        return {**params, "size": tuple(max(1, side) for side in params["size"])}


class ShortestSize(_NeverEmpty, v2.RandomShortestSize):
    """torchvision's ``RandomShortestSize``, for images of every shape."""


class ScaleJitter(_NeverEmpty, v2.ScaleJitter):
    """torchvision's ``ScaleJitter``, for images of every shape."""


def _between(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def flip() -> Transform:
    """Left-right with probability 1/2, for photographs."""
    return v2.RandomHorizontalFlip()


def flip_both() -> Transform:
    """Left-right and up-down, each with probability 1/2, where up means nothing."""
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])


def multi_scale(sides: Sequence[int] = SHORTER_SIDES, longest: int = LONGER_SIDE) -> Transform:
    """Flip, and resize so that the shorter side is one of ``sides`` but the longer at most ``longest``."""
    resize = ShortestSize(list(sides), longest)
    return v2.Compose([v2.RandomHorizontalFlip(), resize, v2.SanitizeBoundingBoxes()])


def detr(
    sides: Sequence[int] = SHORTER_SIDES,
    longest: int = LONGER_SIDE,
    before_crop: Sequence[int] = (400, 500, 600),
    window: tuple[int, int] = (384, 600),
) -> Transform:
    """Flip, then with probability 1/2 each: resize, or resize, cut out a window, and resize again.

    Args:
        sides, longest: of the last resize, as in :func:`multi_scale`.
        before_crop: shorter sides of the first resize of the second branch.
        window: bounds of the window, as in :class:`RandomWindow`.

    Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, section 4; also Deformable DETR
    and Sparse DETR.
    """
    resize = ShortestSize(list(sides), longest)
    crop = v2.Compose([ShortestSize(list(before_crop)), RandomWindow(*window), resize])
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomChoice([resize, crop]), v2.SanitizeBoundingBoxes()])


def large_scale_jitter(size: int = 1024, scales: tuple[float, float] = (0.1, 2.0)) -> Transform:
    """Flip, fit the image into a square of ``size`` times a random scale, and cut out at most the square.

    The paper pads to the square; here the detector pads, since it knows what padding is.

    Args:
        size: side of the square in pixels.
        scales: bounds of the scale.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method", CVPR 2021.
    """
    jitter = ScaleJitter((size, size), scales)
    return v2.Compose([v2.RandomHorizontalFlip(), jitter, RandomWindow(size, size), v2.SanitizeBoundingBoxes()])


def small_scale_jitter(size: int = 384, scales: tuple[float, float] = (0.6, 1.6)) -> Transform:
    """Flip, other light, and :func:`large_scale_jitter` at a size and with scales that a processor can follow.

    Args:
        size: side of the square in pixels.
        scales: bounds of the scale.
    """
    light = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)
    return v2.Compose([light, large_scale_jitter(size, scales)])


@dataclass(frozen=True)
class Augmentation:
    """How to make a random transform, and whether it decides the size in training."""

    make: Callable[[], Transform]
    resizes: bool = False


#: What recipes call them.
AUGMENTATIONS = {
    "none": Augmentation(v2.Identity),
    "flip": Augmentation(flip),
    "flip_both": Augmentation(flip_both),
    "microscope": Augmentation(microscope, resizes=True),
    "multi_scale": Augmentation(multi_scale, resizes=True),
    "detr": Augmentation(detr, resizes=True),
    "large_scale_jitter": Augmentation(large_scale_jitter, resizes=True),
    "small_scale_jitter": Augmentation(small_scale_jitter, resizes=True),
}


def augmentation(name: str) -> Transform:
    """The random transform of that name.

    Raises:
        UserError: there is none.
    """
    return _find(name).make()


def resizes(name: str) -> bool:
    """Whether the random transform of that name decides the size of the image.

    Raises:
        UserError: there is none of that name.
    """
    return _find(name).resizes


def _find(name: str) -> Augmentation:
    if name not in AUGMENTATIONS:
        raise UserError(f"augmentation: expected one of {', '.join(AUGMENTATIONS)}, got {name!r}")
    return AUGMENTATIONS[name]
