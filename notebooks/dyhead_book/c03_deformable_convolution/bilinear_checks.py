"""Checks, mistakes and solution of bilinear sampling.

All functions take NumPy arrays in float64. The signature is that of ``ops/numba_reference/loops.py``, so that the
reader's function and the library's pass the same check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from dyhead_lab.ops import formula

from ..practice.cases import FAR
from ..practice.reader_checks import Case, Mistake, Verdict, check


def bilinear_formula(image_HW: np.ndarray, p_y: float, p_x: float) -> float:
    image = torch.from_numpy(image_HW.copy())[None]
    y, x = (torch.tensor([p], dtype=torch.float64) for p in (p_y, p_x))
    return float(formula.bilinear(image, y, x))


def bilinear_cases(seed: int = 0, count: int = 40) -> Iterator[Case]:
    """Positions inside, on the border, outside, and exactly on a pixel, in images of many sizes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        H, W = (int(n) for n in rng.integers(2, 8, 2))
        p_y, p_x = rng.uniform(-1.5, H + 0.5), rng.uniform(-1.5, W + 0.5)
        if number < 5:  # begin where nothing is special
            H, W, p_y, p_x = 6, 7, rng.uniform(1, 4), rng.uniform(1, 5)
        elif number % 8 == 0:
            p_y, p_x = math.floor(p_y), math.floor(p_x)
        image = rng.normal(size=(H, W))
        yield Case(f"image {H} x {W}, position ({p_y:.3f}, {p_x:.3f})", (image, float(p_y), float(p_x)))


def _far_gets_most(image: np.ndarray, p_y: float, p_x: float) -> float:
    row, column = math.floor(p_y), math.floor(p_x)
    return bilinear_formula(image, row + 1 - (p_y - row), column + 1 - (p_x - column))


def _clamped(image: np.ndarray, p_y: float, p_x: float) -> float:
    return bilinear_formula(np.pad(image, FAR, mode="edge"), p_y + FAR, p_x + FAR)


def _wrapped(image: np.ndarray, p_y: float, p_x: float) -> float:
    """Rows and columns below zero are counted from the end; those past the end count as zero."""
    H, W = image.shape
    wide = np.pad(np.tile(image, (2, 2)), ((0, H), (0, W)))
    return bilinear_formula(wide, p_y + H, p_x + W)


def _truncated(weight: Callable[[int, int, float], float]) -> Callable[[np.ndarray, float, float], float]:
    """Bilinear sampling with int() for floor(); ``weight(corner, first, p)`` is one of the ways to write G."""

    def imitate(image: np.ndarray, p_y: float, p_x: float) -> float:
        total, row, column = 0.0, int(p_y), int(p_x)
        for i in (row, row + 1):
            for j in (column, column + 1):
                if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                    total += weight(i, row, p_y) * weight(j, column, p_x) * image[i, j]
        return total

    return imitate


_CUT = ("a negative position is cut towards zero", "int(-0.3) is 0, math.floor(-0.3) is -1.")


BILINEAR_MISTAKES = (
    Mistake(
        "x and y are swapped",
        "rows belong to y and come first: image_HW[row, column].",
        lambda image, p_y, p_x: bilinear_formula(image, p_x, p_y),
    ),
    Mistake(
        "half a pixel is subtracted",
        "here the centre of the first pixel is (0, 0), not (0.5, 0.5).",
        lambda image, p_y, p_x: bilinear_formula(image, p_y - 0.5, p_x - 0.5),
    ),
    Mistake(
        "half a pixel is added",
        "here the centre of the first pixel is (0, 0), not (0.5, 0.5).",
        lambda image, p_y, p_x: bilinear_formula(image, p_y + 0.5, p_x + 0.5),
    ),
    Mistake("the farthest pixel gets the largest weight", "G is 1 - |q - p|, not |q - p|.", _far_gets_most),
    Mistake(
        "only one pixel is read, the one above and to the left",
        "sum over four pixels, each with its G.",
        lambda image, p_y, p_x: bilinear_formula(image, math.floor(p_y), math.floor(p_x)),
    ),
    Mistake(
        "only the nearest pixel is read",
        "sum over four pixels, each with its G.",
        lambda image, p_y, p_x: bilinear_formula(image, math.floor(p_y + 0.5), math.floor(p_x + 0.5)),
    ),
    Mistake(
        "a position outside reads the border instead of zero",
        "skip a pixel that lies outside the image; do not clamp its index.",
        _clamped,
    ),
    Mistake(
        "a row or column below zero is counted from the other end",
        "image[-1] is NumPy's last row. A pixel with a negative row or column lies outside: skip it.",
        _wrapped,
    ),
    Mistake(*_CUT, _truncated(lambda corner, first, p: 1 - abs(corner - p))),
    Mistake(*_CUT, _truncated(lambda corner, first, p: p - first if corner > first else 1 - (p - first))),
)


def check_bilinear(function: Callable[[np.ndarray, float, float], float], seed: int = 0) -> Verdict:
    """Check the reader's ``bilinear(image_HW, p_y, p_x)``."""
    return check(function, bilinear_formula, bilinear_cases(seed), BILINEAR_MISTAKES)
