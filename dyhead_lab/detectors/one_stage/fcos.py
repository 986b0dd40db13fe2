"""FCOS on torchvision's own parts, with or without a Dynamic Head in the place of its towers."""

from __future__ import annotations

from typing import Any

from torchvision.models.detection import fcos as tv

from ..anchors import ExactAnchors
from ..arguments import hands_on
from ..backbones.feature_pyramid import pyramid, with_pyramid
from ..precision import in_float32
from ..torchvision_form import TorchvisionForm
from .dense_detector import STRIDES, tower_height
from .fcos_head import FCOSHead

RADIUS = 1.5  # a place this near to an object's centre is positive, in cells


class FCOS(TorchvisionForm, tv.FCOS):
    """torchvision's FCOS in the form that CONTRIBUTING.md describes."""


@hands_on(pyramid, tv.FCOS, without=("finest",))
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
        classes: number of classes; labels are 0..classes-1.
        backbone, dyhead_blocks: see :func:`.pyramid`.
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        object_scale: sizes of objects that each level looks for, relative to the published ones (P3: 64 pixels).
        options: further arguments of :func:`.pyramid`, and of torchvision's ``FCOS``, such as ``min_size``.

    Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019.
    """
    features, options = with_pyramid(options, backbone=backbone, finest=3, dyhead_blocks=dyhead_blocks)
    # torchvision measures everything in anchors: a level takes objects of 4 to 8, and its radius is in anchors too.
    points = ExactAnchors(tuple((object_scale * stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    head = FCOSHead(features.out_channels, 1, classes, num_convs=tower_height(tower_convs, dyhead_blocks))
    options = {"center_sampling_radius": RADIUS / object_scale} | options
    return FCOS(
        features, classes=classes, num_classes=classes, anchor_generator=points, head=in_float32(head), **options
    )
