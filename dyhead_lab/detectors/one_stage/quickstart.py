"""The quickstart detector: FCOS on a narrow pyramid, with a Dynamic Head before its predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ...attention import DyHead
from ..anchors import ExactAnchors
from ..arguments import hands_on
from ..backbones.feature_pyramid import PyramidBackbone
from ..backbones.narrow_resnet import NarrowResNet
from ..precision import in_float32
from .fcos import FCOS
from .fcos_head import FCOSHead

STRIDES = (8, 16, 32, 64)


@hands_on(dyhead=DyHead, without=("blocks",))
def quickstart(
    classes: int,
    image_size: int = 160,
    dyhead_blocks: int = 1,
    dyhead: Mapping[str, Any] | None = None,
    tower_convs: int = 1,
    object_scale: float = 0.5,
    sampling_radius: float = 1.5,
) -> FCOS:
    """Build the detector that the book opens with (under 2 M parameters, trained from scratch).

    Args:
        classes: number of classes; labels are 0..classes-1.
        image_size: images are resized so that their shorter side has this many pixels.
        dyhead_blocks: blocks of the released Dynamic Head on P3-P6; 0 leaves it out.
        dyhead: further arguments of :class:`~dyhead_lab.attention.DyHead`.
        tower_convs: shared-width convolutions in front of each predictor (FCOS has 4; the Dynamic Head
            does most of their work).
        object_scale: a level finds objects whose farthest side is 4 to 8 times its stride times this number.
        sampling_radius: places this close to the centre of an object, in strides, learn to find it.

    Returns:
        a detector of the form that CONTRIBUTING.md describes.

    Source: FCOS (Tian et al., 2019) as in torchvision; Dynamic Head (Dai et al., 2021), released form.
    """
    channels = 64
    neck = DyHead(channels, blocks=dyhead_blocks, **(dyhead or {})) if dyhead_blocks else None
    pyramid = PyramidBackbone(NarrowResNet(finest=3), channels, neck, top=LastLevelMaxPool())
    # torchvision assigns a box to the level where 4a <= its farthest side < 8a, a the anchor size, and measures the
    # sampling radius in a. Half the stride spreads objects of 8 to 150 pixels over all four levels.
    sizes = tuple((object_scale * stride,) for stride in STRIDES)
    anchors = ExactAnchors(sizes, ((1.0,),) * 4)  # type: ignore[arg-type]
    return FCOS(
        pyramid,
        classes=classes,
        num_classes=classes,
        anchor_generator=anchors,
        head=in_float32(FCOSHead(channels, 1, classes, num_convs=tower_convs)),
        center_sampling_radius=sampling_radius / object_scale,
        min_size=image_size,
        max_size=2 * image_size,
        score_thresh=0.05,
        detections_per_img=100,
    )
