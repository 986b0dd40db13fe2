"""Mend one annotation of a COCO file, or say why it is of no use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .coco_values import is_box, is_number, whole_number

#: Boxes may leave the image by this many pixels: COCO rounds to 0.01, and some tools to whole pixels.
TOLERANCE = 1.0

#: Thinner boxes are taken for empty: COCO's coordinates resolve no more, and float32 might make them so.
THINNEST = 0.01

Fault = tuple[str, Any, str]  # what is wrong, the value at fault, what was done


class Mended(NamedTuple):
    """What became of an annotation."""

    record: dict[str, Any] | None  #: as it may be used, with the ``id`` that it had; None if it is dropped
    faults: list[Fault]  #: at most one of them says "dropped"
    box: list[float] | None  #: [x, y, width, height] as the file has it, where it is one of a known image
    size: tuple[int, int] | None  #: (width, height) of that image


def mend(record: Any, images: Mapping[int, dict[str, Any]], categories: Mapping[int, dict[str, Any]]) -> Mended:
    """Mend what can be mended of an annotation. It is not changed itself; a sound one is given back as it is.

    Args:
        record: as the file has it.
        images, categories: by their ids.
    """
    if not isinstance(record, dict):
        return Mended(None, [("no fields", record, "dropped")], None, None)
    faults: list[Fault] = []
    changes: dict[str, Any] = {}
    ids: dict[str, int] = {}
    for key, table in (("image_id", images), ("category_id", categories)):
        value = record.get(key)
        number = value if type(value) is int else whole_number(value)
        if number is None or number not in table:
            return Mended(None, [*faults, (f"unknown {key}", value, "dropped")], None, None)
        ids[key] = number
        if number is not value:
            changes[key] = number
            faults.append((f"no whole number as {key}", value, "read as one"))
    box = record.get("bbox")
    if not is_box(box):
        return Mended(None, [*faults, ("a bbox that is not four numbers", box, "dropped")], None, None)
    x, y, w, h = box
    image = images[ids["image_id"]]
    size = width, height = image["width"], image["height"]
    if w < THINNEST or h < THINNEST:
        return Mended(None, [*faults, ("a box of zero or negative size", box, "dropped")], box, size)
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x2 - x1 < THINNEST or y2 - y1 < THINNEST:
        return Mended(None, [*faults, ("a box outside its image", box, "dropped")], box, size)

    area, crowd = record.get("area"), record.get("iscrowd")
    clipped = max(x1 - x, y1 - y, x + w - x2, y + h - y2) > TOLERANCE
    if clipped:
        w, h = x2 - x1, y2 - y1
        changes["bbox"] = [x1, y1, w, h]
        faults.append(("a box beyond its image", box, "clipped"))
    if not is_number(area) or area < 0:
        changes["area"] = w * h
        faults.append(("no usable area", area, "width times height taken"))
    elif clipped:
        changes["area"] = min(area, w * h)
    if type(crowd) is not int or crowd not in (0, 1):
        flag = int(crowd) if isinstance(crowd, bool) else whole_number(crowd)
        changes["iscrowd"] = flag if flag in (0, 1) else 0
        if flag not in (0, 1):
            faults.append(("no usable iscrowd", crowd, "taken as 0"))
    return Mended({**record, **changes} if changes else record, faults, box, size)


def usable_id(record: Any) -> int | None:
    """The id of an annotation, if it can stay: a whole number above 0."""
    number = whole_number(record.get("id")) if isinstance(record, dict) else None
    return number if number is not None and number > 0 else None
