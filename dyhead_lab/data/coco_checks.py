"""Faults that show only when a whole COCO file is looked at: keys that do not fit, boxes in other units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .coco_annotations import TOLERANCE
from .coco_problems import Problem

#: From this share of the annotations on a fault is one of the file: what is left would train another detector.
MOST = 0.5

#: So many corners lie inside when they are read as corners. Few other boxes do: their width would have to exceed x.
NEARLY_ALL = 0.95


def refuse_if_most_are_dropped(
    path: Path,
    total: int,
    problems: Sequence[Problem],
    images: Mapping[int, Any],
    categories: Mapping[int, Any],
) -> None:
    """Refuse a file of whose annotations too few can be used, and say which key does not fit.

    Args:
        path: for the message.
        total: annotations of the file.
        problems: of all of them.
        images, categories: by their ids.

    Raises:
        UserError: half of the annotations or more are dropped.
    """
    dropped = [problem for problem in problems if problem.done == "dropped"]
    if not dropped or len(dropped) < MOST * total:
        return
    ((what, count),) = Counter(problem.what for problem in dropped).most_common(1)
    values = [problem.value for problem in dropped if problem.what == what]
    message = (
        f"{path}: {len(dropped)} of {total} annotations are of no use; {count} have {what}, such as {_some(values)}"
    )
    for key, table, name in (("image_id", images, "images"), ("category_id", categories, "categories")):
        if what == f"unknown {key}":
            message += f". The {name} have the ids {_some(table)}: {key} does not fit them"
    raise UserError(message)


def refuse_if_most_lack_masks(path: Path, total: int, problems: Sequence[Problem]) -> None:
    """Refuse a file that cannot teach masks.

    Args:
        path: for the message.
        total: annotations that a detector would learn from.
        problems: of their segmentations.

    Raises:
        UserError: half of the annotations or more are left out.
    """
    left_out = [problem for problem in problems if problem.done != "mended"]
    if left_out and len(left_out) >= MOST * total:
        first = left_out[0]
        raise UserError(
            f"{path}: masks are needed, but {len(left_out)} of {total} annotations have none that can be drawn: "
            f"annotation {first.annotation} has {first.what} ({first.value!r:.100})"
        )


def refuse_if_all_are_crowds(path: Path, annotations: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a file that marks no single object.

    Raises:
        UserError: every annotation has ``iscrowd`` 1, and there are some.
    """
    if annotations and all(annotation["iscrowd"] for annotation in annotations):
        raise UserError(
            f"{path}: all {len(annotations)} annotations have iscrowd 1, which marks groups that nobody counted. "
            "Detectors learn nothing from them, and the metric ignores them: set iscrowd to 0 for single objects"
        )


def check_units(path: Path, boxes: Sequence[Sequence[float]], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Refuse boxes that are surely no [x, y, width, height] in pixels; return notes about those that hardly are.

    Args:
        path: for messages.
        boxes: of all annotations, as the file has them.
        sizes: (width, height) of the image of each.

    Raises:
        UserError: half of the boxes or more lie within the first pixel, or reach beyond their images while as
            [x1, y1, x2, y2] nearly all lie inside.
    """
    if not boxes:
        return []
    boxes_xywh, sizes_wh = np.asarray(boxes, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    corner, extent = boxes_xywh[:, :2], boxes_xywh[:, 2:]
    least = MOST * len(boxes)

    tiny = ((corner >= 0) & (extent >= 0) & (corner + extent <= 1 + 1e-3)).all(1) & (sizes_wh > 2).all(1)
    if tiny.sum() >= least:
        raise UserError(
            f"{path}: {tiny.sum()} of {len(boxes)} boxes lie within the first pixel of their images, such as "
            f"{boxes[int(tiny.argmax())]}: they look normalised to [0, 1]. COCO's boxes are in pixels: multiply x and "
            "width by the width of the image, y and height by its height"
        )
    beyond = (corner + extent > sizes_wh + TOLERANCE).any(1)
    if beyond.sum() < least:
        return []
    fit_as_corners = ((corner >= -TOLERANCE) & (extent > corner) & (extent <= sizes_wh + TOLERANCE)).all(1)
    reach = f"{beyond.sum()} of {len(boxes)} boxes reach beyond their images, such as {boxes[int(beyond.argmax())]}"
    if fit_as_corners.sum() >= NEARLY_ALL * len(boxes):
        raise UserError(
            f"{path}: {reach}, and as [x1, y1, x2, y2] {fit_as_corners.sum()} lie inside: they look like corners. "
            "COCO's boxes are [x, y, width, height]: store x2 - x1 and y2 - y1 in place of x2 and y2"
        )
    return [f"{reach}: perhaps they belong to images of another size, or are no [x, y, width, height]"]


def note_counting_from_0(problems: Iterable[Problem], used: set[int], categories: Mapping[int, Any]) -> list[str]:
    """A note where annotations seem to count categories from 0 while the list counts from 1.

    Args:
        problems: of all annotations.
        used: ids of the categories that annotations have.
        categories: by their ids.
    """
    counts_from_1 = sorted(categories) == list(range(1, len(categories) + 1))
    has_0 = any(problem.what == "unknown category_id" and problem.value == 0 for problem in problems)
    if not has_0 or not counts_from_1 or len(categories) in used:
        return []
    return [
        f"annotations have category_id 0, which is unknown, and none has {len(categories)}, the last one: if they "
        "count from 0, all of them have wrong classes"
    ]


def _some(values: Iterable[Any], most: int = 3) -> str:
    """A few different values as text."""
    shown = list(dict.fromkeys(f"{value!r:.60}" for value in islice(values, 100)))
    return ", ".join(shown[:most] + ["..."] * (len(shown) > most)) or "none"
