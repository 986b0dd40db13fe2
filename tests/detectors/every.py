"""Every detector there is, small, as the recipes for Shapes build it."""

from functools import cache

import torch

from dyhead_lab.zoo import get

CONVOLUTIONAL = (
    "quickstart",
    "frozen_atss_shapes",
    "retinanet_shapes",
    "fcos_shapes",
    "atss_shapes",
    "reppoints_shapes",
    "borderdet_shapes",
    "faster_rcnn_shapes",
    "mask_rcnn_shapes",
    "cascade_rcnn_shapes",
)
TRANSFORMERS = ("detr_tiny", "deformable_detr_tiny", "sparse_detr_tiny")
EVERY = CONVOLUTIONAL + TRANSFORMERS
CLASSES = 3


@cache
def detector(name):
    """One for all tests that do not train it."""
    torch.manual_seed(0)
    return get(name).build(CLASSES)


def target(boxes, labels, height, width):
    """A target with masks that fill the boxes' image."""
    masks = torch.ones(len(boxes), height, width, dtype=torch.uint8)
    return {"boxes": torch.tensor(boxes).view(-1, 4), "labels": torch.tensor(labels, dtype=torch.long), "masks": masks}
