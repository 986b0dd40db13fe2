"""Checks of the chapter on attention maps: heat maps, spread, and the share of the weight inside a box."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from dyhead_lab.detectors.detr.dam import decoder_attention_map
from dyhead_lab.ops.numba_reference import loops

from ..practice.reader_checks import Case, Mistake, Verdict, check


def heat_map(positions_n2: np.ndarray, weights_n: np.ndarray, H: int, W: int) -> np.ndarray:
    """Sampling points as a map (H, W): the library's decoder attention map of one query, head and level.

    positions_n2: (x, y) in [0, 1] of the map. A cell outside the map gets nothing.
    """
    locations = torch.from_numpy(np.ascontiguousarray(positions_n2)).view(1, 1, 1, 1, -1, 2)
    weights = torch.from_numpy(np.ascontiguousarray(weights_n)).view(1, 1, 1, 1, -1)
    dam = decoder_attention_map(locations, weights, torch.tensor([[H, W]]), torch.tensor([0]), H * W)
    return dam.view(H, W).numpy()


def _nearest(positions_n2: np.ndarray, weights_n: np.ndarray, H: int, W: int) -> np.ndarray:
    cells = np.floor(positions_n2 * (W, H)) + 0.5
    return heat_map(cells / (W, H), weights_n, H, W)


def _clamped(positions_n2: np.ndarray, weights_n: np.ndarray, H: int, W: int) -> np.ndarray:
    low, high = np.array([0.5 / W, 0.5 / H]), np.array([1 - 0.5 / W, 1 - 0.5 / H])
    return heat_map(np.clip(positions_n2, low, high), weights_n, H, W)


def _last_point_wins(positions_n2: np.ndarray, weights_n: np.ndarray, H: int, W: int) -> np.ndarray:
    heat_HW = np.zeros((H, W))
    for position, weight in zip(positions_n2, weights_n, strict=True):
        one = heat_map(position[None], np.array([weight]), H, W)
        heat_HW = np.where(one > 0, one, heat_HW)
    return heat_HW


def _wrapped(positions_n2: np.ndarray, weights_n: np.ndarray, H: int, W: int) -> np.ndarray:
    """Rows and columns -1 are the last ones, as NumPy has it."""
    heat_HW = np.zeros((H, W))
    for (x, y), weight in zip(positions_n2, weights_n, strict=True):
        for row, column, share, _, _ in loops.around.py_func(y * H - 0.5, x * W - 0.5):
            if row < H and column < W:
                heat_HW[row, column] += weight * share
    return heat_HW


def _last_of_many(positions_n2: np.ndarray, weights_n: np.ndarray, H: int, W: int) -> np.ndarray:
    """``heat[rows, columns] += shares`` on arrays, one statement for each of the four cells of a point."""
    heat_HW = np.zeros((H, W))
    place_n2 = positions_n2 * (W, H) - 0.5
    corner_n2 = np.floor(place_n2).astype(int)
    part_n2 = place_n2 - corner_n2
    for step_n2 in np.array([(0, 0), (1, 0), (0, 1), (1, 1)]):
        cell_n2 = corner_n2 + step_n2
        share_n = np.where(step_n2, part_n2, 1 - part_n2).prod(1) * weights_n
        inside_n = ((0 <= cell_n2) & (cell_n2 < (W, H))).all(1)
        column_n, row_n = cell_n2[inside_n].T
        heat_HW[row_n, column_n] += share_n[inside_n]
    return heat_HW


HEAT_MISTAKES = (
    Mistake(
        "half a cell is missing",
        "the centre of cell i lies at (i + 0.5) / W, so the position in cells is x * W - 0.5.",
        lambda p, w, H, W: heat_map(p + np.array((0.5 / W, 0.5 / H)), w, H, W),
    ),
    Mistake(
        "x and y are swapped",
        "positions are (x, y): x runs along the columns, 0 to W.",
        lambda p, w, H, W: heat_map(p[:, ::-1], w, H, W),
    ),
    Mistake(
        "every point lands on its nearest cell alone",
        "a point reads four cells. Each one gets its bilinear share of the weight.",
        _nearest,
    ),
    Mistake(
        "the weights are not used",
        "every point leaves its weight, not 1.",
        lambda p, w, H, W: heat_map(p, np.ones_like(w), H, W),
    ),
    Mistake(
        "points outside are moved to the border",
        "what a point reads outside the map is zero; its share is lost.",
        _clamped,
    ),
    Mistake(
        "a later point replaces an earlier one",
        "points may share cells: add to the map, do not assign.",
        _last_point_wins,
    ),
    Mistake(
        "1 is taken for the centre of the last cell",
        "x * (W - 1) is the convention of align_corners=True. Deformable attention uses x * W - 0.5.",
        lambda p, w, H, W: heat_map((p * (W - 1, H - 1) + 0.5) / (W, H), w, H, W),
    ),
)

#: What the check knows besides what the chapter plants.
MORE_HEAT_MISTAKES = (
    *HEAT_MISTAKES,
    Mistake(
        "a row or column below zero is counted from the other end",
        "heat[-1] is NumPy's last row. A cell with a negative row or column lies outside: skip it.",
        _wrapped,
    ),
    Mistake(
        "a cell that several points read gets the weight of one of them",
        "heat[rows, columns] += shares adds once for each cell. np.add.at adds all; so does a loop.",
        _last_of_many,
    ),
)


def spread(positions_n2: np.ndarray, weights_n: np.ndarray) -> float:
    """How far the points lie from their weighted centre: the square root of the weighted mean squared distance."""
    share_n = weights_n / weights_n.sum()
    centre = (share_n[:, None] * positions_n2).sum(0)
    return float(np.sqrt((share_n * ((positions_n2 - centre) ** 2).sum(1)).sum()))


def _spread_about(positions_n2: np.ndarray, weights_n: np.ndarray, centre: np.ndarray) -> float:
    return float(np.sqrt((weights_n / weights_n.sum() * ((positions_n2 - centre) ** 2).sum(1)).sum()))


SPREAD_MISTAKES = (
    Mistake(
        "the weights are not used",
        "a point with twice the weight counts twice, in the centre and in the mean distance.",
        lambda p, w: spread(p, np.ones_like(w)),
    ),
    Mistake(
        "the centre is the plain mean",
        "the centre is a weighted mean too.",
        lambda p, w: _spread_about(p, w, p.mean(0)),
    ),
    Mistake(
        "the weights are not divided by their sum",
        "masks of a convolution do not sum to 1: divide by their sum first.",
        lambda p, w: spread(p, w) * np.sqrt(w.sum()),
    ),
    Mistake(
        "the square root is missing",
        "the root of a squared distance is a distance again.",
        lambda p, w: spread(p, w) ** 2,
    ),
    Mistake(
        "distances are averaged instead of their squares",
        "square, average, then take the root.",
        lambda p, w: float((w / w.sum() * np.linalg.norm(p - (w[:, None] * p).sum(0) / w.sum(), axis=1)).sum()),
    ),
)


def share_inside(positions_n2: np.ndarray, weights_n: np.ndarray, box_4: np.ndarray) -> float:
    """Share of the weight whose points lie in a box (x1, y1, x2, y2), in the same unit as the positions."""
    x1, y1, x2, y2 = box_4
    x, y = positions_n2.T
    inside_n = (x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)
    return float(weights_n[inside_n].sum() / weights_n.sum())


def _centre_and_size(box_4: np.ndarray) -> np.ndarray:
    """The corners of a box that is read as (cx, cy, w, h)."""
    return np.concatenate([box_4[:2] - box_4[2:] / 2, box_4[:2] + box_4[2:] / 2])


SHARE_MISTAKES = (
    Mistake(
        "points are counted, not weighed",
        "a point with twice the weight counts twice.",
        lambda p, w, b: share_inside(p, np.ones_like(w), b),
    ),
    Mistake(
        "the weight inside is not divided by all of it",
        "masks of a convolution do not sum to 1: divide by their sum.",
        lambda p, w, b: share_inside(p, w, b) * w.sum(),
    ),
    Mistake(
        "the weight inside is divided by the number of points",
        "a share of the weight: divide by the sum of the weights.",
        lambda p, w, b: share_inside(p, w, b) * w.sum() / len(w),
    ),
    Mistake(
        "x and y are swapped",
        "positions are (x, y), and so are the corners of the box.",
        lambda p, w, b: share_inside(p[:, ::-1], w, b),
    ),
    Mistake(
        "the box is read as centre and size",
        "here boxes are (x1, y1, x2, y2): two corners.",
        lambda p, w, b: share_inside(p, w, _centre_and_size(b)),
    ),
    Mistake(
        "only x is compared",
        "a point is inside if both of its coordinates are.",
        lambda p, w, b: share_inside(p, w, np.array([b[0], -np.inf, b[2], np.inf])),
    ),
)


def _point_cases(seed: int = 0, count: int = 10) -> Iterator[tuple[str, np.ndarray, np.ndarray, int, int]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        n, H, W = int(rng.integers(3, 9)), int(rng.integers(3, 6)), int(rng.integers(6, 9))
        outside = 0.0 if number < 3 else 0.25
        positions = rng.uniform(-outside, 1 + outside, (n, 2)) * 0.9 + 0.05
        description = f"{n} points on a {H} x {W} map" + (", some outside" if outside else "")
        yield description, positions, rng.uniform(0.1, 1, n), H, W


def check_heat_map(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``heat_map(positions_n2, weights_n, H, W)``."""
    cases = (Case(description, tuple(arguments)) for description, *arguments in _point_cases(seed))
    return check(function, heat_map, cases, MORE_HEAT_MISTAKES)


def check_spread(function: Callable[..., float], seed: int = 0) -> Verdict:
    """Check the reader's ``spread(positions_n2, weights_n)``."""
    cases = (Case(description, (positions, weights)) for description, positions, weights, *_ in _point_cases(seed))
    return check(function, spread, cases, SPREAD_MISTAKES)


def _share_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(12, 25))
        corner, size = rng.uniform(0.05, 0.4, 2), rng.uniform((0.3, 0.15), (0.6, 0.3))
        box = np.concatenate([corner, corner + size])
        around = corner + size * rng.uniform(-0.5, 1.5, (n, 2))
        yield Case(f"{n} points, box {box.round(2)}", (around, rng.uniform(0.1, 1, n), box))


def check_share_inside(function: Callable[..., float], seed: int = 0) -> Verdict:
    """Check the reader's ``share_inside(positions_n2, weights_n, box_4)``."""
    return check(function, share_inside, _share_cases(seed), SHARE_MISTAKES)
