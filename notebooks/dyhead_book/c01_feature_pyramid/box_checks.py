"""Checks and mistakes of the chapter on the feature pyramid: IoU and average precision.

NumPy arrays in float64. Boxes are xyxy in pixels. The answers stand in the chapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy import ndarray
from torchvision.ops import box_iou, generalized_box_iou

from ..practice.reader_checks import Case, Mistake, Verdict, check

RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision

# Intersection over union


def iou_formula(a_n4: ndarray, b_m4: ndarray) -> ndarray:
    """(n, m): area of the intersection over area of the union, for every pair of boxes; by torchvision."""
    return box_iou(torch.from_numpy(a_n4), torch.from_numpy(b_m4)).numpy()


def iou_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """Boxes that overlap, contain each other, touch nothing, and one that lies apart in both directions."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        n, m = 2 + number % 3, 3 + number % 4
        a, b = (np.concatenate([c := rng.uniform(0, 30, (k, 2)), c + rng.uniform(2, 20, (k, 2))], 1) for k in (n, m))
        b[0] = a[0] + 100
        yield Case(f"{n} boxes and {m} boxes", (a, b))


def _overlap(a: ndarray, b: ndarray, pixel: float = 0) -> ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    return (np.minimum(a[:, None, 2:], b[None, :, 2:]) - low + pixel).clip(min=0).prod(-1)


def _area(a: ndarray, pixel: float = 0) -> ndarray:
    return (a[:, 2:] - a[:, :2] + pixel).prod(-1)


def _unclipped(a: ndarray, b: ndarray) -> ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    intersection = (np.minimum(a[:, None, 2:], b[None, :, 2:]) - low).prod(-1)
    return intersection / (_area(a)[:, None] + _area(b) - intersection)


def _with_pixel(a: ndarray, b: ndarray) -> ndarray:
    intersection = _overlap(a, b, 1)
    return intersection / (_area(a, 1)[:, None] + _area(b, 1) - intersection)


def _generalised(a: ndarray, b: ndarray) -> ndarray:
    return generalized_box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()


IOU_MISTAKES = (
    Mistake(
        "the generalised IoU is computed",
        "GIoU also subtracts the empty part of the box around both, and can be negative. IoU stops at 0.",
        _generalised,
    ),
    Mistake(
        "boxes that lie apart have a negative width",
        "clip width and height of the intersection at 0; two negative numbers have a positive product.",
        _unclipped,
    ),
    Mistake(
        "the intersection is counted twice in the union",
        "union = area a + area b - intersection.",
        lambda a, b: _overlap(a, b) / (_area(a)[:, None] + _area(b)),
    ),
    Mistake(
        "a pixel is added to every side",
        "old code counts pixels, x2 - x1 + 1. Here a box is a region: x2 - x1.",
        _with_pixel,
    ),
    Mistake(
        "the intersection is divided by the smaller box",
        "divide by the union.",
        lambda a, b: _overlap(a, b) / np.minimum(_area(a)[:, None], _area(b)),
    ),
    Mistake(
        "Dice is computed, twice the intersection over both areas",
        "divide by the union.",
        lambda a, b: 2 * _overlap(a, b) / (_area(a)[:, None] + _area(b)),
    ),
    Mistake(
        "the boxes are read as x, y, width, height",
        "the last two numbers are the right and the lower side.",
        lambda a, b: iou_formula(*(np.concatenate([x[:, :2], x[:, :2] + x[:, 2:]], 1) for x in (a, b))),
    ),
    Mistake(
        "the boxes are read as centre x, centre y, width, height",
        "the four numbers are corners: left, upper, right, lower.",
        lambda a, b: iou_formula(
            *(np.concatenate([x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2], 1) for x in (a, b))
        ),
    ),
)


def check_iou(function: Callable[[ndarray, ndarray], ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``iou(a_n4, b_m4)``."""
    return check(function, iou_formula, iou_cases(seed), IOU_MISTAKES)


# Average precision of one class at one IoU threshold


def average_precision_formula(scores: ndarray, correct: ndarray, objects: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or a higher one: tries every number of detections.

    Args:
        scores: (n,) of all detections of a class, in any order.
        correct: (n,) bool: the detection found an object that no better one had found.
        objects: how many objects there are.
    """
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found = [sum(bool(correct[i]) for i in order[: n + 1]) for n in range(len(order))]
    total = 0.0
    for recall in RECALLS:
        total += max((f / (n + 1) for n, f in enumerate(found) if f / objects >= recall), default=0)
    return total / len(RECALLS)


def average_precision_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """Detections of which more and more are correct; some objects are never found."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        n = 6 + 3 * number
        correct = rng.random(n) < 0.3 + 0.05 * number
        objects = int(correct.sum()) + 1 + number % 3
        yield Case(f"{n} detections, {objects} objects", (rng.random(n), correct, objects))


def _curve(scores: ndarray, correct: ndarray, objects: int) -> tuple[ndarray, ndarray]:
    found = np.cumsum(correct[np.argsort(-scores, kind="stable")])
    return found / objects, found / np.arange(1, len(found) + 1)


def _sampled(recall: ndarray, precision: ndarray, recalls: ndarray = RECALLS) -> float:
    return float(np.append(precision, 0)[np.searchsorted(recall, recalls)].mean())


def _envelope(recall: ndarray, precision: ndarray) -> tuple[ndarray, ndarray]:
    return recall, np.maximum.accumulate(precision[::-1])[::-1]


def _trapezoid(scores: ndarray, correct: ndarray, objects: int) -> float:
    """The area below straight lines between the points of the curve."""
    recall, precision = _curve(scores, correct, objects)
    return float(np.trapezoid(precision, recall))


def _trapezoid_from_zero(scores: ndarray, correct: ndarray, objects: int) -> float:
    recall, precision = _curve(scores, correct, objects)
    return float(np.trapezoid(np.concatenate([precision[:1], precision]), np.concatenate([[0], recall])))


def _trapezoid_of_envelope(scores: ndarray, correct: ndarray, objects: int) -> float:
    recall, precision = _envelope(*_curve(scores, correct, objects))
    return float(np.trapezoid(precision, recall))


def _plain_steps(scores: ndarray, correct: ndarray, objects: int) -> float:
    """The sum of each precision times the recall that it adds, as scikit-learn."""
    recall, precision = _curve(scores, correct, objects)
    return float((np.diff(recall, prepend=0) * precision).sum())


def _steps(scores: ndarray, correct: ndarray, objects: int) -> float:
    """The exact area below the monotonic curve, as Pascal VOC since 2010."""
    recall, precision = _envelope(*_curve(scores, correct, objects))
    return float((np.diff(recall, prepend=0) * precision).sum())


_TRAPEZOID = (
    "the area is taken by the trapezoidal rule",
    "COCO draws no lines between the points: it reads the curve at 101 recalls and takes the mean.",
)

AVERAGE_PRECISION_MISTAKES = (
    Mistake(
        "the detections are not sorted by score",
        "the most certain detection comes first.",
        lambda s, c, n: average_precision_formula(-np.arange(len(s)), c, n),
    ),
    Mistake(
        "the least certain detection comes first",
        "sort by falling score.",
        lambda s, c, n: average_precision_formula(-s, c, n),
    ),
    Mistake(
        "recall is measured against the objects that were found",
        "divide by all objects: one that is never found must cost something.",
        lambda s, c, n: average_precision_formula(s, c, int(c.sum())),
    ),
    Mistake(
        "the precision is not made monotonic",
        "at each recall take the best precision at that recall or a higher one.",
        lambda s, c, n: _sampled(*_curve(s, c, n)),
    ),
    Mistake(
        "the precision is read at 11 recalls",
        "Pascal VOC of 2007 had 11, COCO has 101.",
        lambda s, c, n: _sampled(*_envelope(*_curve(s, c, n)), recalls=np.linspace(0, 1, 11)),
    ),
    Mistake(*_TRAPEZOID, _trapezoid),
    Mistake(*_TRAPEZOID, _trapezoid_from_zero),
    Mistake(*_TRAPEZOID, _trapezoid_of_envelope),
    Mistake(
        "each precision counts as much as the recall that it adds",
        "scikit-learn does so. COCO takes the best precision at a recall or a higher one, and reads it at 101 recalls.",
        _plain_steps,
    ),
    Mistake(
        "the exact area below the curve is taken",
        "Pascal VOC does so since 2010; COCO reads the curve at 101 recalls and takes the mean.",
        _steps,
    ),
    Mistake(
        "the precisions of all detections are averaged",
        "average over recalls, not over detections.",
        lambda s, c, n: float(_curve(s, c, n)[1].mean()),
    ),
)


def check_average_precision(function: Callable[[ndarray, ndarray, int], float], seed: int = 0) -> Verdict:
    """Check the reader's ``average_precision(scores, correct, objects)``."""
    cases = average_precision_cases(seed)
    return check(function, average_precision_formula, cases, AVERAGE_PRECISION_MISTAKES)
