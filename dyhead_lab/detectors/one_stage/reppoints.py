"""RepPoints: an object is a set of points, found in two steps; where the points lie, features are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...trace import emit
from ..anchors import map_places
from ..arguments import hands_on
from ..backbones.feature_pyramid import pyramid, with_pyramid
from ..losses import Positives, classification_loss, find_positives, share_gradient
from .dense_detector import (
    STRIDES,
    DenseDetector,
    as_rows,
    best_boxes,
    start_small,
    tower,
    tower_height,
)
from .point_matchers import match_by_iou, match_nearest
from .point_sets import POINTS, TO_BOX, PointConv

TOWER_CONVS = 3
POINT_SCALE = 4.0  # cells of its level that the side of an object has at least; also the unit of the box losses
POINT_GRADIENT = 0.1  # share of the second stage's gradient that reaches the first points
INIT_WEIGHT, REFINE_WEIGHT = 0.5, 1.0  # of the box losses
SMOOTH = 0.11  # where a box loss turns from square to linear


class Predictions(NamedTuple):
    """What the head says about every place: one entry per level, fine to coarse, places row by row."""

    logits: list[Tensor]  #: (B, H*W, classes)
    init: list[Tensor]  #: first points, (B, H*W, P, 2), (x, y) in pixels
    refined: list[Tensor]  #: second points, likewise


class RepPointsHead(nn.Module):
    """Two towers; points from one; class and better points from features read at the points.

    Emits per level, fine to coarse: ``points_init`` and ``points_refined``.

    Args:
        channels: C of the pyramid.
        classes: number of classes.
        strides: pixels per cell of each level.
        tower_convs: 3x3 convolutions in each of the two towers.
    """

    def __init__(self, channels: int, classes: int, strides: Sequence[int] = STRIDES, tower_convs: int = TOWER_CONVS):
        super().__init__()
        self.cls_tower, self.points_tower = tower(channels, tower_convs), tower(channels, tower_convs)
        self.init_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.init_points = nn.Conv2d(channels, 2 * POINTS, 1)
        self.cls_conv, self.refine_conv = PointConv(channels), PointConv(channels)
        self.cls_logits = nn.Conv2d(channels, classes, 1)
        self.refine_points = nn.Conv2d(channels, 2 * POINTS, 1)
        self.strides = tuple(strides)
        start_small(self, [self.cls_logits])

    def forward(self, levels: Sequence[Tensor]) -> Predictions:
        """Predict for the maps (B, C, H, W) of a pyramid, in float32 also under autocast."""
        predictions = Predictions([], [], [])
        centres = map_places(levels, self.strides)
        for x, centres_n2, stride in zip(levels, centres, self.strides, strict=True):
            cls, points = self.cls_tower(x), self.points_tower(x)
            init = self.init_points(F.relu(self.init_conv(points))).float()
            seen = share_gradient(init, POINT_GRADIENT)
            moved = self.refine_points(F.relu(self.refine_conv(points, seen))).float()
            predictions.logits.append(as_rows(self.cls_logits(F.relu(self.cls_conv(cls, seen)))))
            predictions.init.append(_in_pixels(init, centres_n2, stride))
            predictions.refined.append(_in_pixels(init.detach() + moved, centres_n2, stride))
            emit(self, points_init=predictions.init[-1], points_refined=predictions.refined[-1])
        return predictions


def _in_pixels(points: Tensor, centres: Tensor, stride: int) -> Tensor:
    """(B, 18, H, W), (dy, dx) in cells from the place -> (B, H*W, P, 2), (x, y) in pixels."""
    yx = as_rows(points).unflatten(-1, (POINTS, 2))
    return yx.flip(-1) * stride + centres[:, None]


@hands_on(DenseDetector)
class RepPoints(DenseDetector):
    """The detector: backbone with pyramid, optional Dynamic Head, points in two stages.

    Args:
        backbone, classes, strides: see :class:`~dyhead_lab.detectors.one_stage.dense_detector.DenseDetector`.
        tower_convs: see :class:`RepPointsHead`.
        to_box: how points become boxes: ``"moment"`` or ``"min_max"``.
        object_scale: sizes of objects that each level looks for, relative to the published ones (P3: 32 to 64 pixels).
        inference: arguments of :func:`detect`.
        resizing: further arguments of :class:`~dyhead_lab.detectors.one_stage.dense_detector.DenseDetector`.

    Raises:
        ValueError: ``to_box`` is none of these.

    Source: Yang et al., "RepPoints: Point Set Representation for Object Detection", ICCV 2019, and microsoft/RepPoints
    for the numbers. Points are measured from the middle of a cell here, from its corner there.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        strides: Sequence[int] = STRIDES,
        tower_convs: int = TOWER_CONVS,
        to_box: str = "moment",
        object_scale: float = 1.0,
        inference: Mapping[str, Any] | None = None,
        **resizing: Any,
    ):
        if to_box not in TO_BOX:
            raise ValueError(f"to_box: expected one of {', '.join(TO_BOX)}, got {to_box!r}")
        head = RepPointsHead(backbone.out_channels, classes, strides, tower_convs)  # type: ignore[arg-type]
        super().__init__(backbone, head, classes, strides=strides, **resizing)
        self.to_box = TO_BOX[to_box]()
        self.scale = POINT_SCALE * object_scale
        self.inference = dict(inference or {})

    def losses(self, levels: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The losses of both stages.

        Returns:
            ``classification``, focal loss, per positive place of the second stage; ``bbox_init`` and ``bbox_refine``,
            smooth L1 of the boxes of the first and the second points in units of four cells, per positive place of
            their stage, with weights of 0.5 and 1.
        """
        predictions = self.head(levels)
        init_BN4 = self.to_box(torch.cat(predictions.init, 1))
        refined_BN4 = self.to_box(torch.cat(predictions.refined, 1))
        centres = map_places(levels, self.strides)
        unit_N = torch.cat([p.new_full((len(p),), self.scale * s) for p, s in zip(centres, self.strides, strict=True)])

        nearest_BN = torch.stack([match_nearest(centres, self.strides, t["boxes"], self.scale) for t in targets])
        matched_BN = torch.stack([match_by_iou(b, t["boxes"]) for b, t in zip(init_BN4, targets, strict=True)])
        first, second = find_positives(nearest_BN, targets), find_positives(matched_BN, targets)
        return {
            "classification": classification_loss(torch.cat(predictions.logits, 1), matched_BN, second),
            "bbox_init": INIT_WEIGHT * _box_loss(init_BN4, first, unit_N),
            "bbox_refine": REFINE_WEIGHT * _box_loss(refined_BN4, second, unit_N),
        }

    def detections(self, levels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        predictions = self.head(levels)
        boxes = [self.to_box(points) for points in predictions.refined]
        return detect(predictions.logits, boxes, **self.inference)


def detect(
    logits: Sequence[Tensor],
    boxes: Sequence[Tensor],
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    **choice: Any,
) -> list[dict[str, Tensor]]:
    """Boxes from the second stage: the score of a class is its probability.

    Args:
        logits: (B, H*W, classes) per level.
        boxes: xyxy, (B, H*W, 4) per level.
        score_threshold: lowest class probability.
        nms_threshold, choice: as in :func:`.best_boxes`, which says what is returned.
    """
    scores = [x.sigmoid() for x in logits]
    return best_boxes(boxes, scores, [s > score_threshold for s in scores], nms_threshold=nms_threshold, **choice)


def _box_loss(boxes_BN4: Tensor, positives: Positives, unit_N: Tensor) -> Tensor:
    """Smooth L1 of boxes in units of their level, summed over coordinates, per positive place."""
    unit = unit_N[positives.place, None]
    found = boxes_BN4[positives.image, positives.place]
    return F.smooth_l1_loss(found / unit, positives.boxes / unit, beta=SMOOTH, reduction="sum") / positives.total


@hands_on(pyramid, RepPoints, without=("finest", "strides"))
def reppoints(
    classes: int, backbone: str = "resnet50", dyhead_blocks: int = 6, tower_convs: int | None = None, **options: Any
) -> RepPoints:
    """Build RepPoints by names. The Dynamic Head takes the place of the head's towers.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 3 without.
        options: further arguments of :func:`.pyramid` and of :class:`RepPoints`.
    """
    features, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    return RepPoints(features, classes, tower_convs=tower_height(tower_convs, dyhead_blocks, TOWER_CONVS), **options)
