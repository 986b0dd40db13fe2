"""RetinaNet on torchvision's own parts, with or without a Dynamic Head between its pyramid and its towers."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchvision.models.detection import retinanet as tv

from ...attention.pyramid import LevelNorm
from ..anchors import ExactAnchors
from ..arguments import hands_on
from ..backbones.feature_pyramid import pyramid, with_pyramid
from ..precision import in_float32
from ..torchvision_form import TorchvisionForm
from .dense_detector import STRIDES


class RetinaNet(TorchvisionForm, tv.RetinaNet):
    """torchvision's RetinaNet in the form that CONTRIBUTING.md describes."""


@hands_on(pyramid, tv.RetinaNet, without=("finest",))
def retinanet(
    classes: int,
    backbone: str = "resnet50",
    dyhead_blocks: int = 6,
    tower_convs: int = 4,
    tower_norm: bool = False,
    object_scale: float = 1.0,
    **options: Any,
) -> RetinaNet:
    """Build RetinaNet. The Dynamic Head precedes the two towers, as in the released recipe.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        tower_convs: convolutions in each tower, at most 4.
        tower_norm: GroupNorm after each of them, as in torchvision's second RetinaNet; the published one has none.
        object_scale: side of the anchors relative to the published 4, 5.04 and 6.35 cells.
        options: further arguments of :func:`.pyramid`, and of torchvision's ``RetinaNet``, such as ``min_size``.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; anchors as microsoft/DynamicHead
        has them.
    """
    features, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    sizes = tuple(tuple(4 * object_scale * stride * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
    anchors = ExactAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    norm = partial(LevelNorm, 32) if tower_norm else None
    head = tv.RetinaNetHead(features.out_channels, anchors.num_anchors_per_location()[0], classes, norm_layer=norm)
    for part in (head.classification_head, head.regression_head):
        part.conv = part.conv[:tower_convs]
    options = {"detections_per_img": 100} | options
    return RetinaNet(
        features, classes=classes, num_classes=classes, anchor_generator=anchors, head=in_float32(head), **options
    )
