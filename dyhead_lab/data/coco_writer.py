"""Write data sets of other formats as COCO files: ``annotations.json`` beside ``images/``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from ..errors import UserError

#: Of files that are taken for images.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class NewObject(NamedTuple):
    """One object of a picture.

    Attributes:
        category: its id.
        bbox: [x, y, width, height] in pixels.
        crowd: whether evaluation shall ignore it.
        polygons: its outline, if there is one, as lists x1, y1, x2, y2, ... in pixels.
    """

    category: int
    bbox: list[float]
    crowd: bool = False
    polygons: list[list[float]] | None = None


class NewImage(NamedTuple):
    """One picture of a split.

    Attributes:
        source: the file.
        name: what it shall be called below ``images/``.
        width, height: in pixels, as its objects refer to them.
        objects: on it.
        turned: whether its EXIF orientation is applied to a copy; else the file is taken as it is.
    """

    source: Path
    name: str
    width: int
    height: int
    objects: list[NewObject]
    turned: bool = False


@dataclass
class WrittenSplit:
    """What one split became: counts, and a line for each object that was dropped."""

    images: int = 0
    objects: int = 0
    dropped: list[str] = field(default_factory=list)


def write_split(
    folder: Path, description: str, categories: Mapping[int, str], pictures: Iterable[NewImage]
) -> WrittenSplit:
    """Write one split: ``folder/annotations.json`` and ``folder/images/``.

    Images are hard links where the file system allows it, copies elsewhere.

    Args:
        folder: where; files of an earlier conversion are replaced.
        description: kept in the file.
        categories: id -> name.
        pictures: images in the order of their ids, which begin with 1.

    Raises:
        UserError: an image would replace itself.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, start=1):
        store_image(picture.source, folder / "images" / picture.name, picture.turned)
        images.append({"id": image_id, "file_name": picture.name, "width": picture.width, "height": picture.height})
        for item in picture.objects:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": item.category,
                "bbox": item.bbox,
                "area": item.bbox[2] * item.bbox[3],
                "iscrowd": int(item.crowd),
            }
            annotations.append(annotation | ({"segmentation": item.polygons} if item.polygons else {}))
    dataset = {
        "info": {"description": description},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in categories.items()],
    }
    (folder / "annotations.json").write_text(json.dumps(dataset), encoding="utf-8")
    return WrittenSplit(len(images), len(annotations))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the stored pixels of an image file.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise UserError(f"cannot read image {path}: {error}") from error


def store_image(source: Path, target: Path, turned: bool = False) -> None:
    """Put an image into its place: as a hard link where the file system allows it, else as a copy.

    Args:
        source: the file.
        target: its place; what is there is replaced.
        turned: make a copy to which the EXIF orientation is applied.

    Raises:
        UserError: its place is that of the file itself.
    """
    if target.resolve() == source.resolve():
        raise UserError(f"{target} would replace itself: write to another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if turned:
        with Image.open(source) as image:
            ImageOps.exif_transpose(image).save(target, format=image.format, quality=95)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
