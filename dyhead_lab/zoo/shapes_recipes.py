"""Recipes for Shapes, small enough for two processor cores.

``QUICKSTART`` trains from nothing to a detector with a Dynamic Head in minutes, ``FROZEN_ATSS`` only what stands on a
frozen backbone and pyramid, in a minute. ``SHAPES_RECIPES`` holds every convolutional detector, all with one budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..detectors.one_stage.atss import atss
from ..detectors.one_stage.borderdet import borderdet
from ..detectors.one_stage.fcos import fcos
from ..detectors.one_stage.frozen_atss import frozen_atss
from ..detectors.one_stage.quickstart import quickstart
from ..detectors.one_stage.reppoints import reppoints
from ..detectors.one_stage.retinanet import retinanet
from ..detectors.rcnn.cascade_rcnn import cascade_rcnn
from ..detectors.rcnn.faster_rcnn import faster_rcnn
from ..detectors.rcnn.mask_rcnn import mask_rcnn
from ..training.recipe import Recipe
from .datasets import shapes

QUICKSTART = Recipe(
    name="quickstart",
    summary="torchvision's FCOS on a narrow ResNet, with one released Dynamic Head block, on Shapes",
    detector=quickstart,
    dataset=shapes,
    augmentation="flip_both",
    model={"image_size": 160, "dyhead_blocks": 1, "dyhead": {"offset_fit": "centres"}, "tower_convs": 1},
    iterations=3100,
    batch_size=8,
    lr=2e-3,
    warmup=200,
    evaluate_every=3100,
    source="our own: small enough for two CPU cores",
    expected="AP 0.419 on Shapes val; 9 minutes on 2 cores of an AMD EPYC, 1.2 GB of memory",
)

FROZEN_ATSS = Recipe(
    name="frozen_atss_shapes",
    summary="ATSS with one Dynamic Head block on a frozen pyramid that has learned Shapes: only the head learns",
    detector=frozen_atss,
    dataset=shapes,
    augmentation="flip_both",
    model={"dyhead_blocks": 1, "dyhead": {"offset_fit": "centres"}, "min_size": 160, "max_size": 320},
    iterations=450,
    batch_size=8,
    lr=2e-3,
    warmup=50,
    evaluate_every=450,
    source="our own: the paper's ablation of ATSS, as small as it can be",
    expected="AP 0.28 on Shapes val after 55 seconds on one core of an AMD EPYC, 1.2 GB of memory; measured with "
    'offset_fit "resize"',
)

#: Backbone, pyramid and Dynamic Head of :data:`SHAPES_RECIPES`. Objects have 8 to 150 pixels: half of what the
#: published anchors are made for.
SHARED: dict[str, Any] = {
    "backbone": "narrow",
    "channels": 64,
    "body": {"pretrained": True},
    "dyhead_blocks": 1,
    "dyhead": {"offset_fit": "centres"},
    "object_scale": 0.5,
    "min_size": 160,
    "max_size": 320,
}
#: One-stage detectors put the Dynamic Head in the place of their towers.
ONE_STAGE: dict[str, Any] = {**SHARED, "tower_convs": 0}
#: Two-stage detectors classify fewer and narrower regions than on COCO: pooling them is most of what a step costs.
CASCADE: dict[str, Any] = {
    **SHARED,
    "box_head_width": 256,
    "rpn_pre_nms_top_n_train": 300,
    "rpn_post_nms_top_n_train": 64,
    "rpn_pre_nms_top_n_test": 300,
    "rpn_post_nms_top_n_test": 64,
}
#: Those with one box head sample from these regions; a cascade trains on all of them.
TWO_STAGE: dict[str, Any] = {**CASCADE, "box_batch_size_per_image": 32}


def _recipe(
    detector: Callable[..., nn.Module], model: dict[str, Any], title: str, expected: str, **other: Any
) -> Recipe:
    return Recipe(
        name=f"{detector.__name__}_shapes",
        summary=f"{title} with one Dynamic Head block on a narrow backbone that has learned Shapes",
        detector=detector,
        dataset=shapes,
        augmentation="flip_both",
        model=model,
        iterations=900,
        batch_size=8,
        lr=2e-3,
        warmup=100,
        evaluate_every=900,
        source="our own budget, the same for every detector; each detector's file names its paper",
        expected=expected,
        **other,
    )


def _long(ap: float, time: str) -> str:
    """What experiment ``detectors`` measured."""
    return (
        f"AP {ap:.3f} on Shapes val after 2,400 iterations in float32 (`dyhead-lab experiment detectors`, one seed), "
        f"{time} on one core of an Intel Xeon beside other work, memory not counted; the 900 of this recipe were not "
        "measured"
    )


def _short(ap: float, minutes: float) -> str:
    """What was measured for 600 steps of the detectors that the experiment leaves out."""
    return (
        f"AP {ap:.3f} on Shapes val after 600 of the 900 steps, {minutes:.0f} minutes on one core of an AMD EPYC "
        'without a GPU, up to 1.7 GB of memory, with offset_fit "resize"; all 900 were not measured'
    )


SHAPES_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recipe(retinanet, ONE_STAGE, "RetinaNet", _long(0.461, "24 minutes")),
        _recipe(fcos, ONE_STAGE, "FCOS", _long(0.445, "9 minutes")),
        _recipe(faster_rcnn, TWO_STAGE, "Faster R-CNN", _long(0.555, "time not kept,")),
        _recipe(mask_rcnn, TWO_STAGE, "Mask R-CNN", _short(0.328, 7.3), masks=True),
        _recipe(cascade_rcnn, CASCADE, "Cascade R-CNN", _short(0.424, 9.9)),
        _recipe(atss, ONE_STAGE, "ATSS", _long(0.478, "13 minutes")),
        _recipe(reppoints, ONE_STAGE, "RepPoints", _short(0.071, 3.3)),
        _recipe(borderdet, ONE_STAGE, "BorderDet", _short(0.246, 5.8)),
    )
}
