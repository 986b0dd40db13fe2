"""The paper's block with spatial-aware before scale-aware attention: the order in which the released code has them.

The released block differs from the paper's in more than order: see :mod:`dyhead_lab.attention.paper`. Here only the
order changes. A gate that comes after the sum over levels weighs a level that has already heard of the others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..attention import DyHead, PaperDyHeadBlock
from ..detectors.one_stage.atss import ATSS
from ..detectors.one_stage.frozen_atss import CHANNELS, FrozenPyramid
from ..detectors.one_stage.quickstart import STRIDES

LEVELS = len(STRIDES)


class SpatialFirst(PaperDyHeadBlock):
    """pi_C(pi_L(F + pi_S(F))): the parts of :class:`.PaperDyHeadBlock`, all on, in another order.

    Shapes: F (B, L, S, C), S = H * W -> the same.
    """

    def forward(self, F_BLSC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return self.task(self.scale(F_BLSC + self.spatial(F_BLSC, size)))  # type: ignore[misc]


def spatial_first_atss(classes: int, object_scale: float = 0.5, **options: Any) -> ATSS:
    """:func:`.frozen_atss` with one :class:`SpatialFirst` and no towers.

    Args:
        classes: number of classes; labels are 0..classes-1.
        object_scale: as in :func:`.frozen_atss`.
        options: further arguments of :class:`.ATSS`.
    """
    neck = DyHead(CHANNELS, 1, form="paper", num_levels=LEVELS)
    neck.blocks = nn.ModuleList([SpatialFirst(CHANNELS, LEVELS)])
    return ATSS(FrozenPyramid(neck), classes, strides=STRIDES, tower_convs=0, object_scale=object_scale, **options)
