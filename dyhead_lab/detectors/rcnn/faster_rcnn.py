"""Faster R-CNN on torchvision's own parts, with or without a Dynamic Head, and what all R-CNN share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision.models.detection as tv
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, box_area, roi_align

from ...attention import TaskAwareAttention
from ..anchors import ExactAnchors
from ..arguments import hands_on
from ..backbones.feature_pyramid import PyramidBackbone, pyramid, with_pyramid
from ..precision import in_float32, in_precision_of_weights
from ..torchvision_form import TorchvisionForm

ROI_LEVELS = ("p2", "p3", "p4", "p5")
BOX_SIZE = 7  # cells of a pooled region
CANONICAL_SIZE = 224  # pixels of a region that is pooled from P4
BOX_HEAD_WIDTH = 1024


class RoIAlign(MultiScaleRoIAlign):
    """Pool regions from the level that suits their size: P4 for 224 pixels times ``object_scale``, one level per
    factor of two.

    Pixels are where they are (``aligned``), and each cell is sampled as often as it has pixels, as in
    Detectron2; torchvision's own pooler shifts by half a pixel and samples twice. Official weights depend on
    both.
    """

    def __init__(self, size: int, object_scale: float = 1.0):
        super().__init__(list(ROI_LEVELS), size, sampling_ratio=0)
        self.canonical_size = CANONICAL_SIZE * object_scale

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
        """Pool ``boxes`` (n, 4) of each image, in pixels of the batch, into (sum of n, C, size, size).

        What is pooled for a box that is not a number is not a number either.
        """
        image = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        rois = torch.cat([image, torch.cat(boxes)], 1)
        sides = box_area(rois[:, 1:]).sqrt()
        level = torch.floor(4 + torch.log2(sides / self.canonical_size + 1e-8)).clamp(2, 5)
        places, pooled = [], []
        for l, name in enumerate(ROI_LEVELS, 2):
            here = (level == l).nonzero().flatten()
            places.append(here)
            pooled.append(
                roi_align(x[name].float(), rois[here], self.output_size, 2.0**-l, self.sampling_ratio, aligned=True)
            )
        regions = torch.cat(pooled)
        # A box that is not a number belongs to no level, so that its region stays NaN.
        return regions.new_full((len(rois), *regions.shape[1:]), torch.nan).index_copy(0, torch.cat(places), regions)


class TaskAwareBoxHead(nn.Module):
    """Task-aware attention on pooled regions in place of the two fully connected layers, as the paper has it.

    Shapes: (n, C, 7, 7) -> (n, C).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.task = TaskAwareAttention(channels)

    def forward(self, regions: Tensor) -> Tensor:
        return self.task(regions).mean((2, 3))


def box_layers(channels: int, width: int, task_after_pooling: bool) -> tuple[nn.Module, int]:
    """What turns pooled regions (n, C, 7, 7) into vectors, and their length: two fully connected layers of ``width``,
    or task-aware attention, which keeps C.
    """
    if task_after_pooling:
        return in_precision_of_weights(TaskAwareBoxHead(channels)), channels
    return in_precision_of_weights(TwoMLPHead(channels * BOX_SIZE**2, width)), width


class FasterRCNN(TorchvisionForm, tv.FasterRCNN):
    """torchvision's Faster R-CNN in the form that CONTRIBUTING.md describes."""

    first_label = 1


@hands_on(pyramid, tv.FasterRCNN, without=("finest",))
def two_stages(
    classes: int,
    backbone: str,
    dyhead_blocks: int,
    *,
    dyhead: Mapping[str, Any] | None = None,
    task_after_pooling: bool = False,
    object_scale: float = 1.0,
    box_head_width: int = BOX_HEAD_WIDTH,
    **options: Any,
) -> tuple[PyramidBackbone, dict[str, Any]]:
    """What all R-CNN share: the pyramid, and the parts of torchvision's ``FasterRCNN`` above it.

    Args:
        classes, backbone, dyhead_blocks: as in :func:`faster_rcnn`.
        dyhead: further arguments of :class:`~dyhead_lab.attention.DyHead`.
        task_after_pooling: False: all three attentions before RoI pooling, as in the released code. True:
            scale and spatial before, task-aware attention in place of the fully connected layers after it, as
            in the paper.
        object_scale: side of the anchors, and size of the regions that a level pools, relative to the published
            8 cells, and 224 pixels on P4.
        box_head_width: of the two fully connected layers.
        options: further arguments of the pyramid and of ``FasterRCNN``; the latter are passed on.
    """
    attention = {**(dyhead or {}), "task": False} if task_after_pooling else dyhead
    features, options = with_pyramid(
        options, backbone=backbone, finest=2, dyhead_blocks=dyhead_blocks, dyhead=attention
    )
    channels = features.out_channels
    anchors = ExactAnchors(tuple((object_scale * side,) for side in (32, 64, 128, 256, 512)), ((0.5, 1.0, 2.0),) * 5)
    box_head, width = box_layers(channels, box_head_width, task_after_pooling)
    parts = {
        "rpn_anchor_generator": anchors,
        "rpn_head": in_float32(RPNHead(channels, 3)),
        "rpn_post_nms_top_n_train": 1000,
        "box_roi_pool": RoIAlign(BOX_SIZE, object_scale),
        "box_head": box_head,
        "box_predictor": in_float32(FastRCNNPredictor(width, classes + 1)),
    }
    return features, parts | options


@hands_on(two_stages)
def faster_rcnn(classes: int, backbone: str = "resnet50", dyhead_blocks: int = 6, **options: Any) -> FasterRCNN:
    """Build Faster R-CNN. The Dynamic Head stands between the pyramid P2-P6 and everything that reads it.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        options: further arguments of :func:`.pyramid`, of :func:`two_stages` and of
            torchvision's ``FasterRCNN``.

    Source: Ren et al., 2015, with the pyramid of Lin et al., 2017; regions and anchors as Detectron2 has
        them.
    """
    features, parts = two_stages(classes, backbone, dyhead_blocks, **options)
    return FasterRCNN(features, classes=classes, **parts)
