"""What all detectors of DETR's family share: images in, losses or detections out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..box_ops import drop_empty
from ..image_batch import normalise_targets, pad_images, resize_image, to_pixels
from ..inputs import check_images
from .set_criterion import SetCriterion


class SetDetector(nn.Module, ABC):
    """A detector that predicts a set of boxes.

    Args:
        backbone: maps a batch (B, 3, H, W) to a list of feature maps, fine to coarse, or None for a detector that
            starts from features (:meth:`forward_features`).
        criterion: the losses of the outputs.
        detections: most detections per image.

    Attributes:
        detection_size: (shorter side, most pixels of the longer side) to which images are resized before detecting;
            None takes them as they are. While training, images come in the size that the augmentation gave them.
    """

    def __init__(self, backbone: nn.Module | None, criterion: SetCriterion, detections: int = 100):
        super().__init__()
        # The official key names start with "backbone.0".
        self.backbone = None if backbone is None else nn.Sequential(backbone)
        self.criterion = criterion
        self.detections = detections
        self.detection_size: tuple[int, int] | None = None

    @abstractmethod
    def forward_features(
        self, features: Sequence[Tensor] | Mapping[str, Tensor], padding_mask: Tensor
    ) -> dict[str, Any]:
        """Detect from feature maps (B, C, H, W), fine to coarse, and the padding mask of the images (B, H, W)."""

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None, **options: Any
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: float tensors (3, H, W) in [0, 1], of any sizes.
            targets: one dict per image: ``boxes`` (n, 4; xyxy, pixels) and ``labels`` (n,); needed for training, not
                looked at otherwise.
            options: passed on to :meth:`forward_features`.

        Returns:
            training: the weighted loss terms; their sum is the total. Evaluation: per image ``boxes`` (n, 4; xyxy,
            pixels of the image), ``scores`` (n,), ``labels`` (n,) and ``queries`` (n,), which object query found it;
            best first.

        Raises:
            ValueError: the detector has no backbone; or as :func:`.check_images` and, in training mode,
                :func:`.check_targets`.
        """
        if self.backbone is None:
            raise ValueError("this detector has no backbone: give features to forward_features(features, padding_mask)")
        check_images(images)
        if self.training:
            goals = normalise_targets(targets, images, self.criterion.classes)
            return self.criterion.weigh(self.criterion(self.predictions(images, **options), goals))
        resized = images
        if self.detection_size is not None:
            resized = [resize_image(image, *self.detection_size) for image in images]
        found = self.select(
            self.predictions(resized, **options), [(image.shape[1], image.shape[2]) for image in images]
        )
        return [drop_empty(one) for one in found]

    def predictions(self, images: Sequence[Tensor], **options: Any) -> dict[str, Any]:
        """What :meth:`forward_features` predicts for images (3, H, W) in [0, 1], which are not resized."""
        batch, padding_mask = pad_images(images)
        return self.forward_features(self.backbone(batch), padding_mask, **options)  # type: ignore[misc]

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (H, W) of the batch that one image of this size makes in evaluation mode."""
        if self.detection_size is None:
            return height, width
        rows, columns = resize_image(torch.empty(3, height, width, device="meta"), *self.detection_size).shape[-2:]
        return rows, columns

    def select(self, outputs: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """The best detections of each image.

        Args:
            outputs: ``pred_logits`` (B, Q, classes) and ``pred_boxes`` (B, Q, 4).
            sizes: (H, W) of each image, in whose pixels the boxes are wanted.
        """
        results = []
        for logits_QK, boxes_Q4, size in zip(outputs["pred_logits"], outputs["pred_boxes"], sizes, strict=True):
            if self.criterion.matcher.focal:
                scores_QK = logits_QK.sigmoid()
                scores, index = scores_QK.flatten().topk(min(self.detections, scores_QK.numel()))
                query, labels = index // scores_QK.shape[1], index % scores_QK.shape[1]
            else:  # classes compete, so a query gives one detection
                scores_Q, labels_Q = logits_QK.softmax(-1)[:, :-1].max(-1)
                scores, query = scores_Q.topk(min(self.detections, len(scores_Q)))
                labels = labels_Q[query]
            boxes = to_pixels(boxes_Q4[query], *size)
            results.append({"boxes": boxes, "scores": scores, "labels": labels, "queries": query})
        return results
