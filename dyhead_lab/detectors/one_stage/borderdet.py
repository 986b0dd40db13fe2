"""BorderDet: FCOS finds boxes, and the features on their borders correct them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou, generalized_box_iou_loss

from ..anchors import map_places
from ..arguments import hands_on
from ..backbones.feature_pyramid import pyramid, with_pyramid
from ..losses import BACKGROUND, centerness, classification_loss, find_positives, mean_over_processes
from .border_align import BorderAlignment
from .dense_detector import (
    STRIDES,
    DenseDetector,
    as_rows,
    best_boxes,
    start_small,
    tower,
    tower_height,
)
from .point_matchers import match_by_size

FINEST_SIZE = 64.0  # pixels: the largest objects of P3
BORDER_IOU = 0.6  # overlap from which a box of the first stage belongs to an object in the second
BORDER_STD = 0.5  # unit of the corrections, in widths and heights of the box
#: C' of the border alignment, in shares of C: for classes, and for boxes.
CLS_SHARE, BOX_SHARE = 1.0, 0.5


class Predictions(NamedTuple):
    """What the head says about every place: one entry per level, fine to coarse, places row by row."""

    logits: list[Tensor]  #: first stage, (B, H*W, classes)
    centerness: list[Tensor]  #: logits (B, H*W)
    boxes: list[Tensor]  #: first stage, xyxy in pixels, (B, H*W, 4)
    border_logits: list[Tensor]  #: second stage, (B, H*W, classes)
    border_deltas: list[Tensor]  #: corrections of x1, y1, x2, y2, (B, H*W, 4), in :func:`border_unit`


class BorderHead(nn.Module):
    """The head of FCOS, and one border alignment for classes and one for boxes behind it.

    A place lies exp(x) strides from each side of its box, x being what the head predicts, as in FCOS. Levels share
    everything but a scale of x.

    Args:
        channels: C of the pyramid.
        classes: number of classes.
        strides: pixels per cell of each level.
        tower_convs: 3x3 convolutions in each of the two towers.
    """

    def __init__(self, channels: int, classes: int, strides: Sequence[int] = STRIDES, tower_convs: int = 4):
        super().__init__()
        self.cls_tower, self.bbox_tower = tower(channels, tower_convs), tower(channels, tower_convs)
        self.cls_logits = nn.Conv2d(channels, classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.border_cls = BorderAlignment(channels, int(CLS_SHARE * channels))
        self.border_bbox = BorderAlignment(channels, int(BOX_SHARE * channels))
        self.border_logits = nn.Conv2d(channels, classes, 1)
        self.border_deltas = nn.Conv2d(channels, 4, 1)
        self.scales = nn.ParameterList(torch.ones(1) for _ in strides)
        self.strides = tuple(strides)
        start_small(self, [self.cls_logits, self.border_logits])

    def forward(self, levels: Sequence[Tensor]) -> Predictions:
        """Predict for the maps (B, C, H, W) of a pyramid, in float32 also under autocast."""
        predictions = Predictions([], [], [], [], [])
        points = map_places(levels, self.strides)
        for x, points_n2, scale, stride in zip(levels, points, self.scales, self.strides, strict=True):
            cls, box = self.cls_tower(x), self.bbox_tower(x)
            sides = (as_rows(self.bbox_pred(box)) * scale).exp() * stride
            boxes = torch.cat([points_n2 - sides[..., :2], points_n2 + sides[..., 2:]], -1)
            found = boxes.detach()
            predictions.logits.append(as_rows(self.cls_logits(cls)))
            predictions.centerness.append(as_rows(self.centerness(box)).squeeze(-1))
            predictions.boxes.append(boxes)
            predictions.border_logits.append(as_rows(self.border_logits(self.border_cls(cls, found, stride))))
            predictions.border_deltas.append(as_rows(self.border_deltas(self.border_bbox(box, found, stride))))
        return predictions


def border_unit(boxes: Tensor) -> Tensor:
    """What a correction of one means for x1, y1, x2, y2 of boxes (..., 4), in pixels: half the width or height."""
    return BORDER_STD * (boxes[..., 2:] - boxes[..., :2]).tile(2)


def detect(predictions: Predictions, score_threshold: float = 0.05, **choice: Any) -> list[dict[str, Tensor]]:
    """Boxes from predictions.

    A place's score in the first stage is the root of class probability times centerness. The final score is the root of
    that times the class probability of the second stage.

    Args:
        predictions: of the head.
        score_threshold: lowest score of the first stage.
        choice: further arguments of :func:`.best_boxes`, which says what is returned.
    """
    first = [
        (logits.sigmoid() * central.sigmoid()[..., None]).sqrt()
        for logits, central in zip(predictions.logits, predictions.centerness, strict=True)
    ]
    scores = [(s * border.sigmoid()).sqrt() for s, border in zip(first, predictions.border_logits, strict=True)]
    boxes = [b + d * border_unit(b) for b, d in zip(predictions.boxes, predictions.border_deltas, strict=True)]
    return best_boxes(boxes, scores, [s > score_threshold for s in first], **choice)


@hands_on(DenseDetector)
class BorderDet(DenseDetector):
    """The detector: backbone with pyramid, optional Dynamic Head, FCOS, border alignment.

    Args:
        backbone, classes, strides: see :class:`~dyhead_lab.detectors.one_stage.dense_detector.DenseDetector`.
        tower_convs: see :class:`BorderHead`.
        object_scale: sizes of objects that each level looks for, relative to the published ones (P3: 64 pixels).
        inference: arguments of :func:`detect`.
        resizing: further arguments of :class:`~dyhead_lab.detectors.one_stage.dense_detector.DenseDetector`.

    Source: Qiu et al., "BorderDet: Border Feature for Dense Object Detection", ECCV 2020; numbers that the paper leaves
    open as in Megvii-BaseDetection/BorderDet.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        strides: Sequence[int] = STRIDES,
        tower_convs: int = 4,
        object_scale: float = 1.0,
        inference: Mapping[str, Any] | None = None,
        **resizing: Any,
    ):
        head = BorderHead(backbone.out_channels, classes, strides, tower_convs)  # type: ignore[arg-type]
        super().__init__(backbone, head, classes, strides=strides, **resizing)
        self.finest_size = FINEST_SIZE * object_scale
        self.inference = dict(inference or {})

    def losses(self, levels: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The losses of both stages.

        Returns:
            - ``classification``, ``border_classification``: focal losses per positive place of their stage;
            - ``bbox_regression``: 1 - GIoU, averaged with the centerness of the positives as weights;
            - ``bbox_ctrness``: binary cross-entropy of the centerness, per positive place;
            - ``border_regression``: L1 of the corrections, per positive place of the second stage.
        """
        predictions = self.head(levels)
        points = map_places(levels, self.strides)
        return self._first_losses(predictions, points, targets) | self._border_losses(predictions, targets)

    def _first_losses(self, predictions: Predictions, points: Sequence[Tensor], targets) -> dict[str, Tensor]:
        matched_BN = torch.stack(
            [match_by_size(points, self.strides, target["boxes"], self.finest_size) for target in targets]
        )
        found = find_positives(matched_BN, targets)
        wanted = centerness(torch.cat(list(points))[found.place], found.boxes)
        weight = mean_over_processes(wanted.sum()).clamp(min=1e-6)  # without positives any divisor gives zero
        boxes = torch.cat(predictions.boxes, 1)[found.image, found.place]
        predicted = torch.cat(predictions.centerness, 1)[found.image, found.place]
        cross_entropy = F.binary_cross_entropy_with_logits(predicted, wanted, reduction="sum")
        return {
            "classification": classification_loss(torch.cat(predictions.logits, 1), matched_BN, found),
            "bbox_regression": (generalized_box_iou_loss(boxes, found.boxes) * wanted).sum() / weight,
            "bbox_ctrness": cross_entropy / found.total,
        }

    def _border_losses(self, predictions: Predictions, targets) -> dict[str, Tensor]:
        boxes_BN4 = torch.cat(predictions.boxes, 1).detach()
        matched_BN = torch.stack([_overlapping(b, t["boxes"]) for b, t in zip(boxes_BN4, targets, strict=True)])
        found = find_positives(matched_BN, targets)
        boxes, deltas = (x[found.image, found.place] for x in (boxes_BN4, torch.cat(predictions.border_deltas, 1)))
        error = (deltas - (found.boxes - boxes) / border_unit(boxes)).abs().sum()
        return {
            "border_classification": classification_loss(torch.cat(predictions.border_logits, 1), matched_BN, found),
            "border_regression": error / found.total,
        }

    def detections(self, levels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        return detect(self.head(levels), **self.inference)


def _overlapping(found: Tensor, boxes: Tensor) -> Tensor:
    """Index of the object that each box (N, 4) overlaps most, ``BACKGROUND`` below :data:`BORDER_IOU`, (N,)."""
    if len(boxes) == 0:
        return torch.full((len(found),), BACKGROUND, device=found.device)
    iou_N, matched_N = box_iou(found, boxes).max(1)
    return torch.where(iou_N >= BORDER_IOU, matched_N, BACKGROUND)


@hands_on(pyramid, BorderDet, without=("finest", "strides"))
def borderdet(
    classes: int, backbone: str = "resnet50", dyhead_blocks: int = 6, tower_convs: int | None = None, **options: Any
) -> BorderDet:
    """Build BorderDet by names. The Dynamic Head takes the place of the head's towers.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        options: further arguments of :func:`.pyramid` and of :class:`BorderDet`.
    """
    features, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    return BorderDet(features, classes, tower_convs=tower_height(tower_convs, dyhead_blocks), **options)
