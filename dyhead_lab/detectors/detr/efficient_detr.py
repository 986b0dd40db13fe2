"""Efficient DETR: queries that start as the encoder's best tokens.

Two-stage Deformable DETR starts each query from the position of a proposed box alone. Efficient DETR also takes the
features of the token that proposed the box, and ranks the tokens by their best class instead of by objectness. The two
differ in :meth:`.DeformableTransformer.proposed_queries` and nowhere else, so the class is :class:`.DeformableDETR`.

Source: Yao et al., "Efficient DETR: Improving End-to-End Object Detector with Dense Prior", 2021, as in
kakaobrain/sparse-detr, whose dense baseline it is.
"""

from __future__ import annotations

from typing import Any

from ..arguments import hands_on
from .configured import deformable_detr
from .deformable_detr import DeformableDETR

#: What makes a Deformable DETR an Efficient DETR: fields of :class:`.DeformableDETRConfig`.
EFFICIENT = {"refine": True, "two_stage": True, "efficient_queries": True}


@hands_on(deformable_detr)
def efficient_detr(classes: int, backbone: str = "resnet50", **options: Any) -> DeformableDETR:
    """An Efficient DETR.

    Args:
        classes, backbone: as in :func:`.deformable_detr`.
        options: further arguments of :func:`.deformable_detr`.

    Raises:
        ValueError: as :func:`.deformable_detr`.
    """
    return deformable_detr(classes, backbone, **{**EFFICIENT, **options})
