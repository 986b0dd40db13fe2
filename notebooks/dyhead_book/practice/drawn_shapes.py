"""A few pictures of Shapes as a data set in memory: what a chapter trains on and measures AP on, without a file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from dyhead_lab.data.dataset import DetectionSet
from dyhead_lab.data.shapes import CLASSES, draw_set
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

#: The seed of pictures that no shipped detector has learned from: the training set has seed 1, the validation set 2.
UNSEEN = 2026


class DrawnShapes(DetectionSet):
    """Pictures of Shapes, drawn once and kept in memory (77 kB each at 160 pixels).

    Args:
        images: how many.
        seed: they are a function of the seed and the size.
        size: side of the square pictures in pixels.
    """

    categories = CLASSES

    def __init__(self, images: int, seed: int = UNSEEN, size: int = 160):
        self._drawn = list(draw_set(images, seed, size))

    def __len__(self) -> int:
        return len(self._drawn)

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(self._drawn[index][0]).permute(2, 0, 1) / 255

    def objects(self, index: int) -> dict[str, Any]:
        objects = self._drawn[index][1]
        corners_sizes = torch.tensor([thing.box for thing in objects], dtype=torch.float32).reshape(-1, 4)
        return {
            "boxes": box_convert(corners_sizes, "xywh", "xyxy"),
            "labels": torch.tensor([thing.label for thing in objects], dtype=torch.int64),
        }


def shapes_ap(model: nn.Module, images: int = 60) -> float:
    """AP of a detector (IoU 0.50:0.95, COCO's metric) on pictures of Shapes that no shipped detector has seen."""
    data = _unseen(images)
    with torch.no_grad():
        return float(evaluate(data, detect_dataset(model, data))["AP"])


@lru_cache(maxsize=2)
def _unseen(images: int) -> DrawnShapes:
    return DrawnShapes(images)
