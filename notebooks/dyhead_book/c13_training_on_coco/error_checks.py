"""Checks of chapter 13: what kind of mistake a detection is, and the arithmetic of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dyhead_lab.evaluation.error_analysis import BACKGROUND, FOREGROUND

from ..practice.reader_checks import Case, Mistake, Verdict, check

# Kinds of mistakes

LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND_KIND, BOTH = range(5)


def kind_of_false_positive(own_iou: float, foreign_iou: float) -> int:
    """The kind of a detection that is no hit: 0 localisation, 1 classification, 2 duplicate, 3 background, 4 both.

    Args:
        own_iou: its largest IoU with an object of the class that it names.
        foreign_iou: its largest IoU with an object of another class.
    """
    if BACKGROUND < own_iou < FOREGROUND:
        return LOCALISATION
    if foreign_iou >= FOREGROUND:
        return CLASSIFICATION
    if own_iou >= FOREGROUND:
        return DUPLICATE
    return BACKGROUND_KIND if max(own_iou, foreign_iou) <= BACKGROUND else BOTH


def _kind_cases(seed: int = 0, count: int = 60) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    edges = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.8), (0.8, 0.3), (0.05, 0.3), (0.05, 0.05), (0.8, 0.8)]
    drawn = [tuple(float(x) for x in rng.uniform(0, 1, 2).round(3)) for _ in range(count - len(edges))]
    for own, foreign in edges + drawn:
        yield Case(f"IoU {own} with its own class, {foreign} with another", (own, foreign))


def _swapped_order(own: float, foreign: float) -> int:
    return CLASSIFICATION if foreign >= FOREGROUND else kind_of_false_positive(own, foreign)


def _never_duplicate(own: float, foreign: float) -> int:
    kind = kind_of_false_positive(own, foreign)
    return LOCALISATION if kind == DUPLICATE else kind


def _without_background(own: float, foreign: float) -> int:
    kind = kind_of_false_positive(own, foreign)
    return BOTH if kind == BACKGROUND_KIND else kind


def _much_background(own: float, foreign: float) -> int:
    return BACKGROUND_KIND if max(own, foreign) < FOREGROUND else kind_of_false_positive(own, foreign)


KIND_MISTAKES = (
    Mistake(
        "another class is looked at first",
        "a detection near an object of its own class is a localisation error, whatever else lies there.",
        _swapped_order,
    ),
    Mistake(
        "the two IoUs are swapped",
        "own_iou belongs to the class that the detection names.",
        lambda own, foreign: kind_of_false_positive(foreign, own),
    ),
    Mistake(
        "a duplicate is called a localisation error", "its IoU is at least 0.5: the box is right.", _never_duplicate
    ),
    Mistake("nothing is ever background", "at most 0.1 with everything is background.", _without_background),
    Mistake(
        "everything between 0.1 and 0.5 is background",
        "only up to 0.1.",
        lambda own, foreign: (
            BACKGROUND_KIND if max(own, foreign) < FOREGROUND else kind_of_false_positive(own, foreign)
        ),
    ),
)


def check_kind(function: Callable[[float, float], int]) -> Verdict:
    """Check the reader's ``kind(own_iou, foreign_iou)``."""
    return check(function, kind_of_false_positive, _kind_cases(), KIND_MISTAKES)


# Arithmetic of a training

COCO_IMAGES = 118_287


def training_hours(epochs: float, images_per_second: float, images: int = COCO_IMAGES) -> float:
    """Hours that ``epochs`` passes over ``images`` take."""
    return epochs * images / images_per_second / 3600
