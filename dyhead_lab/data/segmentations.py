"""Segmentations of COCO annotations: what can be drawn of them.

COCO has polygons, ``[[x1, y1, x2, y2, ...], ...]``, and run lengths, ``{"size": [height, width], "counts": ...}``,
column by column, beginning with a run of zeros. pycocotools draws whatever it is given: of run lengths that end too
early it hands out memory that nobody wrote, and a polygon of two points it takes for a box.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .coco_values import all_numbers, whole_number

#: Numbers of the smallest polygon: three points.
TRIANGLE = 6

#: More pixels than an image has; JSON holds numbers of any length, which fill pages when they are told.
_LONGEST_RUN = 2**62


class Segmentation(NamedTuple):
    """What became of a segmentation.

    Attributes:
        drawable: polygons or run lengths that pycocotools draws in the size of the image; None if there are none.
        fault: what is wrong with it; None if it is sound.
    """

    drawable: list[list[float]] | dict[str, Any] | None
    fault: str | None = None


def check_segmentation(value: Any, height: int, width: int) -> Segmentation:
    """Mend a segmentation of an image of this size.

    A flat list of numbers is one polygon. Polygons of less than three points are left out, and those that reach beyond
    the image by more than its longer side: pycocotools takes memory for every pixel on their way.
    """
    if isinstance(value, dict) and value:
        return _check_runs(value, height, width)
    if not isinstance(value, list) or value in ([], [[]]):
        return Segmentation(None, "no segmentation")
    flat = all_numbers(value)
    given = [value] if flat else value
    polygons = [polygon for polygon in given if _is_polygon(polygon)]
    if len(polygons) < len(given):
        return Segmentation(polygons or None, _SHORT)
    side = max(height, width)
    near = [polygon for polygon in polygons if -side <= min(polygon) and max(polygon) <= 2 * side]
    if len(near) < len(polygons):
        return Segmentation(near or None, "a polygon far beyond its image")
    return Segmentation(given, "one flat list for a polygon" if flat else None)


_SHORT = "a polygon that is not x and y of three points or more"


def _is_polygon(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= TRIANGLE and len(value) % 2 == 0 and all_numbers(value)


def _check_runs(value: dict[str, Any], height: int, width: int) -> Segmentation:
    size = value.get("size")
    size = [whole_number(side) for side in size] if isinstance(size, list) else size
    if size != [height, width]:
        return Segmentation(None, f"run lengths of size {size}, in an image of size [{height}, {width}]")
    counts = value.get("counts")
    pixels = _pixels_of_text(counts) if isinstance(counts, str) else _pixels_of_list(counts)
    if pixels != height * width:
        covered = "cannot be read" if pixels is None else f"cover {pixels} pixels of {height * width}"
        return Segmentation(None, f"run lengths that {covered}")
    return Segmentation({"size": size, "counts": counts})


def _pixels_of_list(counts: Any) -> int | None:
    """The sum of run lengths; None if they are none."""
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= _LONGEST_RUN for count in counts):
        return None
    return sum(counts)


def _pixels_of_text(text: str) -> int | None:
    """The sum of run lengths in pycocotools' compressed form; None if they are none.

    Each character stands for six bits, counted from "0": five of a number, the lowest first, and one that is set if
    more follow. Bit 4 of the last one is the sign. From the fourth number on, each is the difference to the last but
    one.
    """
    bits = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or bits[-1] & 32:
        return None
    ends = np.flatnonzero(bits & 32 == 0)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 2^35 pixels and more
        return None
    places = np.arange(len(bits)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((bits & 31) << (5 * places), starts)
    numbers -= np.where(bits[ends] & 16, 1 << (5 * lengths), 0)
    runs = np.concatenate([numbers[:1], np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])])
    return int(runs.sum()) if runs.min() >= 0 else None
