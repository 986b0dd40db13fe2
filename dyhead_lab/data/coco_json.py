"""Load a COCO annotation file, mend what can be mended, and say what was done.

A fault in the structure of the file (a missing list, an image without a size) raises. A fault in one
annotation is mended or the annotation is dropped; either way it is listed as a :class:`Problem`.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from pycocotools.coco import COCO

from ..errors import UserError

#: Boxes may leave the image by this many pixels: COCO rounds to 0.01, and some tools to whole pixels.
TOLERANCE = 1.0

#: Thinner boxes are taken for empty: COCO's coordinates resolve no more, and float32 might make them so.
THINNEST = 0.01

#: What each record of a list must have, and of which type.
_REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": int, "file_name": str, "height": int, "width": int},
    "categories": {"id": int, "name": str},
    "annotations": {},
}


class Problem(NamedTuple):
    """One fault of one annotation."""

    annotation: Any  #: its id as the file has it; None if it has none
    position: int  #: its place in the file's list of annotations, from 0
    what: str  #: the kind of fault
    value: Any  #: the value at fault
    done: str  #: "dropped", or how it was mended

    def __str__(self) -> str:
        name = self.annotation if self.annotation is not None else f"without id at position {self.position}"
        return f"annotation {name}: {self.what} ({self.value!r}): {self.done}"


def load_coco_json(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Problem]]:
    """Read an annotation file and mend it.

    Dropped: annotations of an unknown image or category, and boxes that are not four finite numbers, whose
    width or height is below :data:`THINNEST`, or that lie outside their image.

    Mended: a box that leaves its image by more than :data:`TOLERANCE` is clipped; a missing ``area`` becomes
    width times height; a missing ``iscrowd`` becomes 0; an id that is missing, not a positive whole number or
    taken is replaced by a new one (pycocotools takes a match with annotation 0 for no match).

    Returns:
        The file's contents with mended ``annotations``, and the problems in the order of the file.

    Raises:
        UserError: the file is missing, no JSON, or lacks what a COCO file must have.
    """
    path = Path(path)
    dataset = _read(path)
    images, categories = _by_id(path, dataset, "images"), _by_id(path, dataset, "categories")
    if len({category["name"] for category in categories.values()}) < len(categories):
        raise UserError(f"{path}: two categories have the same name")
    new_ids = count(1 + max((_usable_id(record) or 0 for record in dataset["annotations"]), default=0))
    seen: set[int] = set()
    annotations, problems = [], []
    for position, record in enumerate(dataset["annotations"]):
        mended, faults = _mend(record, images, categories)
        id_given = record.get("id") if isinstance(record, dict) else None
        if mended is not None:
            if _usable_id(mended) is None or mended["id"] in seen:
                mended["id"] = next(new_ids)
                faults.append(("no usable id of its own", id_given, "given a new one"))
            seen.add(mended["id"])
            annotations.append(mended)
        problems += [Problem(id_given, position, *fault) for fault in faults]
    return {"info": {}, "licenses": [], **dataset, "annotations": annotations}, problems


def index_coco(dataset: Mapping[str, Any]) -> COCO:
    """pycocotools' index of a COCO dictionary, made without its prints."""
    coco = COCO()
    coco.dataset = dict(dataset)
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def summarise(problems: Iterable[Problem], show: int = 5) -> str:
    """One line for each kind of problem: how many, which annotations, what was done."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.what, problem.done), []).append(problem)
    lines = []
    for (what, done), group in kinds.items():
        names = [f"at position {p.position}" if p.annotation is None else str(p.annotation) for p in group]
        listed = ", ".join(names[:show] + ["..."] * (len(names) > show))
        lines.append(f"{len(group)} annotation(s) with {what}: {done} (id {listed})")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        dataset = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"annotation file not found: {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read annotation file {path}: {error}") from error
    if not isinstance(dataset, dict):
        raise UserError(f"{path} is no COCO file: expected an object with images, annotations, categories")
    for key in _REQUIRED:
        if not isinstance(dataset.get(key), list):
            raise UserError(f"{path} is no COCO file: it has no list {key!r}")
    return dataset


def _by_id(path: Path, dataset: dict[str, Any], key: str) -> dict[int, dict[str, Any]]:
    """The records of one list under their ids; refuses what is incomplete or double."""
    table: dict[int, dict[str, Any]] = {}
    for position, record in enumerate(dataset[key]):
        for field, kind in _REQUIRED[key].items():
            if not isinstance(record, dict) or not isinstance(record.get(field), kind):
                raise UserError(f"{path}: {key}[{position}] has no usable {field!r}: {record!r:.200}")
        if record["id"] in table:
            raise UserError(f"{path}: two records of {key} have id {record['id']}")
        table[record["id"]] = record
    return table


def _usable_id(record: Any) -> int | None:
    value = record.get("id") if isinstance(record, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _mend(
    record: Any, images: Mapping[int, dict[str, Any]], categories: Mapping[int, dict[str, Any]]
) -> tuple[dict[str, Any] | None, list[tuple[str, Any, str]]]:
    """The mended annotation, or None if it is dropped, and its faults as (what, value, done)."""
    if not isinstance(record, dict):
        return None, [("no fields", record, "dropped")]
    for key, table in (("image_id", images), ("category_id", categories)):
        value = record.get(key)
        if not isinstance(value, int) or value not in table:
            return None, [(f"unknown {key}", value, "dropped")]
    box = record.get("bbox")
    if not _is_box(box):
        return None, [("a bbox that is not four numbers", box, "dropped")]
    x, y, w, h = box
    if min(w, h) < THINNEST:
        return None, [("a box of zero or negative size", box, "dropped")]
    image = images[record["image_id"]]
    x1, y1 = max(x, 0), max(y, 0)
    x2, y2 = min(x + w, image["width"]), min(y + h, image["height"])
    if min(x2 - x1, y2 - y1) < THINNEST:
        return None, [("a box outside its image", box, "dropped")]

    mended = {**record, "bbox": list(box)}
    faults: list[tuple[str, Any, str]] = []
    if max(x1 - x, y1 - y, x + w - x2, y + h - y2) > TOLERANCE:
        mended["bbox"] = [x1, y1, x2 - x1, y2 - y1]
        faults.append(("a box beyond its image", box, "clipped"))
    area, largest = record.get("area"), mended["bbox"][2] * mended["bbox"][3]
    if not _is_number(area) or area < 0:
        mended["area"] = largest
        faults.append(("no usable area", area, "width times height taken"))
    elif faults:  # of a clipped box
        mended["area"] = min(area, largest)
    if record.get("iscrowd") not in (0, 1):
        mended["iscrowd"] = 0
        faults.append(("no usable iscrowd", record.get("iscrowd"), "taken as 0"))
    return mended, faults


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
