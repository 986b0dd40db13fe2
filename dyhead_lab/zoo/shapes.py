"""Every convolutional detector on Shapes, small enough for two processor cores, all with one budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..detectors.atss import atss
from ..detectors.borderdet import borderdet
from ..detectors.cascade_rcnn import cascade_rcnn
from ..detectors.rcnn import faster_rcnn, mask_rcnn
from ..detectors.reppoints import reppoints
from ..detectors.retinanet import fcos, retinanet
from ..training.recipe import Recipe
from .datasets import shapes

#: Backbone, pyramid and Dynamic Head of all of them. Objects have 8 to 150 pixels: half of what the published anchors
#: are made for.
BELOW: dict[str, Any] = {
    "backbone": "narrow",
    "channels": 64,
    "body": {"pretrained": True},
    "dyhead_blocks": 1,
    "dyhead": {},
    "object_scale": 0.5,
    "min_size": 160,
    "max_size": 320,
}
#: One-stage detectors put the Dynamic Head in the place of their towers.
ONE_STAGE: dict[str, Any] = {**BELOW, "tower_convs": 0}
#: Two-stage detectors judge fewer and narrower regions than on COCO: pooling them is most of what a step costs.
TWO_STAGE: dict[str, Any] = {
    **BELOW,
    "box_head_width": 256,
    "box_batch_size_per_image": 32,
    "rpn_pre_nms_top_n_train": 300,
    "rpn_post_nms_top_n_train": 64,
    "rpn_pre_nms_top_n_test": 300,
    "rpn_post_nms_top_n_test": 64,
}


def _recipe(detector: Callable[..., nn.Module], model: dict[str, Any], title: str, **other: Any) -> Recipe:
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
        **other,
    )


SHAPES_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recipe(retinanet, ONE_STAGE, "RetinaNet"),
        _recipe(fcos, ONE_STAGE, "FCOS"),
        _recipe(faster_rcnn, TWO_STAGE, "Faster R-CNN"),
        _recipe(mask_rcnn, TWO_STAGE, "Mask R-CNN", masks=True),
        _recipe(cascade_rcnn, TWO_STAGE, "Cascade R-CNN"),
        _recipe(atss, ONE_STAGE, "ATSS"),
        _recipe(reppoints, ONE_STAGE, "RepPoints"),
        _recipe(borderdet, ONE_STAGE, "BorderDet"),
    )
}
