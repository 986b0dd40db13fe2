"""YOLO data sets, converted to COCO format.

A text file beside each image, or in ``labels/`` where the image lies in ``images/``, holds an object a line: the number
of its class, from 0, then centre x, centre y, width and height, or the points of an outline; all as shares of the
image's sides. The names of the classes and the places of the splits stand in a yaml file. See
https://docs.ultralytics.com/datasets/detect/ (and ``/segment/`` for outlines).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .coco_values import whole_number
from .coco_writer import NewImage, NewObject, WrittenSplit, image_size, write_split
from .images import exif_orientation
from .segmentations import TRIANGLE
from .text_files import read_text_file
from .yolo_folder import YoloFolder, read_yolo_folder

#: Tools round: shares may leave [0, 1] by this much, and are clipped.
SLACK = 0.01

#: Of pixels, in the JSON file.
DECIMALS = 3


class _Line(NamedTuple):
    """A line of a label file, in shares of the image's sides."""

    label: int
    corners: tuple[float, float, float, float]  #: x1, y1, x2, y2
    outline: tuple[float, ...]  #: x1, y1, x2, y2, ...; empty where the line is a box


def convert_yolo(yolo: str | os.PathLike[str], out: str | os.PathLike[str]) -> dict[str, WrittenSplit]:
    """Write a YOLO folder as COCO files: ``out/SPLIT/annotations.json`` and ``out/SPLIT/images/``.

    Images are hard links where the file system allows it, copies elsewhere; those that EXIF turns become upright
    copies, because YOLO's labels refer to the upright image. Categories have the numbers of the classes plus 1. An
    image without label file has no objects. Boxes without area and lines that are there twice are dropped and named.

    Args:
        yolo: the folder, or the yaml file in it; see :func:`~.yolo_folder.read_yolo_folder`.
        out: where the splits go; one without a name goes to ``out`` itself. Files of an earlier conversion are
            replaced.

    Returns:
        What each split became, by name.

    Raises:
        UserError: the folder is no YOLO data set, a label file is broken, has shares outside [0, 1] or a class
            without a name, an image is broken, or a split has no label file at all; the message names it.
    """
    folder, out = read_yolo_folder(Path(yolo)), Path(out)
    if out.resolve() == folder.root.resolve():
        raise UserError(f"{out} holds the YOLO files: write to another folder")
    return {name: _write_split(folder, name, images, out / name) for name, images in folder.splits.items()}


def label_file(image: Path) -> Path:
    """Where the labels of an image lie: in ``labels/`` for the last ``images/`` of its path, or beside it."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    if "images" not in parts[:-1] or beside.is_file():
        return beside
    parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def _write_split(folder: YoloFolder, name: str, images: list[Path], out: Path) -> WrittenSplit:
    if not any(label_file(image).is_file() for image in images):
        where = f"looked for {label_file(images[0])} and the like"
        raise UserError(f"no label file for any of the {len(images)} images of {images[0].parent}; {where}")
    dropped: list[str] = []
    common = Path(os.path.commonpath([image.parent for image in images]))
    pictures = (_picture(image, image.relative_to(common).as_posix(), folder.names, dropped) for image in images)
    categories = {label + 1: text for label, text in folder.names.items()}
    split = write_split(out, f"{name or folder.root.name}, converted from YOLO format", categories, pictures)
    split.dropped = dropped
    return split


def _picture(image: Path, name: str, names: Mapping[int, str], dropped: list[str]) -> NewImage:
    """An image with its objects; what is dropped is added to ``dropped``."""
    orientation = exif_orientation(image)
    width, height = image_size(image)[:: -1 if orientation > 4 else 1]
    objects = []
    seen: set[_Line] = set()
    for place, line in _read_lines(label_file(image), names):
        x1, y1, x2, y2 = _in_pixels(line.corners, width, height)
        if x2 <= x1 or y2 <= y1:
            dropped.append(f"{place}: {names[line.label]} has no area")
        elif line in seen:
            dropped.append(f"{place}: {names[line.label]} is there twice")
        else:
            outline = _in_pixels(line.outline, width, height)
            bbox = [x1, y1, round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)]
            objects.append(NewObject(line.label + 1, bbox, polygons=[outline] if outline else None))
        seen.add(line)
    return NewImage(image, name, width, height, objects, turned=orientation != 1)


def _in_pixels(shares: Sequence[float], width: int, height: int) -> list[float]:
    """x1, y1, x2, y2, ... in pixels, inside the image."""
    return [round(min(max(s, 0), 1) * (height if place % 2 else width), DECIMALS) for place, s in enumerate(shares)]


def _read_lines(path: Path, names: Mapping[int, str]) -> Iterator[tuple[str, _Line]]:
    """(where it stands, the line) for each object of a label file; none where there is no file.

    Raises:
        UserError: a line is no object; the message names it.
    """
    if not path.is_file():
        return
    for number, line in enumerate(read_text_file(path).splitlines(), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, _parse(place, line.split(), names)


def _parse(place: str, words: list[str], names: Mapping[int, str]) -> _Line:
    label = whole_number(words[0])
    if label is None or label not in names:
        raise UserError(f"{place}: class {words[0]} has no name; those with names are {', '.join(map(str, names))}")
    try:
        shares = tuple(map(float, words[1:]))
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    if not (len(shares) == 4 or (len(shares) >= TRIANGLE and len(shares) % 2 == 0)):
        raise UserError(f"{place}: expected 4 numbers after the class, or the points of an outline, got {len(shares)}")
    if not all(-SLACK <= share <= 1 + SLACK for share in shares):
        raise UserError(f"{place}: expected shares of the image's sides in [0, 1], got {words[1:]}")
    if len(shares) == 4:
        x, y, w, h = shares
        return _Line(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), ())
    xs, ys = shares[0::2], shares[1::2]
    return _Line(label, (min(xs), min(ys), max(xs), max(ys)), shares)
