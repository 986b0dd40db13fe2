"""The images and categories of a COCO file, under ids and with sizes that are whole numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..paths import legible
from .coco_values import whole_number

Record = dict[str, Any]

#: What a record of a list must have: whole numbers, and text.
_WHOLE = {"images": ("id", "height", "width"), "categories": ("id",)}
_TEXT = {"images": "file_name", "categories": "name"}
_SIZES = ("height", "width")

#: No format of images holds longer sides, and they are counted in 32 bits.
LONGEST_SIDE = 2**31 - 1


def images_by_id(path: Path, records: Iterable[Any]) -> tuple[dict[int, Record], list[str]]:
    """The images of the file ``path`` under their ids, and notes about what was mended or looks wrong.

    Raises:
        UserError: a record is incomplete, or two different ones have the same id.
    """
    images, notes = _by_id(path, "images", records)
    ids_of: dict[str, list[int]] = defaultdict(list)
    for image in images.values():
        ids_of[image["file_name"]].append(image["id"])
    several = {name: ids for name, ids in ids_of.items() if len(ids) > 1}
    if several:
        name, ids = next(iter(several.items()))
        listed = ", ".join(map(str, ids[:5]))
        notes.append(
            f"{len(several)} file(s) are listed under several image ids, such as {name!r} (ids {listed}): each of "
            "them counts as an image of its own, with its own boxes only"
        )
    return images, notes


def categories_by_id(path: Path, records: Iterable[Any], annotations: list[Any]) -> tuple[dict[int, Record], list[str]]:
    """The categories of the file ``path`` under their ids, and notes about what was mended.

    Roboflow puts the name of the project first, as category 0 without supercategory, and makes it the supercategory
    of all others. No box has it, so it is left out.

    Args:
        path: for messages.
        records: the file's list of categories.
        annotations: its list of annotations, which say whether category 0 is used.

    Raises:
        UserError: a record is incomplete, or two different ones have the same id or name.
    """
    categories, notes = _by_id(path, "categories", records)
    if _has_root(categories) and not any(_has_category_0(annotation) for annotation in annotations):
        root = categories.pop(0)
        notes.append(f"category 0, {root['name']!r}, is the root of the others and no box has it: left out")
    by_name: dict[str, int] = {}
    for id, category in categories.items():
        other = by_name.setdefault(category["name"], id)
        if other != id:
            raise UserError(f"{path}: two categories have the same name, {category['name']!r} (ids {other} and {id})")
    return categories, notes


def _has_root(categories: Mapping[int, Record]) -> bool:
    """Whether category 0 has no supercategory and is that of all others."""
    others = [category for id, category in categories.items() if id != 0]
    if 0 not in categories or not others:
        return False
    root = categories[0]
    return root.get("supercategory") == "none" and all(c.get("supercategory") == root["name"] for c in others)


def _has_category_0(annotation: Any) -> bool:
    return isinstance(annotation, dict) and whole_number(annotation.get("category_id")) == 0


def _by_id(path: Path, key: str, records: Iterable[Any]) -> tuple[dict[int, Record], list[str]]:
    """The records of one list under their ids; of equal ones the first."""
    table: dict[int, Record] = {}
    converted: dict[str, Any] = {}  # field -> an example
    copies = 0
    for position, given in enumerate(records):
        record = _complete(path, key, position, given)
        for field in _WHOLE[key]:
            if type(given[field]) is not int:
                converted.setdefault(field, given[field])
        other = table.setdefault(record["id"], record)
        if other is not record:
            if other != record:
                raise UserError(f"{path}: two records of {key} have id {record['id']}")
            copies += 1
    notes = [f"{key}: {field} is no whole number, such as {value!r}: read as one" for field, value in converted.items()]
    if copies:
        notes.append(f"{key}: {copies} record(s) are listed twice, word for word: counted once")
    return table, notes


def _is_text(key: str, value: Any) -> bool:
    """Whether it is text that can be written: the name of a file may hold bytes that are none, that of a class not."""
    return isinstance(value, str) and (key == "images" or legible(value) == value)


def _complete(path: Path, key: str, position: int, record: Any) -> Record:
    """The record with whole numbers where they belong. It is not changed; the same object if it is sound.

    Raises:
        UserError: something is missing or has no such meaning.
    """
    fields = record if isinstance(record, dict) else {}
    for field in (*_WHOLE[key], _TEXT[key]):
        is_text = field == _TEXT[key]
        value = fields.get(field)
        number = whole_number(value)
        fits = number is not None and (field not in _SIZES or 0 < number <= LONGEST_SIDE)
        usable = _is_text(key, value) if is_text else fits
        if not usable:
            expected = "text" if is_text else "a whole number" + f" from 1 to {LONGEST_SIDE}" * (field in _SIZES)
            raise UserError(f"{path}: {key}[{position}] has no usable {field!r}, {expected}: {record!r:.200}")
    if all(type(record[field]) is int for field in _WHOLE[key]):
        return record
    return {**record, **{field: whole_number(record[field]) for field in _WHOLE[key]}}
