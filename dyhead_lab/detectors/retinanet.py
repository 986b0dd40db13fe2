"""RetinaNet and FCOS on torchvision's own parts, with or without a Dynamic Head below their heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

from .anchors import ExactAnchors
from .backbones import pyramid
from .precision import in_float32

STRIDES = (8, 16, 32, 64, 128)


def retinanet(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    dyhead_blocks: int = 6,
    dyhead: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    **options: Any,
) -> RetinaNet:
    """Build RetinaNet. The Dynamic Head precedes the two towers of four convolutions, as in the released
    recipe.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, weights, dyhead_blocks, dyhead: see :func:`~dyhead_lab.detectors.backbones.pyramid`.
        body: further arguments of the backbone.
        options: further arguments of torchvision's ``RetinaNet``, such as ``min_size``.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; anchors as microsoft/DynamicHead
        has them.
    """
    below = pyramid(backbone, weights, dyhead_blocks=dyhead_blocks, dyhead=dyhead, **(body or {}))
    sizes = tuple(tuple(4 * stride * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
    anchors = ExactAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = RetinaNetHead(below.out_channels, anchors.num_anchors_per_location()[0], classes)
    options = {"detections_per_img": 100} | options
    return RetinaNet(below, classes, anchor_generator=anchors, head=in_float32(head), **options)


def fcos(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    dyhead_blocks: int = 6,
    dyhead: Mapping[str, Any] | None = None,
    tower_convs: int | None = None,
    body: Mapping[str, Any] | None = None,
    **options: Any,
) -> FCOS:
    """Build FCOS. The Dynamic Head takes the place of the towers.

    Args:
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        options: further arguments of torchvision's ``FCOS``.
        The others are as in :func:`retinanet`.

    Source: Tian et al., "FCOS", ICCV 2019.
    """
    if tower_convs is None:
        tower_convs = 0 if dyhead_blocks else 4
    below = pyramid(backbone, weights, dyhead_blocks=dyhead_blocks, dyhead=dyhead, **(body or {}))
    points = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    head = FCOSHead(below.out_channels, 1, classes, num_convs=tower_convs)
    return FCOS(below, classes, anchor_generator=points, head=in_float32(head), **options)
