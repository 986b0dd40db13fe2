"""ATSS on a frozen backbone and pyramid that have learned Shapes: only what stands on them learns.

A head that is compared with others so learns in a minute, and all of them see the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ...attention import DyHead
from ..arguments import hands_on
from ..backbones.feature_pyramid import PyramidBackbone
from ..backbones.narrow_resnet import NarrowResNet, pretrained_part
from .atss import ATSS
from .dense_detector import tower_height
from .quickstart import STRIDES

CHANNELS = 64


class FrozenPyramid(PyramidBackbone):
    """The pyramid of a quickstart detector, with the weights that it has learned, under a neck that learns.

    Args:
        neck: as in :class:`~dyhead_lab.detectors.backbones.feature_pyramid.PyramidBackbone`.

    Raises:
        UserError: the shipped weights are missing or damaged.

    Shapes: images (B, 3, H, W) -> {"p3": (B, 64, H/8, W/8), ..., "p6": (B, 64, H/64, W/64)}, sizes rounded up.
    """

    def __init__(self, neck: nn.Module | None):
        super().__init__(NarrowResNet(finest=3), CHANNELS, neck, top=LastLevelMaxPool())
        for name, part in (("body", self.body), ("fpn", self.fpn)):
            part.load_state_dict(pretrained_part(name))
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenPyramid:
        """Only the neck follows: the body's batch norms keep the statistics that they have learned."""
        super().train(mode)
        self.body.eval()
        return self


@hands_on(ATSS, dyhead=DyHead, without=("strides", "blocks"))
def frozen_atss(
    classes: int,
    dyhead_blocks: int = 1,
    dyhead: Mapping[str, Any] | None = None,
    tower_convs: int | None = None,
    object_scale: float = 0.5,
    **options: Any,
) -> ATSS:
    """Build ATSS on a :class:`FrozenPyramid`.

    Args:
        classes: number of classes; labels are 0..classes-1.
        dyhead_blocks: blocks of the released Dynamic Head; 0 leaves it out.
        dyhead: further arguments of :class:`~dyhead_lab.attention.DyHead`.
        tower_convs: convolutions in each tower; by default 0 with a Dynamic Head and 4 without.
        object_scale: side of the anchors relative to the published 8 cells.
        options: further arguments of :class:`~dyhead_lab.detectors.one_stage.atss.ATSS`, such as ``min_size``.
    """
    neck = DyHead(CHANNELS, dyhead_blocks, **(dyhead or {})) if dyhead_blocks else None
    height = tower_height(tower_convs, dyhead_blocks)
    return ATSS(FrozenPyramid(neck), classes, strides=STRIDES, tower_convs=height, object_scale=object_scale, **options)
