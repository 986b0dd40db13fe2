"""The one door for ground truth: whatever COCO object comes in, every engine gets the same clean copy.

pycocotools and hotcoco disagree about files that are not as COCO's own are. An id that two annotations share, or that
is 0, spoils the matching of one; a missing ``area``, text for an id or a segmentation of an unusual form ends the
other. So an engine sees neither the file's ids nor anything that boxes do not need.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from pycocotools.coco import COCO

from ..data.coco_json import index_coco
from ..data.coco_values import whole_number

Id = int | str
Record = Mapping[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth for an engine, under numbers from 1 on.

    Attributes:
        dataset: a COCO dictionary of its own. Images and categories are numbered in ascending order of their ids, as
            equal scores are ranked by it; annotations in the order of the file. An annotation has ``id``,
            ``image_id``, ``category_id``, ``bbox``, ``area`` and ``iscrowd``.
        images, categories: id as given -> number.
        names: name of each category by its id. Of two that share a name the later is called ``NAME (id ID)``, because
            results are told by name.
    """

    dataset: dict[str, Any]
    images: dict[Id, int]
    categories: dict[Id, int]
    names: dict[Id, str]

    def detections(self, records: Iterable[Record]) -> list[dict[str, Any]]:
        """Detections under the same numbers, with what an engine reads besides: id, area, and that they are no crowds.

        Raises:
            ValueError: one names an image or category that the ground truth lacks.
        """
        numbered = []
        for position, record in enumerate(records):
            box = list(map(float, record["bbox"]))  # an engine knows no tensors
            found = {
                "id": position + 1,
                "image_id": _number(self.images, record["image_id"]),
                "category_id": _number(self.categories, record["category_id"]),
                "bbox": box,
                "area": box[2] * box[3],
                "score": float(record["score"]),
                "iscrowd": 0,
            }
            for key in ("image_id", "category_id"):
                if found[key] is None:
                    raise ValueError(f"detections[{position}]: the ground truth has no {key} {record[key]!r}")
            numbered.append(found)
        return numbered

    def under_given_ids(self, detections: Iterable[Record]) -> tuple[COCO, list[dict[str, Any]]]:
        """The clean ground truth, and detections from :meth:`detections`, with images and categories under the ids
        as given: for what is told to a reader.
        """
        images = {number: id for id, number in self.images.items()}
        categories = {number: id for id, number in self.categories.items()}

        def given(records: Iterable[Record]) -> list[dict[str, Any]]:
            return [
                {**r, "image_id": images[r["image_id"]], "category_id": categories[r["category_id"]]} for r in records
            ]

        dataset = {
            "images": [{"id": id} for id in self.images],
            "categories": [{"id": id, "name": name} for id, name in self.names.items()],
            "annotations": given(self.dataset["annotations"]),
        }
        return index_coco(dataset), given(detections)


def clean_truth(source: Any) -> GroundTruth:
    """What an engine reads of a data set or a COCO object.

    Ids may be whole numbers, also as 7.0 or "7", or text. Annotations may lack an ``id`` or share one, and may lack
    ``area`` (width times height is taken) or ``iscrowd`` (0 is taken). As in pycocotools, annotations of images or
    categories that are not listed take no part; a warning says how many.

    Args:
        source: pycocotools' ``COCO``, or what has one as ``coco``, such as a data set. It is not changed.

    Raises:
        ValueError: there is no list of images or categories, one of them has no id, two different ones share an id, or
            the box of an annotation is not four finite numbers.
    """
    dataset = getattr(source, "coco", source).dataset
    image_records, category_records = _by_id(dataset, "images"), _by_id(dataset, "categories")
    images, categories = _numbers(image_records), _numbers(category_records)
    annotations: list[dict[str, Any]] = []
    strangers = 0
    for position, record in enumerate(dataset.get("annotations", [])):
        image, category = _number(images, record.get("image_id")), _number(categories, record.get("category_id"))
        if image is None or category is None:
            strangers += 1
            continue
        if not _is_box(record.get("bbox")):
            raise ValueError(
                f"ground_truth: annotations[{position}] (id {record.get('id')!r}): expected a bbox of four finite "
                f"numbers, got {record.get('bbox')!r}"
            )
        x, y, w, h = map(float, record["bbox"])
        area, crowd = record.get("area"), record.get("iscrowd")  # the area of the segment, where there is one
        clean = {
            "id": len(annotations) + 1,  # never 0: pycocotools takes a match with annotation 0 for no match
            "image_id": image,
            "category_id": category,
            "bbox": [x, y, w, h],
            "area": float(area) if _is_number(area) and area >= 0 else w * h,
            "iscrowd": int(crowd == 1 or whole_number(crowd) == 1),
        }
        annotations.append(clean)
    if strangers:
        warnings.warn(
            f"ground_truth: {strangers} of {strangers + len(annotations)} annotations are of an image or a category "
            "that is not listed, and take no part",
            stacklevel=3,
        )
    copy = {
        "images": [{"id": number, "file_name": "", "height": 0, "width": 0} for number in images.values()],
        "categories": [{"id": number, "name": f"class {number}"} for number in categories.values()],
        "annotations": annotations,
    }
    return GroundTruth(copy, images, categories, _names(category_records))


def _by_id(dataset: Record, key: str) -> dict[Id, Record]:
    """The records of one list under their ids; a record that is listed twice counts once."""
    if not isinstance(dataset.get(key), list):
        raise ValueError(f"ground_truth: expected a list of {key}, got {type(dataset.get(key)).__name__}")
    table: dict[Id, Record] = {}
    for position, record in enumerate(dataset[key]):
        id = _plain_id(record.get("id"))
        if id is None:
            raise ValueError(f"ground_truth: {key}[{position}] has no usable id: {record.get('id')!r}")
        if table.setdefault(id, record) != record:
            raise ValueError(f"ground_truth: two different records of {key} have id {id!r}")
    return table


def _numbers(ids: Iterable[Id]) -> dict[Id, int]:
    """Numbers from 1 on in ascending order of the ids, whole numbers before text."""
    ascending = sorted(ids, key=lambda id: (isinstance(id, str), id))
    return {id: number for number, id in enumerate(ascending, start=1)}


def _number(numbers: Mapping[Id, int], id: Any) -> int | None:
    """The number of an id, in whatever form it comes."""
    try:
        found = numbers.get(id)  # quick, and right for 7.0 too, which Python takes for the same key as 7
    except TypeError:  # no id at all, but a list, say
        return None
    return found if found is not None else numbers.get(_plain_id(id))  # type: ignore[arg-type]  # None is no id


def _names(categories: Mapping[Id, Record]) -> dict[Id, str]:
    names: dict[Id, str] = {}
    for id, category in categories.items():
        name = str(category.get("name", f"id {id}"))
        names[id] = f"{name} (id {id})" if name in names.values() else name
    return names


def _plain_id(value: Any) -> Id | None:
    """An id as it is meant: 7 for 7.0, NumPy's 7 and "7"; other text stays text; None for what can be no id."""
    number = whole_number(value)
    return value if isinstance(value, str) and str(number) != value else number


def _is_number(value: Any) -> bool:
    """Whether a value is a number of any type that a float can hold: neither infinite nor NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return bool(abs(value) <= sys.float_info.max)  # type: ignore[operator]  # whole numbers may be larger


def _is_box(value: Any) -> bool:
    try:
        return len(value) == 4 and all(map(_is_number, value))
    except TypeError:  # it has no length, or no items
        return False
