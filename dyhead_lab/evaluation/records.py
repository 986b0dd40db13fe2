"""Detections that are not finite: what a detector of which a number overflowed claims to have found."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]

#: A box that overlaps nothing.
NOWHERE = (0.0, 0.0, 0.0, 0.0)


def finite_records(detections: Iterable[Record]) -> tuple[list[Record], int]:
    """The detections in a form that every engine reads alike, and how many of them were not finite.

    One warning counts those. To pycocotools a box of NaN overlaps every object, so that it would count as a hit. Here
    a box that is infinite or NaN is taken away, and what is left, :data:`NOWHERE`, is a false positive under its score:
    the detector did claim something. A detection whose score is infinite or NaN has no rank and is left out.

    Args:
        detections: COCO records. They are not changed.

    Raises:
        ValueError: one has no four numbers for a box, or no number for a score.
    """
    records: list[Record] = []
    faulty: list[Record] = []
    for position, detection in enumerate(detections):
        has_box, has_score = _finite_parts(position, detection)
        if has_score:
            records.append(detection if has_box else {**detection, "bbox": list(NOWHERE)})
        if not has_box or not has_score:
            faulty.append(detection)
    if faulty:
        first = faulty[0]
        warnings.warn(
            f"{len(faulty)} of {position + 1} detections are not finite and find nothing; the first, on image "
            f"{first['image_id']}, has bbox {first['bbox']} and score {first['score']}",
            stacklevel=3,
        )
    return records, len(faulty)


def _finite_parts(position: int, detection: Record) -> tuple[bool, bool]:
    """Whether the box and the score of a detection are finite.

    Raises:
        ValueError: they are no numbers at all.
    """
    box, score = detection.get("bbox"), detection.get("score")
    try:
        if len(box) == 4:  # type: ignore[arg-type]  # where it is None, TypeError says so
            return all(map(math.isfinite, box)), math.isfinite(score)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise ValueError(
        f"detections[{position}]: expected bbox [x, y, w, h] and a score, all numbers, got {box!r} and {score!r}"
    )
