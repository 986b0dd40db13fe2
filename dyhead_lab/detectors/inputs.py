"""What every detector asks of its images and targets, checked before any work is done.

All detectors call these two functions, so all of them refuse the same things in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def check_images(images: Sequence[Tensor]) -> None:
    """Refuse what is not a list of images. Values are not looked at: a GPU would be waited for.

    Args:
        images: float tensors (3, H, W) in [0, 1], of any sizes.

    Raises:
        ValueError: there are no images, or one is no float tensor (3, H, W) with at least one pixel.
    """
    if len(images) == 0:
        raise ValueError("images: expected at least one, got an empty list")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise ValueError(f"images[{i}]: expected a float tensor (3, H, W) in [0, 1], got {type(image).__name__}")
        shape = tuple(image.shape)
        if len(shape) != 3 or shape[0] != 3 or 0 in shape or not image.is_floating_point():
            raise ValueError(f"images[{i}]: expected a float tensor (3, H, W) in [0, 1], got {image.dtype} {shape}")


def check_sizes(shorter: Sequence[int], longest: int) -> None:
    """Refuse sizes, in pixels, to which no image can be resized.

    Args:
        shorter: of the shorter side; one of them is chosen.
        longest: of the longer side, at most.

    Raises:
        ValueError: one is below 1.
    """
    if not min(*shorter, longest) >= 1:
        sizes = " or ".join(map(str, shorter))
        raise ValueError(f"sizes of images: expected at least 1 pixel, got {sizes} (longer side at most {longest})")


def check_targets(
    targets: Sequence[Mapping[str, Tensor]] | None, images: Sequence[Tensor], classes: int, masks: bool = False
) -> None:
    """Refuse targets that a detector cannot learn from. Whatever they hold, a GPU is waited for once.

    Args:
        targets: one dict per image: ``boxes`` (n, 4), xyxy in pixels, and ``labels`` (n,) int64; n may be 0.
        images: what they belong to, after :func:`check_images`.
        classes: labels lie in 0..classes-1.
        masks: whether ``masks`` (n, H, W) are needed too.

    Raises:
        ValueError: targets are missing or of another form, a label is no class, or a box is not finite or has no width
            or height. The message names the target, the object and its value.
    """
    if targets is None:
        raise ValueError("targets: expected one dict per image in training mode, got None")
    if len(targets) != len(images):
        raise ValueError(f"targets: expected one dict per image, got {len(images)} images, {len(targets)} targets")
    for i, (target, image) in enumerate(zip(targets, images, strict=True)):
        _check_form(i, target, image, masks)
    labels = torch.cat([target["labels"] for target in targets])
    boxes = torch.cat([target["boxes"] for target in targets])
    unknown = (labels < 0) | (labels >= classes)
    wrong = unknown | ~boxes.isfinite().all(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
    if wrong.any():  # the one wait for the device
        raise ValueError(_explained(targets, int(wrong.nonzero()[0]), classes))


def _check_form(i: int, target: Mapping[str, Tensor], image: Tensor, masks: bool) -> None:
    """Refuse a target whose entries are missing, or have other shapes or types: what the host knows by itself."""
    for name in ("boxes", "labels", *(["masks"] if masks else [])):
        if not isinstance(target, Mapping) or not isinstance(target.get(name), Tensor):
            raise ValueError(f"targets[{i}]: expected a dict with a tensor {name!r}, got {_kinds(target)}")
    boxes, labels = target["boxes"], target["labels"]
    if labels.dim() != 1 or boxes.shape != (len(labels), 4):
        raise ValueError(
            f"targets[{i}]: boxes must be (n, 4) and labels (n,), got {tuple(boxes.shape)} and {tuple(labels.shape)}"
        )
    if not boxes.is_floating_point() or labels.dtype != torch.int64:
        raise ValueError(f"targets[{i}]: boxes must be floats and labels int64, got {boxes.dtype} and {labels.dtype}")
    if masks and target["masks"].shape != (len(labels), *image.shape[1:]):
        expected = (len(labels), *image.shape[1:])
        raise ValueError(f"targets[{i}]: masks must be {expected}, got {tuple(target['masks'].shape)}")


def _kinds(target: Any) -> str:
    """What a target holds instead."""
    if not isinstance(target, Mapping):
        return type(target).__name__
    return f"{{{', '.join(f'{name!r}: {type(value).__name__}' for name, value in target.items())}}}"


def _explained(targets: Sequence[Mapping[str, Tensor]], wrong: int, classes: int) -> str:
    """Says what is wrong with object ``wrong``, counted over all targets."""
    i = 0
    while wrong >= len(targets[i]["labels"]):
        wrong -= len(targets[i]["labels"])
        i += 1
    label, box = int(targets[i]["labels"][wrong]), targets[i]["boxes"][wrong]
    if not 0 <= label < classes:
        return f"targets[{i}]: labels must lie in 0..{classes - 1}, got labels[{wrong}] = {label}"
    text = f"got boxes[{wrong}] = {box.tolist()}"
    if not box.isfinite().all():
        return f"targets[{i}]: boxes must be finite, {text}"
    return f"targets[{i}]: boxes must be x1, y1, x2, y2 with x1 < x2 and y1 < y2, {text}; is that x, y, width, height?"
