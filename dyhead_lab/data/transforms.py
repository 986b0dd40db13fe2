"""Random transforms of images with their boxes, on torchvision's v2 transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import v2

from ..errors import UserError

#: (image (3, H, W), target with ``boxes`` as tv_tensors.BoundingBoxes) -> the same, transformed.
Transform = Callable[[torch.Tensor, dict[str, Any]], tuple[torch.Tensor, dict[str, Any]]]


def _flip() -> Transform:
    return v2.RandomHorizontalFlip()


def _flip_both() -> Transform:
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])


#: Name -> maker of a random transform. Recipes refer to these names.
#: "flip": left-right with probability 1/2, for photographs. "flip_both": up-down as well, where up means nothing.
AUGMENTATIONS: dict[str, Callable[[], Transform]] = {"flip": _flip, "flip_both": _flip_both}


def augmentation(name: str) -> Transform:
    """The random transform of that name.

    Raises:
        UserError: there is none.
    """
    if name not in AUGMENTATIONS:
        raise UserError(f"augmentation: expected one of {', '.join(AUGMENTATIONS)}, got {name!r}")
    return AUGMENTATIONS[name]()
