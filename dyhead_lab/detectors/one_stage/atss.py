"""ATSS: a one-stage detector with one anchor per place, whose assignment adapts to each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from ..anchors import centres, decode_boxes, square_anchors
from ..arguments import hands_on
from ..backbones.feature_pyramid import pyramid, with_pyramid
from ..losses import centerness, classification_loss, find_positives, mean_over_processes
from .atss_matcher import ATSSMatcher
from .channel_strengths import show_strengths
from .dense_detector import (
    STRIDES,
    DenseDetector,
    as_rows,
    best_boxes,
    start_small,
    tower,
    tower_height,
)

__all__ = ["ATSS", "ATSSHead", "ATSSMatcher", "Predictions", "atss", "atss_losses", "detect"]

ANCHOR_SCALE = 8  # side of an anchor in cells
GIOU_WEIGHT = 2.0


class Predictions(NamedTuple):
    """What the head says about every anchor: one entry per level, fine to coarse, anchors row by row."""

    logits: list[Tensor]  #: (B, H*W, classes)
    deltas: list[Tensor]  #: (B, H*W, 4), relative to the anchors
    centerness: list[Tensor]  #: logits (B, H*W)


class ATSSHead(nn.Module):
    """Towers of convolutions, then class, box and centerness of one anchor per place.

    Levels share everything but a scale of their boxes. Emits ``channel_strengths`` (3, C).

    Args:
        channels: C of the pyramid.
        classes: number of classes.
        levels: number of levels; each scales its boxes by a learned number.
        tower_convs: 3x3 convolutions with GroupNorm and ReLU in each of the two towers: 4 in ATSS, 0 after a
            Dynamic Head, which takes their place.
        kernel: side of the predicting convolutions: 1 in the released code of Dynamic Head, 3 in mmdetection.
    """

    def __init__(self, channels: int, classes: int, levels: int = 5, tower_convs: int = 4, kernel: int = 1):
        super().__init__()
        self.cls_tower = tower(channels, tower_convs)
        self.bbox_tower = tower(channels, tower_convs)
        self.cls_logits = nn.Conv2d(channels, classes, kernel, padding=kernel // 2)
        self.bbox_pred = nn.Conv2d(channels, 4, kernel, padding=kernel // 2)
        self.centerness = nn.Conv2d(channels, 1, kernel, padding=kernel // 2)
        self.scales = nn.ParameterList(torch.ones(1) for _ in range(levels))
        start_small(self, [self.cls_logits])

    def forward(self, levels: Sequence[Tensor]) -> Predictions:
        """Predict for the maps (B, C, H, W) of a pyramid, in float32 also under autocast."""
        centres = (self.bbox_tower, self.centerness)
        show_strengths(self, (self.cls_tower, self.cls_logits), (self.bbox_tower, self.bbox_pred), centres)
        predictions = Predictions([], [], [])
        for x, scale in zip(levels, self.scales, strict=True):
            cls, box = self.cls_tower(x), self.bbox_tower(x)
            predictions.logits.append(as_rows(self.cls_logits(cls)))
            predictions.deltas.append(as_rows(self.bbox_pred(box)) * scale)
            predictions.centerness.append(as_rows(self.centerness(box)).squeeze(-1))
        return predictions


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
    found = find_positives(matched_BN, targets)
    anchors_n4 = torch.cat(list(anchors))[found.place]
    centerness_targets = centerness(centres(anchors_n4), found.boxes)
    # Without positives there is nothing to average: any positive divisor gives zero.
    weight = mean_over_processes(centerness_targets.sum()).clamp(min=1e-6)
    boxes = decode_boxes(torch.cat(predictions.deltas, 1)[found.image, found.place], anchors_n4)
    giou = (generalized_box_iou_loss(boxes, found.boxes) * centerness_targets).sum()
    predicted = torch.cat(predictions.centerness, 1)[found.image, found.place]
    cross_entropy = F.binary_cross_entropy_with_logits(predicted, centerness_targets, reduction="sum")
    return {
        "classification": classification_loss(torch.cat(predictions.logits, 1), matched_BN, found),
        "bbox_regression": GIOU_WEIGHT * giou / weight,
        "bbox_ctrness": cross_entropy / found.total,
    }


def detect(
    predictions: Predictions, anchors: Sequence[Tensor], score_threshold: float = 0.05, **choice: Any
) -> list[dict[str, Tensor]]:
    """Boxes from predictions: the score of a class is its probability times the centerness.

    Args:
        predictions: of the head.
        anchors: xyxy (H*W, 4) per level.
        score_threshold: lowest class probability, before the centerness.
        choice: further arguments of :func:`.best_boxes`, which says what is returned.
    """
    probabilities = [logits.sigmoid() for logits in predictions.logits]
    scores = [p * c.sigmoid()[..., None] for p, c in zip(probabilities, predictions.centerness, strict=True)]
    boxes = [
        torch.stack([decode_boxes(one, anchors_n4) for one in deltas])
        for deltas, anchors_n4 in zip(predictions.deltas, anchors, strict=True)
    ]
    return best_boxes(boxes, scores, [p > score_threshold for p in probabilities], **choice)


@hands_on(DenseDetector)
class ATSS(DenseDetector):
    """The detector: backbone with pyramid, optional Dynamic Head, ATSS head.

    Args:
        backbone, classes, strides: see :class:`~dyhead_lab.detectors.one_stage.dense_detector.DenseDetector`.
        tower_convs: see :class:`ATSSHead`.
        topk: candidates of the matcher.
        object_scale: side of the anchors relative to the published 8 cells.
        predictor_kernel: see ``kernel`` of :class:`ATSSHead`.
        anchor_offset: where in its cell an anchor has its centre, in cells: 0.5 is the middle, 0 the corner.
        inference: arguments of :func:`detect`.
        resizing: further arguments of :class:`~dyhead_lab.detectors.one_stage.dense_detector.DenseDetector`.

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
        object_scale: float = 1.0,
        predictor_kernel: int = 1,
        anchor_offset: float = 0.5,
        inference: Mapping[str, Any] | None = None,
        **resizing: Any,
    ):
        channels: Any = backbone.out_channels
        head = ATSSHead(channels, classes, len(strides), tower_convs, predictor_kernel)
        super().__init__(backbone, head, classes, strides=strides, **resizing)
        self.matcher = ATSSMatcher(topk)
        self.anchor_scale = ANCHOR_SCALE * object_scale
        self.anchor_offset = anchor_offset
        self.inference = dict(inference or {})

    def losses(self, levels: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return atss_losses(self.head(levels), self._anchors(levels), targets, self.matcher)

    def detections(self, levels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        return detect(self.head(levels), self._anchors(levels), **self.inference)

    def _anchors(self, levels: Sequence[Tensor]) -> list[Tensor]:
        sizes = [(x.shape[-2], x.shape[-1]) for x in levels]
        anchors = square_anchors(sizes, self.strides, self.anchor_scale, levels[0].device)
        shift = self.anchor_offset - 0.5
        return [boxes + shift * stride for boxes, stride in zip(anchors, self.strides, strict=True)]


@hands_on(pyramid, ATSS, without=("finest", "strides"))
def atss(
    classes: int, backbone: str = "resnet50", dyhead_blocks: int = 6, tower_convs: int | None = None, **options: Any
) -> ATSS:
    """Build ATSS by names. The Dynamic Head takes the place of the head's towers.

    Args:
        classes: number of classes.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        options: further arguments of :func:`.pyramid` and of :class:`ATSS`.
    """
    features, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    return ATSS(features, classes, tower_convs=tower_height(tower_convs, dyhead_blocks), **options)
