"""Small COCO data sets on disk, made by the tests that need them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def annotation(id: Any, bbox: Any, **fields: Any) -> dict[str, Any]:
    """A sound annotation of image 1 and category 3, but for what ``fields`` say; None removes a field."""
    record = {"id": id, "image_id": 1, "category_id": 3, "bbox": bbox, "iscrowd": 0, **fields}
    if "area" not in fields and isinstance(bbox, list) and len(bbox) == 4:
        record["area"] = bbox[2] * bbox[3]
    return {key: value for key, value in record.items() if value is not None}


def coco_dict(annotations: list[Any], images: int = 1) -> dict[str, Any]:
    """A COCO dictionary without ``info`` and ``licenses``; its images are 40 wide and 30 high."""
    records = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, images + 1)]
    return {"images": records, "annotations": annotations, "categories": CATEGORIES}


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_set(folder: Path, annotations: list[Any], images: int = 1) -> Path:
    """``annotations.json`` beside ``images/``, one flat picture an image."""
    write_json(folder / "annotations.json", coco_dict(annotations, images))
    write_pictures(folder / "images", images)
    return folder


def write_pictures(folder: Path, images: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, images + 1):
        Image.fromarray(np.full((30, 40, 3), 10 * i, np.uint8)).save(folder / f"{i}.png")
