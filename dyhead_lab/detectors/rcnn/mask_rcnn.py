"""Mask R-CNN: Faster R-CNN with a mask for each of its boxes."""

from __future__ import annotations

from typing import Any

import torchvision.models.detection as tv

from ..arguments import hands_on
from ..precision import in_precision_of_weights
from ..torchvision_form import TorchvisionForm
from .faster_rcnn import RoIAlign, two_stages

MASK_SIZE = 14  # cells of a region that is pooled for its mask
MASK_CONVS = 4


class MaskRCNN(TorchvisionForm, tv.MaskRCNN):
    """torchvision's Mask R-CNN in the form that CONTRIBUTING.md describes.

    Targets also carry ``masks`` (n, H, W) of 0 and 1, results ``masks`` (n, 1, H, W) in [0, 1].
    """

    first_label = 1
    needs_masks = True


@hands_on(two_stages)
def mask_rcnn(
    classes: int, backbone: str = "resnet50", dyhead_blocks: int = 6, object_scale: float = 1.0, **options: Any
) -> MaskRCNN:
    """Build Mask R-CNN; the arguments are those of :func:`.faster_rcnn`. Source: He et al., ICCV 2017."""
    features, parts = two_stages(classes, backbone, dyhead_blocks, object_scale=object_scale, **options)
    channels = features.out_channels
    masks = {
        "mask_roi_pool": RoIAlign(MASK_SIZE, object_scale),
        "mask_head": in_precision_of_weights(tv.mask_rcnn.MaskRCNNHeads(channels, (channels,) * MASK_CONVS, 1)),
        "mask_predictor": tv.mask_rcnn.MaskRCNNPredictor(channels, channels, classes + 1),
    }
    return MaskRCNN(features, classes=classes, **masks | parts)
