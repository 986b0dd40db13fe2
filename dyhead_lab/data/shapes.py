"""Shapes: the built-in data set. Textured shapes over cluttered backgrounds, drawn from a seed, in COCO format.

It is small enough to learn on a laptop and hard enough to separate models: objects span 8 pixels to most of the
image, are rotated, overlap each other, and lie among stones and scratches that belong to no class. Boxes, areas and
segmentations describe the *visible* pixels, as in COCO, and are exact: they are computed from the painted masks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from ..errors import UserError
from .textures import background, texture

CLASSES = ("disc", "triangle", "square", "star", "cross", "moon")

SMALLEST = 8  # pixels, the longer side of the smallest object
LARGEST = 0.95  # of the image side
LEAST_VISIBLE = 0.45  # an object that would be hidden more than this is not placed
SUPERSAMPLING = 4  # edges are anti-aliased; a pixel belongs to the object if at least half of it is covered


@dataclass
class ShapeObject:
    """One object: its class, its visible pixels, and the share of its pixels that is visible."""

    label: int
    mask: np.ndarray  # (H, W) bool, visible pixels
    full_area: int  # pixels before anything was painted over it

    @property
    def visible(self) -> float:
        return float(self.mask.sum()) / self.full_area

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box of the visible pixels, x, y, width, height."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def outline(kind: str, points: int = 40) -> np.ndarray:
    """Vertices (n, 2) of a class's outline, inside the unit circle, y pointing down."""
    if kind == "disc":
        return _arc(0, 2 * np.pi, points)
    if kind == "triangle":
        return _arc(0, 2 * np.pi, 3)
    if kind == "square":
        return _arc(np.pi / 4, 9 * np.pi / 4, 4)
    if kind == "star":
        star = _arc(0, 2 * np.pi, 10)
        star[1::2] *= 0.42
        return star
    if kind == "cross":
        a, b = 0.94, 0.3
        corners = [
            (-b, -a),
            (b, -a),
            (b, -b),
            (a, -b),
            (a, b),
            (b, b),
            (b, a),
            (-b, a),
            (-b, b),
            (-a, b),
            (-a, -b),
            (-b, -b),
        ]
        return np.array(corners)
    if kind == "moon":  # the outer arc, and back along the same arc shifted inwards
        outer = _arc(0.35 * np.pi, 1.65 * np.pi, points)
        inner = outer[::-1] * (0.72, 0.86) + (0.2, 0)
        return np.concatenate([outer, inner])
    raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(CLASSES)}")


def _arc(start: float, stop: float, points: int) -> np.ndarray:
    angle = np.linspace(start, stop, points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _coverage(vertices: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel (H, W) that lies inside the polygon, in steps of 1 / SUPERSAMPLING^2."""
    fine = Image.new("L", (size * SUPERSAMPLING,) * 2)
    ImageDraw.Draw(fine).polygon([tuple(v) for v in (vertices * SUPERSAMPLING).tolist()], fill=255)
    return np.asarray(fine.reduce(SUPERSAMPLING), np.float32) / 255


def _candidate(rng: np.random.Generator, objects: list[ShapeObject], size: int) -> tuple[int, np.ndarray]:
    """Draw a class and a rotated outline (n, 2) in pixels; often it leans on an object already there."""
    label = int(rng.integers(len(CLASSES)))
    unit = outline(CLASSES[label]) * (1, rng.uniform(0.75, 1))
    angle = rng.uniform(0, 2 * np.pi)
    unit = unit @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if objects:
        # between log-uniform and uniform; log-uniform sizes would make two objects of three small ones
        extent = SMALLEST * (LARGEST * size / SMALLEST) ** (rng.random() ** 0.7)
    else:  # the first object is placed most freely; were it not larger, large objects would be rare
        extent = rng.uniform(LARGEST / 3, LARGEST) * size
    vertices = unit * extent / np.ptp(unit, 0).max()
    half = np.ptp(vertices, 0) / 2
    vertices -= vertices.min(0) + half
    if objects and rng.random() < 0.4:
        x, y, width, height = objects[int(rng.integers(len(objects)))].box
        direction = rng.uniform(0, 2 * np.pi)
        reach = np.array([width, height]) / 2 + 0.6 * half
        centre = (x + width / 2, y + height / 2) + reach * (np.cos(direction), np.sin(direction))
    else:
        centre = rng.uniform(0, size, 2)
    return label, vertices + np.clip(centre, half, size - half)


def draw_image(seed: int, index: int = 0, size: int = 160) -> tuple[np.ndarray, list[ShapeObject]]:
    """Draw one picture. The same (seed, index, size) always gives the same pixels.

    Returns:
        image (size, size, 3) uint8 and its objects, every one at least ``LEAST_VISIBLE`` visible.
    """
    rng = np.random.default_rng([seed, index, size])
    image = background(rng, size)
    objects: list[ShapeObject] = []
    wanted = int(rng.integers(2, 9))
    for _ in range(4 * wanted):
        if len(objects) == wanted:
            break
        label, vertices = _candidate(rng, objects, size)
        coverage = _coverage(vertices, size)
        mask = coverage >= 0.5
        hidden = any((o.mask & ~mask).sum() < LEAST_VISIBLE * o.full_area for o in objects)
        if hidden or mask.sum() < SMALLEST:
            continue
        for other in objects:
            other.mask = other.mask & ~mask
        objects.append(ShapeObject(label, mask, int(mask.sum())))
        paint = texture(rng, size)
        image += coverage[..., None] * (paint - image)
    image += 4 * rng.standard_normal(image.shape, np.float32)  # sensor noise
    return np.clip(image, 0, 255).astype(np.uint8), objects


def draw_set(images: int, seed: int, size: int) -> Iterator[tuple[np.ndarray, list[ShapeObject]]]:
    """Draw ``images`` pictures. Picture i does not depend on how many are drawn."""
    for index in range(images):
        yield draw_image(seed, index, size)


def write_shapes(out: Path | str, images: int, seed: int = 0, size: int = 160) -> Path:
    """Write a Shapes set as an ordinary COCO folder: ``out/images/*.jpg`` and ``out/annotations.json``.

    Args:
        out: folder to make; refused if it already holds annotations.
        images: number of pictures, at least 1.
        seed: the set is a function of (seed, size); use different seeds for training and validation.
        size: side of the square pictures in pixels, at least 32.

    Returns:
        the path of ``annotations.json``, which is written last: a folder that has it is complete.
    """
    if images < 1:
        raise UserError(f"images: got {images}, expected at least 1")
    if size < 32:
        raise UserError(f"size: got {size}, expected at least 32 pixels")
    out = Path(out)
    json_path = out / "annotations.json"
    if json_path.exists():
        raise UserError(f"{json_path} exists already; choose another --out or remove it")
    (out / "images").mkdir(parents=True, exist_ok=True)
    records: dict[str, list] = {"images": [], "annotations": []}
    for index, (picture, objects) in enumerate(draw_set(images, seed, size)):
        name = f"{index:06d}.jpg"
        Image.fromarray(picture).save(out / "images" / name, quality=92, subsampling=0)
        records["images"].append({"id": index + 1, "file_name": name, "width": size, "height": size})
        for item in objects:
            records["annotations"].append(_annotation(item, index + 1, len(records["annotations"]) + 1))
    categories = [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CLASSES)]
    info = {"description": f"Shapes, seed {seed}, {images} images of {size} px", "version": "1"}
    json_path.write_text(
        json.dumps({"info": info, "licenses": [], **records, "categories": categories}), encoding="utf-8"
    )
    return json_path


def _annotation(item: ShapeObject, image_id: int, annotation_id: int) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(item.mask.astype(np.uint8)))
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": item.label + 1,
        "bbox": list(item.box),
        "area": int(item.mask.sum()),
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
        "iscrowd": 0,
        "visible": round(item.visible, 4),
    }
