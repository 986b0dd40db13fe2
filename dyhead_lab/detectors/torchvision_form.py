"""torchvision's detectors in the form that CONTRIBUTING.md describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from .box_ops import drop_empty
from .inputs import check_images, check_sizes, check_targets


class TorchvisionForm(nn.Module):
    """Put before a detector of torchvision among the bases of a class.

    Args:
        parts, options: of torchvision's detector.
        classes: number of classes; labels are 0..classes-1.

    Attributes:
        first_label: what torchvision calls our class 0: 1 where its class 0 is the background.
        needs_masks: whether targets also carry ``masks`` (n, H, W) of 0 and 1.
    """

    first_label = 0
    needs_masks = False
    transform: GeneralizedRCNNTransform

    def __init__(self, *parts: Any, classes: int, **options: Any):
        super().__init__(*parts, **options)
        self.classes = classes
        self.transform = ImageTransform.like(self.transform)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None) -> Any:
        """Losses in training mode, detections in evaluation mode, where ``targets`` are not looked at.

        Raises:
            ValueError: as :func:`.check_images` and, in training mode, :func:`.check_targets`.
        """
        check_images(images)
        if self.training:
            check_targets(targets, images, self.classes, self.needs_masks)
            shifted = [{**target, "labels": target["labels"] + self.first_label} for target in targets or ()]
            return super().forward(list(images), shifted)  # type: ignore[misc]
        found = super().forward(list(images))  # type: ignore[misc]
        return [drop_empty({**one, "labels": one["labels"] - self.first_label}) for one in found]


class ImageTransform(GeneralizedRCNNTransform):
    """torchvision's transform, except that it leaves every side of an image at least one pixel.

    torchvision's own makes 0 x 320 pixels of 6 x 3000, and fails. All other images become what it makes of them.
    """

    def __init__(self, *arguments: Any, **options: Any):
        """
        Args:
            arguments, options: of torchvision's transform.

        Raises:
            ValueError: a size is below 1.
        """
        super().__init__(*arguments, **options)
        check_sizes(self.min_size, self.max_size)

    @classmethod
    def like(cls, transform: GeneralizedRCNNTransform) -> ImageTransform:
        """A copy of torchvision's transform."""
        return cls(
            transform.min_size,
            transform.max_size,
            transform.image_mean,
            transform.image_std,
            transform.size_divisible,
            transform.fixed_size,
        )

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """An image (3, H, W) and its target at the size that the detector works at; torchvision calls this."""
        if self.fixed_size is not None or (self.training and self._skip_resize):
            return super().resize(image, target)
        before = image.shape[-2:]
        shorter = self.torch_choice(self.min_size) if self.training else self.min_size[-1]
        scale = min(shorter / min(before), self.max_size / max(before))
        after = [max(1, floor(side * scale)) for side in before]
        image = F.interpolate(image[None], after, mode="bilinear", align_corners=False)[0]
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], before, after)
            if "masks" in target:
                target["masks"] = F.interpolate(target["masks"][:, None].float(), after)[:, 0].byte()
        return image, target
