"""Checks, planted bugs and solutions of the chapter that puts the Dynamic Head on detectors.

Detectors write a box in three ways: relative to an anchor, as distances from a place, as a set of points. The functions
here turn each of them back into a box, x1, y1, x2, y2 in pixels. They take and return NumPy arrays in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from dyhead_lab.detectors.anchors import BOX_WEIGHTS, decode_boxes, sides
from dyhead_lab.detectors.one_stage.point_sets import POINTS, min_max_box

from ..practice.reader_checks import Case, Mistake, Verdict, check

Decode = Callable[..., np.ndarray]
CASES = 8


# Relative to an anchor: RetinaNet, ATSS, R-CNN


def box_from_deltas_formula(anchor: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    return decode_boxes(torch.from_numpy(deltas)[None], torch.from_numpy(anchor)[None])[0].numpy()


def box_from_deltas(anchor, deltas):  # type: ignore[no-untyped-def]
    """The box that (dx, dy, dw, dh) make of an anchor (x1, y1, x2, y2)."""
    dx, dy, dw, dh = deltas / np.array(BOX_WEIGHTS)
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    cx, cy = anchor[0] + w / 2 + dx * w, anchor[1] + h / 2 + dy * h
    w, h = w * np.exp(dw), h * np.exp(dh)
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def _deltas_cases(seed: int = 0) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(CASES):
        corner, size = rng.uniform(0, 100, 2), rng.uniform(10, 60, 2)
        anchor, deltas = np.concatenate([corner, corner + size]), 2 * rng.normal(size=4)
        yield Case(f"anchor {_text(anchor)}, deltas {_text(deltas)}", (anchor, deltas))


def _deltas_variant(
    weights: tuple[float, ...] = BOX_WEIGHTS,
    grow: Callable[[np.ndarray], np.ndarray] = np.exp,
    reach: Callable[[np.ndarray], np.ndarray] = lambda size: size,
    from_centre: bool = True,
    half: float = 0.5,
) -> Decode:
    def imitate(anchor: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        shift, log_size = np.split(deltas / np.array(weights), 2)
        size = anchor[2:] - anchor[:2]
        centre = anchor[:2] + (size / 2 if from_centre else 0) + shift * reach(size)
        return np.concatenate([centre - half * size * grow(log_size), centre + half * size * grow(log_size)])

    return imitate


DELTAS_MISTAKES = (
    Mistake(
        "the deltas are not divided by their weights",
        "dx and dy come multiplied by 10, dw and dh by 5.",
        _deltas_variant(weights=(1, 1, 1, 1)),
    ),
    Mistake("the exponential is missing", "w * exp(dw): dw is a logarithm.", _deltas_variant(grow=lambda d: 1 + d)),
    Mistake(
        "the shift is taken in pixels",
        "dx counts in widths of the anchor, dy in heights.",
        _deltas_variant(reach=np.ones_like),
    ),
    Mistake(
        "width and height are swapped in the shift",
        "dx goes with the width, dy with the height.",
        _deltas_variant(reach=lambda size: size[::-1]),
    ),
    Mistake(
        "the corner of the anchor is taken for its centre",
        "shift the centre, x1 + w / 2.",
        _deltas_variant(from_centre=False),
    ),
    Mistake(
        "the whole side is added to the centre instead of half of it",
        "from the centre to a side it is w / 2.",
        _deltas_variant(half=1.0),
    ),
)


def check_box_from_deltas(function: Decode) -> Verdict:
    """Check the reader's ``box_from_deltas(anchor, deltas)``."""
    return check(function, box_from_deltas_formula, _deltas_cases(), DELTAS_MISTAKES)


# Distances from a place: FCOS, BorderDet


def box_from_sides(place, distances, stride):  # type: ignore[no-untyped-def]
    """The box whose left, top, right and bottom sides lie so many cells from a place (x, y) in pixels."""
    x, y = place
    left, top, right, bottom = stride * distances
    return np.array([x - left, y - top, x + right, y + bottom])


def _sides_cases(seed: int = 0) -> Iterator[Case]:
    """Boxes around a place; the distances are what the library computes for them."""
    rng = np.random.default_rng(seed)
    for _ in range(CASES):
        stride = int(2 ** rng.integers(3, 7))
        place = rng.uniform(50, 100, 2)
        box = np.concatenate([place - rng.uniform(5, 40, 2), place + rng.uniform(5, 40, 2)])
        distances = sides(torch.from_numpy(place), torch.from_numpy(box)).numpy() / stride
        yield Case(f"place {_text(place)}, distances {_text(distances)}, stride {stride}", (place, distances, stride))


SIDES_MISTAKES = (
    Mistake(
        "the distances are read as left, right, top, bottom",
        "the order is left, top, right, bottom, like x1, y1, x2, y2.",
        lambda place, d, stride: box_from_sides(place, d[[0, 2, 1, 3]], stride),
    ),
    Mistake(
        "the distances are taken in pixels",
        "they count in cells: multiply by the stride of the level.",
        lambda place, d, stride: box_from_sides(place, d, 1),
    ),
    Mistake(
        "left and top are added",
        "x1 = x - left: distances are positive inside the box.",
        lambda place, d, stride: box_from_sides(place, d * np.array([-1, -1, 1, 1]), stride),
    ),
    Mistake(
        "the box is returned as corner and size",
        "return both corners, x1, y1, x2, y2.",
        lambda place, d, stride: np.concatenate([place - stride * d[:2], stride * (d[:2] + d[2:])]),
    ),
    Mistake(
        "x and y of the place are swapped",
        "a place is (x, y).",
        lambda place, d, stride: box_from_sides(place[::-1], d, stride),
    ),
)


def check_box_from_sides(function: Decode) -> Verdict:
    """Check the reader's ``box_from_sides(place, distances, stride)``."""
    return check(function, box_from_sides, _sides_cases(), SIDES_MISTAKES)


# Points: RepPoints


def box_from_points_formula(place: np.ndarray, offsets: np.ndarray, stride: int) -> np.ndarray:
    points = torch.from_numpy(place + stride * offsets[:, ::-1])
    return min_max_box(points).numpy()


def box_from_points(place, offsets, stride):  # type: ignore[no-untyped-def]
    """The smallest box around nine points, given as (dy, dx) in cells from a place (x, y) in pixels."""
    y = place[1] + stride * offsets[:, 0]
    x = place[0] + stride * offsets[:, 1]
    return np.array([x.min(), y.min(), x.max(), y.max()])


def _points_cases(seed: int = 0) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(CASES):
        stride = int(2 ** rng.integers(3, 7))
        place, offsets = rng.uniform(20, 100, 2), rng.normal(size=(POINTS, 2)) + 0.3 * rng.normal(size=2)
        yield Case(f"place {_text(place)}, {POINTS} offsets, stride {stride}", (place, offsets, stride))


def _moment_box(place: np.ndarray, offsets: np.ndarray, stride: int) -> np.ndarray:
    points = place + stride * offsets[:, ::-1]
    return np.concatenate([points.mean(0) - points.std(0, ddof=1), points.mean(0) + points.std(0, ddof=1)])


POINTS_MISTAKES = (
    Mistake(
        "x and y of the offsets are swapped",
        "they steer a convolution, so they come as (dy, dx).",
        lambda place, o, stride: box_from_points(place, o[:, ::-1], stride),
    ),
    Mistake(
        "the offsets are taken in pixels",
        "they count in cells: multiply by the stride of the level.",
        lambda place, o, stride: box_from_points(place, o, 1),
    ),
    Mistake("the place is forgotten", "offsets count from the place.", lambda p, o, s: box_from_points(0 * p, o, s)),
    Mistake(
        "mean and standard deviation are taken",
        "that is the moment box. Here: the smallest box around all points.",
        _moment_box,
    ),
    Mistake(
        "only the first and the last point are used",
        "take the smallest and the largest coordinate over all nine.",
        lambda place, o, stride: box_from_points(place, o[[0, -1]], stride),
    ),
)


def check_box_from_points(function: Decode) -> Verdict:
    """Check the reader's ``box_from_points(place, offsets, stride)``."""
    return check(function, box_from_points_formula, _points_cases(), POINTS_MISTAKES)


def _text(numbers: np.ndarray) -> str:
    return f"({', '.join(f'{number:.1f}' for number in numbers)})"
