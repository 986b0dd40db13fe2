"""Checks, mistakes and solutions of the chapters on deformable convolution.

All functions take NumPy arrays in float64. The signatures are those of ``ops/numba_reference/loops.py``, so that the
reader's functions and the library's pass the same checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dyhead_lab.ops import formula

from ..practice.checks import Case, Mistake, Verdict, check
from ..practice.drills import drill

FAR = 64  # pixels; wider than any offset of a case


# Bilinear sampling


def bilinear_formula(image_HW: np.ndarray, p_y: float, p_x: float) -> float:
    image = torch.from_numpy(image_HW.copy())[None]
    y, x = (torch.tensor([p], dtype=torch.float64) for p in (p_y, p_x))
    return float(formula.bilinear(image, y, x))


def bilinear_cases(seed: int = 0, count: int = 40) -> Iterator[Case]:
    """Positions inside, on the border, outside, and exactly on a pixel, in images of many sizes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        H, W = (int(n) for n in rng.integers(1, 8, 2))
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
    Mistake(*_CUT, _truncated(lambda corner, first, p: 1 - abs(corner - p))),
    Mistake(*_CUT, _truncated(lambda corner, first, p: p - first if corner > first else 1 - (p - first))),
)


def check_bilinear(function: Callable[[np.ndarray, float, float], float], seed: int = 0) -> Verdict:
    """Check the reader's ``bilinear(image_HW, p_y, p_x)``."""
    return check(function, bilinear_formula, bilinear_cases(seed), BILINEAR_MISTAKES)


# Deformable convolution


def deform_conv2d_formula(input, offset, weight, mask, stride, padding, dilation) -> np.ndarray:  # type: ignore[no-untyped-def]
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in (input, offset, weight, mask))
    x, dp, w, dm = tensors
    return formula.deform_conv2d(x, dp, w, None, stride, padding, dilation, dm).numpy()


def deform_conv2d_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """From one plain case to strides, dilations, offset groups and grouped weights; always 3 x 3 taps."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        stride, padding, dilation = (
            tuple(int(n) for n in rng.integers(low, high, 2)) if number >= 3 else (1, 1)
            for low, high in ((1, 3), (0, 3), (1, 3))
        )
        G, groups = ((1, 1), (2, 1), (1, 2), (2, 2))[number % 4 if number >= 3 else 0]
        B, C, Co, H, W = 1 + number % 2, 4, 2, int(rng.integers(5, 8)), int(rng.integers(5, 8))
        Ho, Wo = (
            (size + 2 * pad - 2 * step - 1) // move + 1
            for size, pad, step, move in zip((H, W), padding, dilation, stride, strict=True)
        )
        arrays = (
            rng.normal(size=(B, C, H, W)),
            2 * rng.normal(size=(B, 18 * G, Ho, Wo)),
            rng.normal(size=(Co, C // groups, 3, 3)),
            rng.uniform(size=(B, 9 * G, Ho, Wo)),
        )
        description = f"input {B} x {C} x {H} x {W}, {G} offset group(s), {groups} group(s), stride {stride}, "
        yield Case(f"{description}padding {padding}, dilation {dilation}", (*arrays, stride, padding, dilation))


def _changed(**changes: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The right function on changed arguments: ``_changed(mask=lambda a: ...)`` gets all arguments by name."""
    names = ("input", "offset", "weight", "mask", "stride", "padding", "dilation")

    def imitate(*arguments: Any) -> np.ndarray:
        a = dict(zip(names, arguments, strict=True))
        return deform_conv2d_formula(*{**a, **{name: change(a) for name, change in changes.items()}}.values())

    return imitate


def _pairs(a: dict[str, Any]) -> np.ndarray:
    """Offsets as (B, G, K, 2, Ho, Wo)."""
    B, _, Ho, Wo = a["offset"].shape
    return a["offset"].reshape(B, -1, 9, 2, Ho, Wo)


def _planes(a: dict[str, Any]) -> np.ndarray:
    """Offsets that were read as all dy first, then all dx."""
    B, _, Ho, Wo = a["offset"].shape
    return a["offset"].reshape(B, -1, 2, 9, Ho, Wo).swapaxes(2, 3)


DEFORM_CONV2D_MISTAKES = (
    Mistake(
        "x and y are swapped in the offsets",
        "of each tap's two channels the first is dy, the second dx.",
        _changed(offset=lambda a: _pairs(a)[:, :, :, ::-1].reshape(a["offset"].shape)),
    ),
    Mistake(
        "the offsets are read as all dy first, then all dx",
        "they alternate: channel 2k is dy of tap k, channel 2k + 1 its dx.",
        _changed(offset=lambda a: _planes(a).reshape(a["offset"].shape)),
    ),
    Mistake(
        "the mask is missing",
        "multiply every sample by dm_k.",
        _changed(mask=lambda a: np.ones_like(a["mask"])),
    ),
    Mistake(
        "half a pixel is subtracted",
        "here the centre of the first pixel is (0, 0), not (0.5, 0.5).",
        _changed(offset=lambda a: a["offset"] - 0.5),
    ),
    Mistake(
        "half a pixel is added",
        "here the centre of the first pixel is (0, 0), not (0.5, 0.5).",
        _changed(offset=lambda a: a["offset"] + 0.5),
    ),
    Mistake(
        "the offsets are forgotten",
        "the position is p_0 + p_k + dp_k.",
        _changed(offset=lambda a: np.zeros_like(a["offset"])),
    ),
    Mistake(
        "positions are cut to whole pixels",
        "read between the pixels with bilinear interpolation.",
        _changed(offset=lambda a: np.floor(a["offset"])),
    ),
    Mistake(
        "a position outside reads the border instead of zero",
        "skip a pixel that lies outside the image; do not clamp its index.",
        _changed(
            input=lambda a: np.pad(a["input"], ((0, 0), (0, 0), (FAR, FAR), (FAR, FAR)), mode="edge"),
            offset=lambda a: a["offset"] + FAR,
        ),
    ),
    Mistake(
        "rows and columns of the kernel are swapped",
        "tap k lies in row k // 3 and column k % 3.",
        _changed(weight=lambda a: a["weight"].swapaxes(2, 3)),
    ),
    Mistake(
        "the kernel is flipped",
        "deep learning's convolution is a correlation: tap (0, 0) reads above and to the left.",
        _changed(weight=lambda a: a["weight"][:, :, ::-1, ::-1]),
    ),
    Mistake("the padding is forgotten", "p_0 is i * stride - padding.", _changed(padding=lambda a: (0, 0))),
    Mistake("the stride is forgotten", "p_0 is i * stride - padding.", _changed(stride=lambda a: (1, 1))),
    Mistake(
        "the dilation is forgotten",
        "p_k is k // 3 * dilation, and k % 3 * dilation.",
        _changed(dilation=lambda a: (1, 1)),
    ),
)


def check_deform_conv2d(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``deform_conv2d(input, offset, weight, mask, stride, padding, dilation)``."""
    return check(function, deform_conv2d_formula, deform_conv2d_cases(seed), DEFORM_CONV2D_MISTAKES)


def planted_bug(number: int) -> Callable[..., np.ndarray]:
    """A ``deform_conv2d`` with one of the mistakes above in it, for the reader to find."""
    return drill(DEFORM_CONV2D_MISTAKES, number)
