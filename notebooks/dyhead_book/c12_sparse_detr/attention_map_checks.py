"""Check and mistakes of the decoder attention map in loops; NumPy arrays of one image, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dyhead_lab.detectors.detr.dam import decoder_attention_map as library_map
from dyhead_lab.ops.numba_reference import loops

from ..practice.cases import draw_sizes
from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax


def _map(locations: np.ndarray, weights: np.ndarray, shapes: np.ndarray, starts: np.ndarray, **options: Any) -> Any:
    """The library's map of one image."""
    r, A, sizes, first = (torch.from_numpy(array.copy()) for array in (locations[None], weights[None], shapes, starts))
    return library_map(r, A, sizes, first, tokens=int(shapes.prod(1).sum()), **options)[0].numpy()


def _overwriting(locations: np.ndarray, weights: np.ndarray, shapes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Every point overwrites what its tokens had received before."""
    dam_N = np.zeros(shapes.prod(1).sum())
    for q, m, level, p in np.ndindex(weights.shape):
        H, W = shapes[level]
        x, y = locations[q, m, level, p] * (W, H) - 0.5
        for row, column, share, _, _ in loops.around.py_func(y, x):
            if 0 <= row < H and 0 <= column < W:
                dam_N[starts[level] + row * W + column] = weights[q, m, level, p] * share
    return dam_N


def _wrapped(locations: np.ndarray, weights: np.ndarray, shapes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A row or column -1 is no token, and yet its number leads to one."""
    dam_N = np.zeros(shapes.prod(1).sum())
    for q, m, level, p in np.ndindex(weights.shape):
        H, W = shapes[level]
        x, y = locations[q, m, level, p] * (W, H) - 0.5
        for row, column, share, _, _ in loops.around.py_func(y, x):
            if row < H and column < W:
                dam_N[starts[level] + row * W + column] += weights[q, m, level, p] * share
    return dam_N


def _last_of_many(locations: np.ndarray, weights: np.ndarray, shapes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """``dam[tokens] += shares`` on arrays, one statement for each of the four tokens of a point."""
    dam_N = np.zeros(shapes.prod(1).sum())
    W, H = shapes[:, 1, None], shapes[:, 0, None]
    x, y = locations[..., 0] * W - 0.5, locations[..., 1] * H - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (0 <= row) & (row < H) & (0 <= column) & (column < W)
            token = starts[:, None] + row * W + column
            dam_N[token[inside]] += (weights * share_y * share_x)[inside]
    return dam_N


def _map_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """One point on one level; then several queries, heads and points; then several levels."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        Q, M, P = (1, 1, 1) if number == 0 else (int(n) for n in rng.integers(2, 4, 3))
        shapes = draw_sizes(rng, 1 if number < 3 else int(rng.integers(2, 4)))
        L, counts = len(shapes), shapes.prod(1)
        starts = np.concatenate([[0], counts.cumsum()[:-1]])
        weights = softmax(rng.normal(size=(Q, M, L, P)), (2, 3))
        inside = (0.3, 0.7) if number == 0 else (-0.1, 1.1)
        arguments = rng.uniform(*inside, size=(Q, M, L, P, 2)), weights, shapes, starts
        yield Case(f"{Q} queries, {M} heads, {P} points, levels {shapes.tolist()}", arguments)


def _snapped(locations: np.ndarray, shapes: np.ndarray, half: float) -> np.ndarray:
    """Locations moved to the centre of a cell: the nearest one (half = 0), or the one above and to the left (0.5)."""
    size = shapes[:, None, ::-1]
    return (np.floor(locations * size - half) + 0.5) / size


MAP_MISTAKES = (
    Mistake(
        "the half cell is forgotten",
        "the operator reads at r * W - 0.5, so that is where the weight has to go. The released code has this bug.",
        lambda r, A, s, n: _map(r, A, s, n, half_pixel=False),
    ),
    Mistake(
        "x and y are swapped",
        "a location is (x, y): x goes with W and with the column.",
        lambda r, A, s, n: _map(r[..., ::-1], A, s, n),
    ),
    Mistake(
        "the nearest token gets all of the weight",
        "the point reads four tokens: each gets its share G of the weight.",
        lambda r, A, s, n: _map(_snapped(r, s, 0), A, s, n),
    ),
    Mistake(
        "the token above and to the left gets all of the weight",
        "the point reads four tokens: each gets its share G of the weight.",
        lambda r, A, s, n: _map(_snapped(r, s, 0.5), A, s, n),
    ),
    Mistake(
        "points are counted, not their weights",
        "multiply the share of each token by the attention weight of the point.",
        lambda r, A, s, n: _map(r, np.ones_like(A), s, n),
    ),
    Mistake(
        "a point outside gives its weight to the border",
        "a token outside does not exist: that share is lost.",
        lambda r, A, s, n: _map(r.clip(0.5 / s[:, None, ::-1], 1 - 0.5 / s[:, None, ::-1]), A, s, n),
    ),
    Mistake(
        "all levels start at token 0",
        "level l starts at starts_L[l].",
        lambda r, A, s, n: _map(r, A, s, np.zeros_like(n)),
    ),
    Mistake(
        "every point overwrites what was there",
        "many points read one token: += and not =.",
        _overwriting,
    ),
    Mistake(
        "the map is a mean over the queries",
        "it is a sum: a token is important if many queries look at it.",
        lambda r, A, s, n: _map(r, A, s, n) / len(A),
    ),
    Mistake(
        "the map is a mean over the heads",
        "it is a sum over queries, heads and layers.",
        lambda r, A, s, n: _map(r, A, s, n) / A.shape[1],
    ),
)

#: What the check knows besides what the chapter plants.
MORE_MAP_MISTAKES = (
    *MAP_MISTAKES,
    Mistake(
        "a row or column below zero is looked up all the same",
        "row -1 or column -1 is no error in Python: the number leads into another row, or to the end. Skip it.",
        _wrapped,
    ),
    Mistake(
        "a token that several points read gets the weight of one of them",
        "dam[tokens] += shares adds once for each token. np.add.at(dam, tokens, shares) adds all; so does a loop.",
        _last_of_many,
    ),
)


def check_map(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``attention_map_loops(locations_QMLP2, weights_QMLP, shapes_L2, starts_L)``."""
    return check(function, _map, _map_cases(seed), MORE_MAP_MISTAKES)
