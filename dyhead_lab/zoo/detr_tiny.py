"""DETR's family on Shapes, small enough for a processor core: a quarter of an hour, or an hour for DETR itself.

DETRs start from a backbone that has learned; these from one that has learned Shapes. That is the larger part of why
so short a training suffices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..detectors.detr.configured import deformable_detr, detr, sparse_detr
from ..detectors.detr.efficient_detr import efficient_detr
from ..training.recipe import Recipe
from .datasets import shapes

#: Backbone and transformer of all of them.
SHARED: dict[str, Any] = {
    "backbone": "narrow",
    "body": {"pretrained": True},
    "channels": 64,
    "heads": 4,
    "feedforward": 128,
    "dropout": 0.0,
    "encoder_layers": 2,
    "decoder_layers": 3,
}
#: The narrow backbone's three maps, 20 x 20, 10 x 10 and 5 x 5 cells of an image of 160 pixels, and no more.
PYRAMID: dict[str, Any] = {**SHARED, "levels": 3, "queries": 50}

#: DETR sees one map. With stride 16 an object of Shapes spans as many cells as one of COCO does in the published DETR.
DILATED: dict[str, Any] = {**SHARED, "body": {"pretrained": True, "dilation": True}, "queries": 50}

MACHINE = "minutes on one core of an AMD EPYC, in 1.2 GB of memory"


def _recipe(
    detector: Callable[..., nn.Module], summary: str, model: dict[str, Any], expected: str, **other: Any
) -> Recipe:
    return Recipe(
        name=f"{detector.__name__}_tiny",
        summary=f"{summary}, on a narrow backbone that has learned Shapes",
        detector=detector,
        dataset=shapes,
        augmentation="flip_both",
        model=model,
        batch_size=8,
        backbone_lr=0.3,
        offset_lr=0.1,
        weight_decay=0.01,
        warmup=50,
        clip_norm=0.5,
        precision="fp32",  # layers this narrow are not faster in bfloat16
        source="our own: small enough for two CPU cores",
        expected=expected,
        **{"iterations": 2400, "evaluate_every": 600, "lr": 2e-3, **other},
    )


DETR_TINY: tuple[Recipe, ...] = (
    _recipe(
        detr,
        "DETR on a map of 10 x 10 cells (DC5)",
        DILATED,
        "AP 0.223 on Shapes val after 70 minutes on one core of an Intel Xeon beside other work, in 0.9 GB of memory",
        iterations=24000,  # ten times those of the others, as published
        evaluate_every=2400,
        lr=1e-3,  # half the rate of the others, as published
    ),
    _recipe(
        deformable_detr,
        "Deformable DETR with iterative box refinement",
        {**PYRAMID, "refine": True},
        f"AP 0.357 on Shapes val after 10 {MACHINE}",
    ),
    _recipe(
        sparse_detr,
        "Sparse DETR, 30 % of the tokens refined",
        {**PYRAMID, "rho": 0.3, "selection": "dam"},
        f"AP 0.428 on Shapes val after 10 {MACHINE}",
    ),
)

#: The dense rival of Sparse DETR: its queries and its boxes, and every token refined. No weights of it are shipped.
EFFICIENT_TINY = _recipe(
    efficient_detr,
    "Deformable DETR with the queries of Efficient DETR",
    PYRAMID,
    "AP 0.443 on Shapes val after 19 minutes on one core of an Intel Xeon beside other work; memory not counted",
)
