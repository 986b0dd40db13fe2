"""Pascal VOC data sets, converted to COCO format.

VOC counts pixels from 1 and names the first and the last pixel of a box, see the development kit,
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. COCO's coordinates are those of pixel
edges, counted from 0. So ``x = xmin - 1``, ``width = xmax - xmin + 1``, and the same for y.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .coco_writer import SUFFIXES, NewImage, NewObject, WrittenSplit, image_size, write_split
from .text_files import read_text_file

#: The splits that are converted. ``trainval`` is the union of two of them.
SPLITS = ("train", "val", "test")


class VocObject(NamedTuple):
    """One object as the xml file has it: pixels counted from 1, last pixel included."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool

    @property
    def bbox(self) -> list[float]:
        """COCO's [x, y, width, height]."""
        return [self.xmin - 1, self.ymin - 1, self.xmax - self.xmin + 1, self.ymax - self.ymin + 1]

    @property
    def has_area(self) -> bool:
        """False for a box from a pixel to itself: to the letter one pixel wide, but a slip of the hand."""
        return self.xmax > self.xmin and self.ymax > self.ymin


def convert_voc(voc: str | os.PathLike[str], out: str | os.PathLike[str]) -> dict[str, WrittenSplit]:
    """Write a VOC folder as COCO files: ``out/SPLIT/annotations.json`` and ``out/SPLIT/images/``.

    Images are hard links where the file system allows it, copies elsewhere. Categories are the names in
    alphabetical order, ids from 1, the same in every split. Boxes without area are dropped and named. A
    difficult object becomes a crowd annotation: VOC's rule is that evaluation ignores it.

    Args:
        voc: holds ``Annotations/*.xml``, ``JPEGImages/`` and ``ImageSets/Main/{train,val,test}.txt``; a split
            without a list is left out.
        out: where the splits go; files of an earlier conversion are replaced.

    Returns:
        What each split became, by name.

    Raises:
        UserError: a list, an xml file or an image is missing or broken; the message names it.
    """
    voc, out = Path(voc), Path(out)
    names = {split: _read_list(path) for split in SPLITS if (path := _list_path(voc, split)).is_file()}
    if not names:
        raise UserError(f"{voc} is no VOC folder: it has no ImageSets/Main/ with {', '.join(SPLITS)}.txt{_advice(voc)}")
    objects = {name: _read_objects(voc / "Annotations" / f"{name}.xml") for split in names.values() for name in split}
    classes = sorted({item.name for items in objects.values() for item in items})
    return {
        split: _write_split(voc, out / split, classes, {name: objects[name] for name in split_names})
        for split, split_names in names.items()
    }


def _advice(voc: Path) -> str:
    """Where the lists lie, for a folder that is one level too high, such as VOCdevkit."""
    below = [place for place in sorted(voc.glob("*/")) if any(_list_path(place, split).is_file() for split in SPLITS)]
    return f". Give {' or '.join(map(str, below))} instead" if below else ""


def _list_path(voc: Path, split: str) -> Path:
    return voc / "ImageSets" / "Main" / f"{split}.txt"


def _read_list(path: Path) -> list[str]:
    """Image names of a split: the first word of each line."""
    return [line.split()[0] for line in read_text_file(path).splitlines() if line.strip()]


def _read_objects(path: Path) -> list[VocObject]:
    try:
        return [
            VocObject(
                name=_text(item, "name"),
                **{corner: _number(item, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")},
                difficult=item.findtext("difficult", "0").strip() == "1",
            )
            for item in ElementTree.parse(path).iter("object")
        ]
    except FileNotFoundError:
        raise UserError(f"annotation not found: {path}") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"cannot read annotation {path}: {error}") from error


def _number(element: ElementTree.Element, path: str) -> float:
    value = float(_text(element, path))
    if not isfinite(value):
        raise ValueError(f"{path} is {value}")
    return value


def _text(element: ElementTree.Element, path: str) -> str:
    value = element.findtext(path)
    if value is None or not value.strip():
        raise ValueError(f"an object lacks {path}")
    return value.strip()


def _write_split(voc: Path, folder: Path, classes: list[str], objects: dict[str, list[VocObject]]) -> WrittenSplit:
    """Write one split; ``objects`` holds the objects of each image by its name."""
    dropped = [
        f"{name}: {item.name} box {item[1:5]} has no area"
        for name, items in objects.items()
        for item in items
        if not item.has_area
    ]
    categories = dict(enumerate(classes, start=1))
    pictures = (_picture(voc, name, items, classes) for name, items in objects.items())
    split = write_split(folder, f"{folder.name} split, converted from Pascal VOC format", categories, pictures)
    split.dropped = dropped
    return split


def _picture(voc: Path, name: str, items: list[VocObject], classes: list[str]) -> NewImage:
    """An image with its objects. The xml's own size of it is often 0 x 0 or wrong."""
    source = _find_image(voc / "JPEGImages", name)
    objects = [NewObject(classes.index(i.name) + 1, i.bbox, crowd=i.difficult) for i in items if i.has_area]
    return NewImage(source, source.name, *image_size(source), objects)


def _find_image(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        for path in (folder / f"{name}{suffix}", folder / f"{name}{suffix.upper()}"):
            if path.is_file():
                return path
    raise UserError(f"image not found: {folder / name}{SUFFIXES[0]} (nor {', nor '.join(SUFFIXES[1:])})")
