"""Attention, one kind per file.

The bare names are the released form of the Dynamic Head; the names with ``Paper`` are the paper's equations.
"""

from .deformable import MultiScaleDeformableAttention
from .dyhead import DyHead, DyHeadBlock
from .joint import JointAttention
from .paper import PaperDyHeadBlock
from .scale import PaperScaleAwareAttention, ScaleAwareAttention, scale_ratio
from .spatial import OFFSET_FITS, PaperSpatialAwareAttention, SpatialAwareAttention
from .task import PaperTaskAwareAttention, TaskAwareAttention
from .undecoupled import undecoupled_attention, undecoupled_cost

__all__ = [
    "OFFSET_FITS",
    "DyHead",
    "DyHeadBlock",
    "JointAttention",
    "MultiScaleDeformableAttention",
    "PaperDyHeadBlock",
    "PaperScaleAwareAttention",
    "PaperSpatialAwareAttention",
    "PaperTaskAwareAttention",
    "ScaleAwareAttention",
    "SpatialAwareAttention",
    "TaskAwareAttention",
    "scale_ratio",
    "undecoupled_attention",
    "undecoupled_cost",
]
