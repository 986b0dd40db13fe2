"""Images and boxes of COCO's sizes with nothing in them: for measuring speed where COCO is not at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .dataset import DetectionData

CLASSES = 80
OBJECTS = 7  # an image of COCO has 7.3 on average
QUALITY = 90  # JPEG
INFO = {"description": "synthetic images that stand for COCO"}  # how the files are told from others


def write_synthetic_coco(folder: Path, images: int, seed: int = 0, height: int = 480, width: int = 640) -> None:
    """Write a split: ``annotations.json`` beside ``images/``, JPEG files of about 100 kB, as COCO's are.

    Objects are rectangles: their polygons are their boxes.

    Args:
        folder: to write.
        images: how many.
        seed: another seed draws others.
        height, width: in pixels; COCO's images are mostly 480 x 640.
    """
    generator = torch.Generator().manual_seed(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for id in range(1, images + 1):
        name = f"{id:06}.jpg"
        Image.fromarray(_clouds(height, width, generator)).save(folder / "images" / name, quality=QUALITY)
        records.append({"id": id, "file_name": name, "width": width, "height": height})
        for box, label in zip(*synthetic_objects(height, width, CLASSES, generator), strict=True):
            x1, y1, x2, y2 = box.tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": id,
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": id, "name": f"class {id}"} for id in range(1, CLASSES + 1)]
    content = {"info": INFO, "images": records, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def stands_for_coco(dataset: DetectionData) -> bool:
    """Whether :func:`write_synthetic_coco` wrote it: few images, to be treated as COCO's many would be."""
    return dataset.coco.dataset.get("info") == INFO


def synthetic_objects(
    height: int, width: int, classes: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (7, 4) xyxy in pixels, from a twentieth to half of each side, and labels (7,) below ``classes``."""
    size = torch.tensor([width, height], dtype=torch.float32)
    extent = size * (0.05 + 0.45 * torch.rand(OBJECTS, 2, generator=generator))
    corner = (size - extent) * torch.rand(OBJECTS, 2, generator=generator)
    labels = torch.randint(classes, (OBJECTS,), generator=generator)
    return torch.cat([corner, corner + extent], 1), labels


def rectangle_masks(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks (n, height, width) uint8 of boxes (n, 4) xyxy: 1 on every pixel whose centre lies in the box."""
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    return ((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)).byte()


def _clouds(height: int, width: int, generator: torch.Generator) -> np.ndarray:
    """Coloured clouds with grain, (height, width, 3) uint8: they compress about as well as a photograph."""
    coarse = torch.rand(1, 3, 12, 16, generator=generator)
    clouds = F.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    grain = 0.06 * torch.randn(1, height, width, generator=generator)
    return ((clouds + grain).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
