"""Faster and Mask R-CNN on torchvision's own parts, with or without a Dynamic Head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision.models.detection as tv
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, box_area, roi_align

from ..attention import TaskAwareAttention
from .anchors import ExactAnchors
from .backbones import PyramidBackbone, pyramid
from .precision import in_float32

ROI_LEVELS = ("p2", "p3", "p4", "p5")
BOX_SIZE, MASK_SIZE = 7, 14  # cells of a pooled region


class RoIAlign(MultiScaleRoIAlign):
    """Pool regions from the level that suits their size: P4 for 224 pixels, one level per factor of two.

    Pixels are where they are (``aligned``), and each cell is sampled as often as it has pixels, as in
    Detectron2; torchvision's own pooler shifts by half a pixel and samples twice. Official weights depend on
    both.
    """

    def __init__(self, size: int):
        super().__init__(list(ROI_LEVELS), size, sampling_ratio=0)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
        """Pool ``boxes`` (n, 4) of each image, in pixels of the batch, into (sum of n, C, size, size)."""
        image = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        rois = torch.cat([image, torch.cat(boxes)], 1)
        level = torch.floor(4 + torch.log2(box_area(rois[:, 1:]).sqrt() / 224 + 1e-8)).clamp(2, 5)
        places, pooled = [], []
        for l, name in enumerate(ROI_LEVELS, 2):
            here = (level == l).nonzero().flatten()
            places.append(here)
            pooled.append(
                roi_align(x[name].float(), rois[here], self.output_size, 2.0**-l, self.sampling_ratio, aligned=True)
            )
        return torch.cat(pooled)[torch.cat(places).argsort()]


class TaskAwareBoxHead(nn.Module):
    """Task-aware attention on pooled regions in place of the two fully connected layers, as the paper has it.

    Shapes: (n, C, 7, 7) -> (n, C).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.task = TaskAwareAttention(channels)

    def forward(self, regions: Tensor) -> Tensor:
        return self.task(regions).mean((2, 3))


class LabelsFromZero(nn.Module):
    """torchvision counts the background as class 0; here labels are 0..classes-1."""

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None) -> Any:
        shifted = None if targets is None else [{**t, "labels": t["labels"] + 1} for t in targets]
        output = super().forward(list(images), shifted)  # type: ignore[misc]
        return output if self.training else [{**found, "labels": found["labels"] - 1} for found in output]


class FasterRCNN(LabelsFromZero, tv.FasterRCNN):
    """torchvision's Faster R-CNN in the form that CONTRIBUTING.md describes."""


class MaskRCNN(LabelsFromZero, tv.MaskRCNN):
    """torchvision's Mask R-CNN likewise; targets also carry ``masks`` (n, H, W) of 0 and 1, results ``masks``
    (n, 1, H, W) in [0, 1].
    """


def faster_rcnn(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    dyhead_blocks: int = 6,
    dyhead: Mapping[str, Any] | None = None,
    task_after_pooling: bool = False,
    body: Mapping[str, Any] | None = None,
    **options: Any,
) -> FasterRCNN:
    """Build Faster R-CNN. The Dynamic Head stands between the pyramid P2-P6 and everything that reads it.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, weights, dyhead_blocks, dyhead: see :func:`~dyhead_lab.detectors.backbones.pyramid`.
        task_after_pooling: False: all three attentions before RoI pooling, as in the released code. True:
            scale and spatial before, task-aware attention in place of the fully connected layers after it, as
            in the paper.
        body: further arguments of the backbone.
        options: further arguments of torchvision's ``FasterRCNN``.

    Source: Ren et al., 2015, with the pyramid of Lin et al., 2017; regions and anchors as Detectron2 has
        them.
    """
    below = _below(backbone, weights, dyhead_blocks, dyhead, task_after_pooling, body)
    return FasterRCNN(below, **_parts(below, classes, task_after_pooling) | options)


def mask_rcnn(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    dyhead_blocks: int = 6,
    dyhead: Mapping[str, Any] | None = None,
    task_after_pooling: bool = False,
    body: Mapping[str, Any] | None = None,
    **options: Any,
) -> MaskRCNN:
    """Build Mask R-CNN; the arguments are those of :func:`faster_rcnn`. Source: He et al., ICCV 2017."""
    below = _below(backbone, weights, dyhead_blocks, dyhead, task_after_pooling, body)
    predictor = tv.mask_rcnn.MaskRCNNPredictor(below.out_channels, below.out_channels, classes + 1)
    parts = _parts(below, classes, task_after_pooling)
    parts |= {"mask_roi_pool": RoIAlign(MASK_SIZE), "mask_predictor": predictor}
    return MaskRCNN(below, **parts | options)


def _below(backbone, weights, dyhead_blocks, dyhead, task_after_pooling, body) -> PyramidBackbone:
    attention = dict(dyhead or {})
    if task_after_pooling:
        attention["task"] = False
    return pyramid(backbone, weights, finest=2, dyhead_blocks=dyhead_blocks, dyhead=attention, **(body or {}))


def _parts(below: PyramidBackbone, classes: int, task_after_pooling: bool) -> dict[str, Any]:
    """What Faster and Mask R-CNN share above the pyramid."""
    channels = below.out_channels
    anchors = ExactAnchors(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    width = channels if task_after_pooling else 1024
    return {
        "rpn_anchor_generator": anchors,
        "rpn_head": in_float32(RPNHead(channels, 3)),
        "rpn_post_nms_top_n_train": 1000,
        "box_roi_pool": RoIAlign(BOX_SIZE),
        "box_head": TaskAwareBoxHead(channels) if task_after_pooling else TwoMLPHead(channels * BOX_SIZE**2, width),
        "box_predictor": in_float32(FastRCNNPredictor(width, classes + 1)),
    }
