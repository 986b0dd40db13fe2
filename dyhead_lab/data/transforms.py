"""Random transforms of images with their boxes, on torchvision's v2 transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import v2

#: (image (3, H, W), target with ``boxes`` as tv_tensors.BoundingBoxes) -> the same, transformed.
Transform = Callable[[torch.Tensor, dict[str, Any]], tuple[torch.Tensor, dict[str, Any]]]


def flip_left_right() -> Transform:
    """Flip left-right with probability 1/2: for photographs, where up means something."""
    return v2.RandomHorizontalFlip()


def flip_both_ways() -> Transform:
    """Flip left-right and up-down, each with probability 1/2: for pictures without an up."""
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
