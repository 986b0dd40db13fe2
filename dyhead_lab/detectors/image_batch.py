"""From a list of images to one padded batch, and from normalised boxes back to pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .box_ops import cxcywh_to_xyxy, xyxy_to_cxcywh
from .inputs import check_images, check_targets

#: Mean and standard deviation of ImageNet's RGB channels, for images in [0, 1].
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def pad_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Normalise images of any sizes and pad them with zeros, right and below, to the largest.

    Args:
        images: float tensors (3, H, W) in [0, 1], RGB.

    Returns:
        the batch (B, 3, H, W) and its padding mask (B, H, W), True where there is padding.

    Raises:
        ValueError: as :func:`.check_images`.
    """
    check_images(images)
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    # Filled where the images are: numbers copied to a GPU would make the host wait for it.
    mean, std = (torch.cat([images[0].new_full((1, 1, 1), x) for x in values]) for values in (IMAGE_MEAN, IMAGE_STD))
    batch = images[0].new_zeros(len(images), 3, height, width)
    padding = torch.ones(len(images), height, width, dtype=torch.bool, device=batch.device)
    for i, image in enumerate(images):
        _, H, W = image.shape
        batch[i, :, :H, :W] = (image - mean) / std
        padding[i, :H, :W] = False
    return batch, padding


def resize_image(image: Tensor, shorter: int, longest: int) -> Tensor:
    """Resize an image (3, H, W): the shorter side to ``shorter`` pixels, but the longer one to ``longest`` at most.

    Bilinear with antialiasing, as published detectors are evaluated (COCO: 800 and 1333). Each side keeps at least one
    pixel.
    """
    H, W = image.shape[-2:]
    scale = min(shorter / min(H, W), longest / max(H, W))
    size = (max(1, round(H * scale)), max(1, round(W * scale)))
    if size == (H, W):
        return image
    return F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def normalise_targets(
    targets: Sequence[Mapping[str, Tensor]] | None, images: Sequence[Tensor], classes: int
) -> list[dict[str, Tensor]]:
    """Boxes in pixels, xyxy -> cxcywh in [0, 1] of their own image; labels unchanged.

    Raises:
        ValueError: as :func:`.check_targets`.
    """
    check_targets(targets, images, classes)
    result = []
    for target, image in zip(targets or (), images, strict=True):
        boxes, labels = target["boxes"], target["labels"]
        size = _size_of_sides(boxes, image.shape[1], image.shape[2])
        result.append({"boxes": xyxy_to_cxcywh(boxes / size), "labels": labels.long()})
    return result


def to_pixels(boxes_norm_cxcywh: Tensor, height: int, width: int) -> Tensor:
    """cxcywh in [0, 1] of an image -> xyxy in its pixels, (n, 4)."""
    return cxcywh_to_xyxy(boxes_norm_cxcywh) * _size_of_sides(boxes_norm_cxcywh, height, width)


def _size_of_sides(boxes: Tensor, height: int, width: int) -> Tensor:
    """What each coordinate of ``boxes`` is measured in: width, height, width, height; (4,)."""
    size = boxes.new_full((4,), width)  # filled where the boxes are, as the mean in pad_images
    size[1::2] = height
    return size
