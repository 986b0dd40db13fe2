"""Load a COCO annotation file, mend what can be mended, and say what was done.

A fault in the structure of the file (a missing list, an image without a size) raises, and so does one that shows only
in the whole (see :mod:`.coco_checks`). A fault in one annotation is mended or the annotation is dropped; either way it
is listed as a :class:`~.coco_problems.Problem`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools.coco import COCO

from ..errors import UserError
from .coco_annotations import mend, usable_id
from .coco_checks import check_units, note_counting_from_0, refuse_if_all_are_crowds, refuse_if_most_are_dropped
from .coco_problems import Problem
from .coco_records import Record, categories_by_id, images_by_id

LISTS = ("images", "categories", "annotations")


class CocoFile(NamedTuple):
    """A COCO file as it may be used.

    Attributes:
        dataset: its contents with mended ``images``, ``categories`` and ``annotations``.
        problems: what was mended or dropped of single annotations, in the order of the file.
        notes: what was mended, or looks wrong, in images, categories or the whole; a line each.
    """

    dataset: dict[str, Any]
    problems: list[Problem]
    notes: list[str]


def load_coco_json(path: str | os.PathLike[str]) -> CocoFile:
    """Read an annotation file and mend it.

    Ids, sizes and crowd flags that can only mean a whole number, such as 7.0 or "7", are read as one.

    Dropped: annotations of an unknown image or category, and boxes that are not four finite numbers, whose
    width or height is below :data:`~.coco_annotations.THINNEST`, or that lie outside their image; images and
    categories that repeat another one word for word; Roboflow's root category, where no box has it.

    Mended: a box that leaves its image by more than :data:`~.coco_annotations.TOLERANCE` is clipped; a missing
    ``area`` becomes width times height; a missing ``iscrowd`` becomes 0; an id that is missing, not a positive whole
    number or taken is replaced by a new one (pycocotools takes a match with annotation 0 for no match).

    Raises:
        UserError: the file is missing, no JSON, or lacks what a COCO file must have; half of its annotations or more
            are of no use; all are crowds; or the boxes are no [x, y, width, height] in pixels.
    """
    path = Path(path)
    content = _read(path)
    images, image_notes = images_by_id(path, content["images"])
    categories, category_notes = categories_by_id(path, content["categories"], content["annotations"])
    annotations, problems, notes = _mend_annotations(path, content["annotations"], images, categories)
    lists = {"images": list(images.values()), "categories": list(categories.values()), "annotations": annotations}
    return CocoFile({"info": {}, "licenses": [], **content, **lists}, problems, image_notes + category_notes + notes)


def index_coco(dataset: Mapping[str, Any]) -> COCO:
    """pycocotools' index of a COCO dictionary, made without its prints."""
    coco = COCO()
    coco.dataset = dict(dataset)
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())  # of bytes it finds out which UTF it is, with or without a mark
    except FileNotFoundError:
        raise UserError(f"annotation file not found: {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read annotation file {path}: not encoded as UTF-8 or UTF-16 ({error})") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read annotation file {path}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no COCO file: expected an object with images, annotations, categories")
    for key in LISTS:
        if not isinstance(content.get(key), list):
            raise UserError(f"{path} is no COCO file: it has no list {key!r}")
    return content


def _mend_annotations(
    path: Path, records: list[Any], images: Mapping[int, Record], categories: Mapping[int, Record]
) -> tuple[list[Record], list[Problem], list[str]]:
    """The annotations that can be used, the problems of all, and notes about the whole.

    Raises:
        UserError: the whole is of no use.
    """
    new_ids = count(1 + max((usable_id(record) or 0 for record in records), default=0))
    seen: set[int] = set()
    annotations, problems, boxes, sizes = [], [], [], []
    for position, record in enumerate(records):
        mended, faults, box, size = mend(record, images, categories)
        id_given = record.get("id") if isinstance(record, dict) else None
        if mended is not None:
            own = usable_id(mended)
            if own is None or own in seen:
                own = next(new_ids)
                faults.append(("no usable id of its own", id_given, "given a new one"))
            seen.add(own)
            annotations.append(mended if own is id_given else {**mended, "id": own})
        if box is not None and size is not None:
            boxes.append(box)
            sizes.append(size)
        problems += [Problem(id_given, position, *fault) for fault in faults]
    notes = [] if records else ["no annotations: there is nothing to learn, and nothing to find"]
    notes += check_units(path, boxes, sizes)
    refuse_if_most_are_dropped(path, len(records), problems, images, categories)
    refuse_if_all_are_crowds(path, annotations)
    used = {annotation["category_id"] for annotation in annotations}
    return annotations, problems, notes + note_counting_from_0(problems, used, categories)
