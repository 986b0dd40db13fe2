"""RetinaNet and FCOS on torchvision's own parts, with or without a Dynamic Head below their heads."""

from __future__ import annotations

from typing import Any

from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

from ..anchors import ExactAnchors
from ..backbones.feature_pyramid import with_pyramid
from ..precision import in_float32
from .dense_detector import STRIDES, tower_height
from .fcos_head import FCOSHead

RADIUS = 1.5  # FCOS: a place this near to an object's centre is positive, in cells


def retinanet(
    classes: int,
    backbone: str = "resnet50",
    dyhead_blocks: int = 6,
    tower_convs: int = 4,
    object_scale: float = 1.0,
    **options: Any,
) -> RetinaNet:
    """Build RetinaNet. The Dynamic Head precedes the two towers, as in the released recipe.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        tower_convs: convolutions in each tower, at most 4.
        object_scale: side of the anchors relative to the published 4, 5.04 and 6.35 cells.
        options: further arguments of :func:`.pyramid`, and of torchvision's
            ``RetinaNet``, such as ``min_size``.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; anchors as microsoft/DynamicHead
        has them.
    """
    below, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    sizes = tuple(tuple(4 * object_scale * stride * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
    anchors = ExactAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = RetinaNetHead(below.out_channels, anchors.num_anchors_per_location()[0], classes)
    for part in (head.classification_head, head.regression_head):
        part.conv = part.conv[:tower_convs]
    options = {"detections_per_img": 100} | options
    return RetinaNet(below, classes, anchor_generator=anchors, head=in_float32(head), **options)


def fcos(
    classes: int,
    backbone: str = "resnet50",
    dyhead_blocks: int = 6,
    tower_convs: int | None = None,
    object_scale: float = 1.0,
    **options: Any,
) -> FCOS:
    """Build FCOS. The Dynamic Head takes the place of the towers.

    Args:
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        object_scale: sizes of objects that each level looks for, relative to the published ones (P3: 64 pixels).
        options: further arguments of the pyramid and of torchvision's ``FCOS``.
        The others are as in :func:`retinanet`.

    Source: Tian et al., "FCOS", ICCV 2019.
    """
    below, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    # torchvision measures everything in anchors: a level takes objects of 4 to 8, and its radius is in anchors too.
    points = ExactAnchors(tuple((object_scale * stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    head = FCOSHead(below.out_channels, 1, classes, num_convs=tower_height(tower_convs, dyhead_blocks))
    options = {"center_sampling_radius": RADIUS / object_scale} | options
    return FCOS(below, classes, anchor_generator=points, head=in_float32(head), **options)
