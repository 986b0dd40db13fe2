"""ATSS: a one-stage detector with one anchor per place, whose assignment adapts to each object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image, generalized_box_iou_loss, sigmoid_focal_loss

from .anchors import centres, decode_boxes, square_anchors
from .atss_matcher import ATSSMatcher
from .backbones import pyramid
from .image_batch import IMAGE_MEAN, IMAGE_STD, check_targets
from .losses import centerness, mean_over_processes

__all__ = ["ATSS", "ATSSHead", "ATSSMatcher", "Predictions", "atss", "atss_losses", "detect"]

STRIDES = (8, 16, 32, 64, 128)
ANCHOR_SCALE = 8
PRIOR = 0.01  # probability of an object that an untrained classifier predicts
GIOU_WEIGHT = 2.0


class Predictions(NamedTuple):
    """What the head says about every anchor: one entry per level, fine to coarse, anchors row by row."""

    logits: list[Tensor]  #: (B, H*W, classes)
    deltas: list[Tensor]  #: (B, H*W, 4), relative to the anchors
    centerness: list[Tensor]  #: logits (B, H*W)


class ATSSHead(nn.Module):
    """Towers of convolutions, then class, box and centerness of one anchor per place.

    Levels share everything but a scale of their boxes.

    Args:
        channels: C of the pyramid.
        classes: number of classes.
        levels: number of levels; each scales its boxes by a learned number.
        tower_convs: 3x3 convolutions with GroupNorm and ReLU in each of the two towers: 4 in ATSS, 0 after a
            Dynamic Head, which takes their place.
    """

    def __init__(self, channels: int, classes: int, levels: int = 5, tower_convs: int = 4):
        super().__init__()
        self.cls_tower = _tower(channels, tower_convs)
        self.bbox_tower = _tower(channels, tower_convs)
        self.cls_logits = nn.Conv2d(channels, classes, 1)
        self.bbox_pred = nn.Conv2d(channels, 4, 1)
        self.centerness = nn.Conv2d(channels, 1, 1)
        self.scales = nn.ParameterList(torch.ones(1) for _ in range(levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> Predictions:
        """Predict for the maps (B, C, H, W) of a pyramid, in float32 also under autocast."""
        if len(levels) != len(self.scales):
            raise ValueError(f"levels: the head was built for {len(self.scales)}, got {len(levels)}")
        predictions = Predictions([], [], [])
        for x, scale in zip(levels, self.scales, strict=True):
            cls, box = self.cls_tower(x), self.bbox_tower(x)
            predictions.logits.append(_rows(self.cls_logits(cls)))
            predictions.deltas.append(_rows(self.bbox_pred(box)) * scale)
            predictions.centerness.append(_rows(self.centerness(box)).squeeze(-1))
        return predictions


def _tower(channels: int, convs: int) -> nn.Sequential:
    layers = [
        (nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(32, channels), nn.ReLU()) for _ in range(convs)
    ]
    return nn.Sequential(*(module for layer in layers for module in layer))


def _rows(x: Tensor) -> Tensor:
    """(B, K, H, W) -> (B, H*W, K), in float32: a bfloat16 coordinate near 1000 is known to 4 pixels."""
    return x.flatten(2).transpose(1, 2).float()


def atss_losses(
    predictions: Predictions, anchors: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], matcher: ATSSMatcher
) -> dict[str, Tensor]:
    """The three losses of ATSS over a batch.

    Args:
        predictions: of the head.
        anchors: xyxy (H*W, 4) per level, the same for every image.
        targets: per image ``boxes`` (n, 4), xyxy in pixels of the batch, and ``labels`` (n,); n may be 0.
        matcher: decides which anchors are positive.

    Returns:
        - ``classification``: focal loss (alpha 0.25, gamma 2), summed, per positive anchor;
        - ``bbox_regression``: 2 (1 - GIoU), averaged with the centerness of the positives as weights;
        - ``bbox_ctrness``: binary cross-entropy of the centerness, per positive anchor.
    """
    matched_BN = torch.stack([matcher(anchors, target["boxes"]) for target in targets])
    image, place = (matched_BN >= 0).nonzero(as_tuple=True)  # image by image, as the lists below
    boxes = torch.cat([t["boxes"][m[m >= 0]] for t, m in zip(targets, matched_BN, strict=True)])
    labels = torch.cat([t["labels"][m[m >= 0]] for t, m in zip(targets, matched_BN, strict=True)])
    positives = mean_over_processes(boxes.new_tensor(float(len(boxes)))).clamp(min=1)

    logits_BNK = torch.cat(predictions.logits, 1)
    is_class_BNK = torch.zeros_like(logits_BNK)
    is_class_BNK[image, place, labels] = 1
    focal = sigmoid_focal_loss(logits_BNK, is_class_BNK, alpha=0.25, gamma=2, reduction="sum")

    anchors_N4 = torch.cat(list(anchors))
    centerness_targets = centerness(centres(anchors_N4[place]), boxes)
    # Without positives there is nothing to average: any positive divisor gives zero.
    total = mean_over_processes(centerness_targets.sum()).clamp(min=1e-6)
    found = decode_boxes(torch.cat(predictions.deltas, 1)[image, place], anchors_N4[place])
    giou = (generalized_box_iou_loss(found, boxes) * centerness_targets).sum()
    predicted = torch.cat(predictions.centerness, 1)[image, place]
    cross_entropy = F.binary_cross_entropy_with_logits(predicted, centerness_targets, reduction="sum")
    return {
        "classification": focal / positives,
        "bbox_regression": GIOU_WEIGHT * giou / total,
        "bbox_ctrness": cross_entropy / positives,
    }


def detect(
    predictions: Predictions,
    anchors: Sequence[Tensor],
    score_threshold: float = 0.05,
    candidates: int = 1000,
    nms_threshold: float = 0.6,
    most: int = 100,
) -> list[dict[str, Tensor]]:
    """Boxes from predictions: the score of a class is its probability times the centerness.

    Args:
        predictions: of the head.
        anchors: xyxy (H*W, 4) per level.
        score_threshold: lowest class probability, before the centerness.
        candidates: most boxes per level that enter suppression.
        nms_threshold: IoU above which the lower of two boxes of one class is dropped.
        most: boxes per image.

    Returns:
        per image ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,), best first; boxes may reach beyond the
        image.
    """
    results = []
    for image in range(len(predictions.logits[0])):
        boxes, scores, labels = [], [], []
        for logits, deltas, central, anchors_n4 in zip(*predictions, anchors, strict=True):
            probability = logits[image].sigmoid()
            place, label = (probability > score_threshold).nonzero(as_tuple=True)
            score = probability[place, label] * central[image].sigmoid()[place]
            best = score.topk(min(candidates, len(score))).indices
            boxes.append(decode_boxes(deltas[image, place[best]], anchors_n4[place[best]]))
            scores.append(score[best])
            labels.append(label[best])
        all_boxes, all_scores, all_labels = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        kept = batched_nms(all_boxes, all_scores, all_labels, nms_threshold)[:most]
        results.append({"boxes": all_boxes[kept], "scores": all_scores[kept], "labels": all_labels[kept]})
    return results


class ATSS(nn.Module):
    """The detector: backbone with pyramid, optional Dynamic Head, ATSS head.

    Args:
        backbone: images (B, 3, H, W) -> pyramid, a dict of (B, C, H, W), fine to coarse; with
            ``out_channels``. A Dynamic Head belongs to it, as its neck.
        classes: number of classes; labels are 0..classes-1.
        strides: pixels per cell of each level.
        tower_convs: see :class:`ATSSHead`.
        topk: candidates of the matcher.
        min_size: images are resized so that the shorter side has this many pixels; a sequence to choose from
            at random in training.
        max_size: but the longer side has at most this many.
        image_mean, image_std: normalisation of RGB images in [0, 1].
        size_divisible: the batch is padded to a multiple of this.
        inference: arguments of :func:`detect`.

    Source: sfzhang15/ATSS, and microsoft/DynamicHead for the numbers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        strides: Sequence[int] = STRIDES,
        tower_convs: int = 4,
        topk: int = 9,
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        size_divisible: int = 32,
        inference: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.transform = GeneralizedRCNNTransform(
            min_size,
            max_size,
            list(image_mean),
            list(image_std),
            size_divisible=size_divisible,  # type: ignore[arg-type]
        )
        self.backbone = backbone
        self.head = ATSSHead(backbone.out_channels, classes, len(strides), tower_convs)  # type: ignore[arg-type]
        self.matcher = ATSSMatcher(topk)
        self.strides = tuple(strides)
        self.inference = dict(inference or {})

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        """Losses in training mode, detections in evaluation mode; see CONTRIBUTING.md, "A detector".

        Raises:
            ValueError: there are no targets in training mode, or they are not what CONTRIBUTING.md describes.
        """
        if self.training and targets is None:
            raise ValueError("targets: expected one dict per image in training mode, got None")
        if targets is not None:
            check_targets(targets, images, self.head.cls_logits.out_channels)
        batch, resized = self.transform(list(images), list(targets) if self.training and targets is not None else None)
        levels = list(self.backbone(batch.tensors).values())
        anchors = square_anchors(
            [tuple(x.shape[-2:]) for x in levels], self.strides, ANCHOR_SCALE, batch.tensors.device
        )
        predictions = self.head(levels)
        if self.training:
            return atss_losses(predictions, anchors, resized, self.matcher)
        results = detect(predictions, anchors, **self.inference)
        for result, size in zip(results, batch.image_sizes, strict=True):
            result["boxes"] = clip_boxes_to_image(result["boxes"], size)
        return self.transform.postprocess(results, batch.image_sizes, [tuple(x.shape[-2:]) for x in images])


def atss(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    dyhead_blocks: int = 6,
    dyhead: Mapping[str, Any] | None = None,
    tower_convs: int | None = None,
    body: Mapping[str, Any] | None = None,
    **options: Any,
) -> ATSS:
    """Build ATSS by names. The Dynamic Head takes the place of the head's towers.

    Args:
        classes: number of classes.
        backbone, weights, dyhead_blocks, dyhead: see :func:`~dyhead_lab.detectors.backbones.pyramid`.
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        body: further arguments of the backbone, such as ``{"freeze_at": 2}``.
        options: further arguments of :class:`ATSS`.
    """
    if tower_convs is None:
        tower_convs = 0 if dyhead_blocks else 4
    below = pyramid(backbone, weights, dyhead_blocks=dyhead_blocks, dyhead=dyhead, **(body or {}))
    return ATSS(below, classes, tower_convs=tower_convs, **options)
