"""Checks and mistakes of the chapter on the feature pyramid: the points of a level, and which object each one learns.

NumPy arrays in float64; boxes are xyxy in pixels, points are (x, y).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy import ndarray

from ..practice.reader_checks import Case, Mistake, Verdict, check

# The points of a level


def points_formula(height: int, width: int, stride: int) -> ndarray:
    """(height * width, 2): the centre (x, y) of every cell in pixels, row by row."""
    return np.array(
        [[(column + 0.5) * stride, (row + 0.5) * stride] for row in range(height) for column in range(width)]
    )


def points_cases() -> Iterator[Case]:
    for height, width, stride in ((1, 2, 8), (2, 3, 8), (4, 3, 16), (3, 5, 32)):
        yield Case(f"a map of {height} x {width} cells, stride {stride}", (height, width, stride))


def _grid(height: int, width: int) -> tuple[ndarray, ndarray]:
    row, column = np.mgrid[:height, :width]
    return row.ravel() + 0.5, column.ravel() + 0.5


def _down_first(height: int, width: int, stride: int) -> ndarray:
    column, row = np.mgrid[:width, :height]
    return np.stack([column.ravel() + 0.5, row.ravel() + 0.5], 1) * stride


POINTS_MISTAKES = (
    Mistake(
        "the corner of each cell is taken",
        "the centre lies half a stride further right and down: (column + 0.5) * stride.",
        lambda h, w, s: (np.stack(_grid(h, w)[::-1], 1) - 0.5) * s,
    ),
    Mistake("x and y are swapped", "a point is (x, y): column first.", lambda h, w, s: np.stack(_grid(h, w), 1) * s),
    Mistake("the cells are walked column by column", "go row by row, as a map is flattened.", _down_first),
    Mistake(
        "half a pixel is added in place of half a stride",
        "add 0.5 before you multiply by the stride.",
        lambda h, w, s: (np.stack(_grid(h, w)[::-1], 1) - 0.5) * s + 0.5,
    ),
    Mistake(
        "the points are not brought to pixels",
        "multiply by the stride.",
        lambda h, w, s: np.stack(_grid(h, w)[::-1], 1),
    ),
)


def check_points(function: Callable[[int, int, int], ndarray]) -> Verdict:
    """Check the reader's ``points(height, width, stride)``."""
    return check(function, points_formula, points_cases(), POINTS_MISTAKES)


# The rule of FCOS


def assign_formula(points_N2, reach_N2, radius_N, boxes_M4, **without) -> ndarray:  # type: ignore[no-untyped-def]
    """(N,): the box that each point learns, or -1; see the chapter. ``without`` leaves a part of the rule out."""
    chosen = np.full(len(points_N2), -1)
    for n, ((x, y), (low, high), radius) in enumerate(zip(points_N2, reach_N2, radius_N, strict=True)):
        best = np.inf
        for m, (x1, y1, x2, y2) in enumerate(boxes_M4):
            sides = np.array([x - x1, y - y1, x2 - x, y2 - y])
            far = {"nearest": sides.min(), "size": max(x2 - x1, y2 - y1)}.get(without.get("measure", ""), sides.max())
            from_centre = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            rules = {"inside": sides.min() > 0, "reach": low < far < high, "radius": from_centre < radius}
            area = (x2 - x1) * (y2 - y1) * (-1 if without.get("largest") else 1)
            if all(holds for name, holds in rules.items() if name != without.get("rule")) and area < best:
                chosen[n], best = m, area
                if without.get("first"):
                    break
    return chosen


def assign_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """From one box on one level to several that overlap on several levels, some flat, some near the border."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        strides = (8,) if number == 0 else (8, 16, 32)[: 1 + number]
        points = [points_formula(96 // stride, 96 // stride, stride) for stride in strides]
        sizes = np.concatenate([np.full(len(p), stride / 2) for p, stride in zip(points, strides, strict=True)])
        reach = np.stack([4 * sizes, 8 * sizes], 1)
        reach[: len(points[0]), 0] = 0
        boxes = (1, 2, 5, 7, 9, 12)[number]
        corner, side = rng.uniform(-4, 60, (boxes, 2)), rng.uniform(6, 60, (boxes, 2))
        arguments = (np.concatenate(points), reach, 3 * sizes, np.concatenate([corner, corner + side], 1))
        yield Case(f"{boxes} box(es) on {len(strides)} level(s)", arguments)


def _read_as_centre_and_size(boxes_M4: ndarray) -> ndarray:
    centre, size = boxes_M4[:, :2], boxes_M4[:, 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


def _without(**what: str | bool) -> Callable[..., ndarray]:
    return lambda *arguments: assign_formula(*arguments, **what)


ASSIGN_MISTAKES = (
    Mistake(
        "a point near the centre counts although it lies outside of the box",
        "flat boxes are thinner than the radius: all four distances must be positive.",
        _without(rule="inside"),
    ),
    Mistake("every level takes objects of every size", "low < farthest side < high.", _without(rule="reach")),
    Mistake(
        "all points inside of the box count",
        "only points within the radius of its centre do, in x and in y.",
        _without(rule="radius"),
    ),
    Mistake(
        "of several boxes the largest is taken",
        "the smallest: it has fewer points to choose from.",
        _without(largest=True),
    ),
    Mistake("of several boxes the first is taken", "take the smallest, whatever the order.", _without(first=True)),
    Mistake(
        "the level follows the size of the box",
        "FCOS looks at the farthest of the four distances from the point, not at the box's own side.",
        _without(measure="size"),
    ),
    Mistake("the nearest side is measured", "the farthest of the four distances counts.", _without(measure="nearest")),
    Mistake(
        "the boxes are read as centre x, centre y, width, height",
        "the four numbers are corners: left, upper, right, lower.",
        lambda points, reach, radius, boxes: assign_formula(points, reach, radius, _read_as_centre_and_size(boxes)),
    ),
)


def check_assign(function: Callable[..., ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``assign(points_N2, reach_N2, radius_N, boxes_M4)``."""
    return check(function, assign_formula, assign_cases(seed), ASSIGN_MISTAKES)
