"""Every convolutional detector with one budget on Shapes, with and without a Dynamic Head."""

from __future__ import annotations

from typing import Any

from ..zoo.shapes_recipes import SHAPES_RECIPES
from .experiment import Experiment, Training

#: Title -> recipe, the cheapest first: who stops early has as many rows as possible.
DETECTORS = {
    "RetinaNet": "retinanet_shapes",
    "FCOS": "fcos_shapes",
    "ATSS": "atss_shapes",
    "RepPoints": "reppoints_shapes",
    "Faster R-CNN": "faster_rcnn_shapes",
    "BorderDet": "borderdet_shapes",
    "Mask R-CNN": "mask_rcnn_shapes",
    "Cascade R-CNN": "cascade_rcnn_shapes",
}
#: Steps of every row: enough to tell detectors apart, few enough for an evening on one core.
BUDGET: dict[str, Any] = {"iterations": 600, "warmup": 50, "evaluate_every": 600}


def changes(recipe: str, dyhead: bool) -> dict[str, Any]:
    """Settings of a row. Without a Dynamic Head a one-stage detector has its towers, one convolution high."""
    if dyhead:
        return BUDGET
    tower = {"model.tower_convs": 1} if "tower_convs" in SHAPES_RECIPES[recipe].model else {}
    return {**BUDGET, "model.dyhead_blocks": 0, **tower}


DETECTOR_TABLE = Experiment(
    name="detectors",
    summary="eight detectors on a narrow backbone that has learned Shapes: 600 steps of 8 images, the same for all",
    rows={
        title + suffix: Training(SHAPES_RECIPES[recipe], changes(recipe, dyhead))
        for suffix, dyhead in (("", True), (" plain", False))
        for title, recipe in DETECTORS.items()
    },
    baseline="RetinaNet",
    seeds=(0,),
)
