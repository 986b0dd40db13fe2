"""What one-stage detectors share: from images to a pyramid, towers of convolutions, and the choice of boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from ...attention.pyramid import LevelNorm
from ..box_ops import drop_empty
from ..image_batch import IMAGE_MEAN, IMAGE_STD
from ..inputs import check_images, check_targets
from ..torchvision_form import ImageTransform

#: Pixels per cell of P3-P7.
STRIDES = (8, 16, 32, 64, 128)
PRIOR = 0.01  # probability of an object that an untrained classifier predicts


class DenseDetector(nn.Module):
    """Backbone with pyramid, optional Dynamic Head, and a head that predicts at every place of every level.

    A subclass says what the head's answers mean: :meth:`losses` and :meth:`detections`.

    Args:
        backbone: images (B, 3, H, W) -> pyramid, a dict of (B, C, H, W), fine to coarse; with
            ``out_channels``. A Dynamic Head belongs to it, as its neck.
        head: takes the levels.
        classes: number of classes; labels are 0..classes-1.
        strides: pixels per cell of each level.
        min_size: images are resized so that the shorter side has this many pixels; a sequence to choose from
            at random in training.
        max_size: but the longer side has at most this many.
        image_mean, image_std: normalisation of RGB images in [0, 1].
        size_divisible: the batch is padded to a multiple of this.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        classes: int,
        *,
        strides: Sequence[int] = STRIDES,
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        size_divisible: int = 32,
    ):
        super().__init__()
        self.transform = ImageTransform(
            min_size,
            max_size,
            list(image_mean),
            list(image_std),
            size_divisible=size_divisible,  # type: ignore[arg-type]
        )
        self.backbone = backbone
        self.head = head
        self.classes = classes
        self.strides = tuple(strides)

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        """Losses in training mode, detections in evaluation mode, where ``targets`` are not looked at.

        See CONTRIBUTING.md, "A detector".

        Raises:
            ValueError: as :func:`.check_images` and, in training mode, :func:`.check_targets`; or the backbone has
                another number of levels than there are strides.
        """
        check_images(images)
        if self.training:
            check_targets(targets, images, self.classes)
        batch, resized = self.transform(list(images), list(targets or ()) if self.training else None)
        levels = list(self.backbone(batch.tensors).values())
        if len(levels) != len(self.strides):
            raise ValueError(f"backbone: expected {len(self.strides)} levels, one per stride, got {len(levels)}")
        if self.training:
            return self.losses(levels, resized)
        results = self.detections(levels)
        for result, size in zip(results, batch.image_sizes, strict=True):
            result["boxes"] = clip_boxes_to_image(result["boxes"], size)
        found = self.transform.postprocess(results, batch.image_sizes, [tuple(x.shape[-2:]) for x in images])
        return [drop_empty(one) for one in found]

    def losses(self, levels: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Scalar losses of the maps (B, C, H, W); ``targets`` are in pixels of the batch."""
        raise NotImplementedError

    def detections(self, levels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Per image ``boxes`` (n, 4) in pixels of the batch, ``scores`` (n,) and ``labels`` (n,), best first."""
        raise NotImplementedError


def tower(channels: int, convs: int) -> nn.Sequential:
    """3x3 convolutions, each with GroupNorm and ReLU: 4 in front of a predictor, 0 after a Dynamic Head."""
    layers = [(nn.Conv2d(channels, channels, 3, padding=1), LevelNorm(32, channels), nn.ReLU()) for _ in range(convs)]
    return nn.Sequential(*(module for layer in layers for module in layer))


def tower_height(tower_convs: int | None, dyhead_blocks: int, published: int = 4) -> int:
    """Convolutions in each tower: as asked for, else none after a Dynamic Head, which takes the towers' place."""
    return tower_convs if tower_convs is not None else 0 if dyhead_blocks else published


def start_small(head: nn.Module, classifiers: Sequence[nn.Conv2d]) -> None:
    """Start all convolutions of ``head`` near zero and its classifiers at the prior (RetinaNet, section 4.1)."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for classifier in classifiers:
        assert classifier.bias is not None
        nn.init.constant_(classifier.bias, -math.log((1 - PRIOR) / PRIOR))


def as_rows(x: Tensor) -> Tensor:
    """(B, K, H, W) -> (B, H*W, K), in float32: a bfloat16 coordinate near 1000 is known to 4 pixels."""
    return x.flatten(2).transpose(1, 2).float()


def best_boxes(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    admitted: Sequence[Tensor],
    candidates: int = 1000,
    nms_threshold: float = 0.6,
    most: int = 100,
) -> list[dict[str, Tensor]]:
    """The best boxes of each image, after suppression within each class.

    Args:
        boxes: (B, N, 4) per level, xyxy.
        scores: (B, N, classes) per level.
        admitted: (B, N, classes) per level, False where a score is not worth looking at.
        candidates: most boxes per level that enter suppression.
        nms_threshold: IoU above which the lower of two boxes of one class is dropped.
        most: boxes per image.

    Returns:
        per image ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,), best first; boxes may reach beyond the
        image.
    """
    results = []
    for image in range(len(boxes[0])):
        found = []
        for boxes_BN4, scores_BNK, admitted_BNK in zip(boxes, scores, admitted, strict=True):
            place, label = admitted_BNK[image].nonzero(as_tuple=True)
            score = scores_BNK[image, place, label]
            best = score.topk(min(candidates, len(score))).indices
            found.append((boxes_BN4[image, place[best]], score[best], label[best]))
        all_boxes, all_scores, all_labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        all_boxes = all_boxes.to(all_scores.dtype)  # scores are float32, boxes as precise as the weights
        kept = batched_nms(all_boxes, all_scores, all_labels, nms_threshold)[:most]
        results.append({"boxes": all_boxes[kept], "scores": all_scores[kept], "labels": all_labels[kept]})
    return results
