"""Checks and mistakes for the gradients of deformable convolution: the slope of a sample, and all of them.

All functions take and return NumPy arrays in float64. The backward passes have the signatures of
``ops/numba_reference/loops.py``, whose loops are the solutions; tests hold those against numerical differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from dyhead_lab.ops import formula
from dyhead_lab.ops.numba_reference import loops

from ..practice.cases import with_gradient
from ..practice.reader_checks import Case, Mistake, Verdict, check
from .bilinear_checks import bilinear_cases
from .conv_checks import deform_conv2d_cases

Gradients = tuple[np.ndarray, ...]
Change = Callable[..., np.ndarray]

# The slope of a sample


def bilinear_slope(image_HW, p_y, p_x):  # type: ignore[no-untyped-def]
    """dx(p)/dp_y: how much larger the pixels below are than those above. At a kink: the slope of the floor side."""
    H, W = image_HW.shape
    row, column = math.floor(p_y), math.floor(p_x)
    part_x = p_x - column

    def pixel(i, j):  # type: ignore[no-untyped-def]
        return image_HW[i, j] if 0 <= i < H and 0 <= j < W else 0.0

    left = pixel(row + 1, column) - pixel(row, column)
    right = pixel(row + 1, column + 1) - pixel(row, column + 1)
    return (1 - part_x) * left + part_x * right


def slope_cases(seed: int = 0) -> Iterator[Case]:
    """Positions of :func:`bilinear_cases`, and rows at a kink."""
    yield from bilinear_cases(seed)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        H, W = (int(n) for n in rng.integers(3, 7, 2))
        p_y, p_x = float(rng.integers(1, H - 1)), float(rng.uniform(0, W - 1))
        yield Case(f"image {H} x {W}, at the kink ({p_y:.0f}, {p_x:.3f})", (rng.normal(size=(H, W)), p_y, p_x))


def _above(image: np.ndarray, p_y: float, p_x: float) -> float:
    """The slope of the ceil side: a position just above."""
    return bilinear_slope(image, np.nextafter(p_y, -np.inf), p_x)


SLOPE_MISTAKES = (
    Mistake(
        "the sign is wrong",
        "G of a pixel above is 1 - (p_y - row): its slope is negative. A pixel below has a positive one.",
        lambda image, p_y, p_x: -bilinear_slope(image, p_y, p_x),
    ),
    Mistake(
        "the slope is taken along x",
        "p_y moves from row to row: compare pixels of the same column.",
        lambda image, p_y, p_x: bilinear_slope(image.T, p_x, p_y),
    ),
    Mistake(
        "only the left column is read",
        "two columns share the sample: 1 - part_x of the left, part_x of the right.",
        lambda image, p_y, p_x: bilinear_slope(image, p_y, math.floor(p_x)),
    ),
    Mistake(
        "the shares of the columns are swapped",
        "the left column has the share 1 - part_x: the nearer, the more.",
        lambda image, p_y, p_x: bilinear_slope(image, p_y, 2 * math.floor(p_x) + 1 - p_x),
    ),
    Mistake(
        "at a kink the slope of the row above is taken",
        "the field follows the floor side: with p_y = 2 the slope is that between rows 2 and 3.",
        _above,
    ),
    Mistake(
        "at a kink both sides are averaged",
        "automatic differentiation of max(0, 1 - |a - b|) may do that. The field follows the floor side.",
        lambda image, p_y, p_x: (bilinear_slope(image, p_y, p_x) + _above(image, p_y, p_x)) / 2,
    ),
)


def check_slope(function: Callable[[np.ndarray, float, float], float], seed: int = 0) -> Verdict:
    """Check the reader's ``bilinear_slope(image_HW, p_y, p_x)``."""
    return check(function, bilinear_slope, slope_cases(seed), SLOPE_MISTAKES, tolerance=1e-9)  # nextafter costs digits


# The backward pass of deformable convolution


def backward_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """Those of the operator, with a gradient of its output in front."""

    def shape(x, dp, w, *_):  # type: ignore[no-untyped-def]
        return x.shape[0], w.shape[0], *dp.shape[2:]

    return with_gradient(deform_conv2d_cases(seed, count), shape, seed)


#: input, offset, weight, mask: places in the answer and, one further on, among the arguments.
INPUT, OFFSET, WEIGHT, MASK = range(4)


def _conv(place: int, change: Change, **other: Change) -> Callable[..., Gradients]:
    """The right gradients but one: ``change(gradient, *arguments)``, computed with ``other`` arguments if any."""
    names = ("grad", "input", "offset", "weight", "mask", "stride", "padding", "dilation")

    def imitate(*arguments: Any) -> Gradients:
        right = list(loops.deform_conv2d_backward(*arguments))
        a = dict(zip(names, arguments, strict=True))
        changed = {**a, **{name: replace(a[name]) for name, replace in other.items()}}
        right[place] = change(loops.deform_conv2d_backward(*changed.values())[place], *arguments)
        return tuple(right)

    return imitate


def _same(gradient: np.ndarray, *_: Any) -> np.ndarray:
    return gradient


def _swapped(gradient: np.ndarray, *_: Any) -> np.ndarray:
    B, channels, Ho, Wo = gradient.shape
    return gradient.reshape(B, -1, 2, Ho, Wo)[:, :, ::-1].reshape(B, channels, Ho, Wo)


def _last_write(taps, grad, input, offset, weight, mask, stride, padding, dilation):  # type: ignore[no-untyped-def]
    """The gradient of the input by ``d[rows, columns] += ...`` on arrays of indices: of those that meet, one counts.

    One statement a corner of the four; ``taps`` says which taps share it: one at a time, or all nine.
    """
    (B, C, H, W), (Co, C_group), (Ho, Wo) = input.shape, weight.shape[:2], mask.shape[2:]
    G = mask.shape[1] // 9
    dp = torch.from_numpy(np.ascontiguousarray(offset))
    y, x = (p.numpy() for p in formula.tap_positions(dp, (3, 3), stride, padding, dilation))
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    result = np.zeros_like(input)
    for b, c, (down, right), k in product(range(B), range(C), product((0, 1), (0, 1)), taps):
        g, part = c // (C // G), c // C_group * (Co * C_group // C)
        outputs = slice(part, part + Co * C_group // C)
        w = weight[outputs, c % C_group].reshape(-1, 9)[:, k]
        share_y, share_x = (1 - np.abs(at + step - p) for at, step, p in ((row, down, y), (column, right, x)))
        share = (share_y * share_x)[b, g, k]
        sample = np.einsum("okij,ok->kij", grad[b, outputs][:, None].repeat(len(k), 1), w)
        value = sample * mask[b].reshape(G, 9, Ho, Wo)[g, k] * share
        r, q = row[b, g, k] + down, column[b, g, k] + right
        inside = (r >= 0) & (r < H) & (q >= 0) & (q < W)
        result[b, c][r[inside], q[inside]] += value[inside]
    return result


def _scattered(taps: Sequence[Sequence[int]]) -> Callable[..., Gradients]:
    def imitate(*arguments: Any) -> Gradients:
        right = loops.deform_conv2d_backward(*arguments)
        return _last_write([list(k) for k in taps], *arguments), *right[1:]

    return imitate


def _in_loops(*arguments: Any, assigned: int | None = None, by_place: bool = False, wraps: bool = False) -> Gradients:
    """The backward pass in the loops of the chapter.

    assigned: the gradient in which `=` stands for `+=`; by_place: places outside, taps inside, not the other way;
    wraps: rows and columns below zero are not skipped.
    """
    grad, input, offset, weight, mask, stride, padding, dilation = arguments
    gradients = tuple(np.zeros_like(array) for array in (input, offset, weight, mask))
    (B, C, H, W), (Co, C_group), G = input.shape, weight.shape[:2], mask.shape[1] // 9

    def give(place: int, index: tuple[int, ...], value: float) -> None:
        gradients[place][index] = value if place == assigned else gradients[place][index] + value

    places, taps = list(np.ndindex(mask.shape[2:])), list(np.ndindex(G, 9))
    pairs = ((tap, at) for at in places for tap in taps) if by_place else product(taps, places)
    for b, ((g, k), (i, j)) in product(range(B), pairs):
        p_y, p_x = loops.tap_position.py_func(offset, b, g, k, i, j, 3, 3, stride, padding, dilation)
        m, tap = mask[b, 9 * g + k, i, j], (k // 3, k % 3)
        for c in range(g * C // G, (g + 1) * C // G):
            first, Co_group = c // C_group * (Co * C_group // C), Co * C_group // C
            outputs = range(first, first + Co_group)
            pull = sum(grad[b, o, i, j] * weight[o, c % C_group, *tap] for o in outputs)
            sample = 0.0
            for row, column, share, slope_y, slope_x in loops.around.py_func(p_y, p_x):
                if (wraps or (row >= 0 and column >= 0)) and row < H and column < W:
                    x = input[b, c, row, column]
                    sample += share * x
                    give(INPUT, (b, c, row, column), pull * m * share)
                    give(OFFSET, (b, 18 * g + 2 * k, i, j), pull * m * slope_y * x)
                    give(OFFSET, (b, 18 * g + 2 * k + 1, i, j), pull * m * slope_x * x)
            give(MASK, (b, 9 * g + k, i, j), pull * sample)
            for o in outputs:
                give(WEIGHT, (o, c % C_group, *tap), grad[b, o, i, j] * sample * m)
    return gradients


def _assigned(name: str, place: int, why: str, by_place: bool = False) -> Mistake:
    return Mistake(
        f"the gradient of the {name} is assigned, not added to",
        f"`=` stands where `+=` belongs: {why}",
        lambda *arguments: _in_loops(*arguments, assigned=place, by_place=by_place),
    )


def _one_offset_group(*arguments: Any) -> Gradients:
    """As if there were one offset group: the others are neither read nor given a gradient."""
    grad, input, offset, weight, mask, *geometry = arguments
    own = offset[:, :18].copy(), mask[:, :9].copy()
    d_input, d_offset, d_weight, d_mask = loops.deform_conv2d_backward(grad, input, own[0], weight, own[1], *geometry)
    wide = [np.zeros_like(array) for array in (offset, mask)]
    wide[0][:, :18], wide[1][:, :9] = d_offset, d_mask
    return d_input, wide[0], d_weight, wide[1]


_LOST = (
    "a pixel that several samples read gets the gradient of one of them",
    "d[rows, columns] += g adds once for each pixel. np.add.at(d, (rows, columns), g) adds all; so does a loop.",
)

CONV_BACKWARD_MISTAKES = (
    Mistake(
        "dy and dx are swapped in the gradient of the offsets",
        "channel 2k is dy of tap k: it gets the slope along y.",
        _conv(OFFSET, _swapped),
    ),
    Mistake(
        "the gradient of the offsets has the wrong sign",
        "a pixel above has the slope -(1 - part_x), one below the slope 1 - part_x.",
        _conv(OFFSET, lambda gradient, *_: -gradient),
    ),
    Mistake(
        "the mask is missing in the gradient of the offsets",
        "y = w x m: moving the sample changes y by w m times the slope.",
        _conv(OFFSET, _same, mask=np.ones_like),
    ),
    Mistake(
        "the mask is missing in the gradient of the input",
        "y = w x m: a pixel changes y by w m times its share G.",
        _conv(INPUT, _same, mask=np.ones_like),
    ),
    Mistake(
        "the mask is missing in the gradient of the weight",
        "y = w x m: the weight is multiplied by x m.",
        _conv(WEIGHT, _same, mask=np.ones_like),
    ),
    Mistake(
        "the gradient of the mask is multiplied by the mask",
        "y = w x m: by m the slope is w x.",
        _conv(MASK, lambda gradient, *arguments: gradient * arguments[1 + MASK]),
    ),
    Mistake(
        "only the nearest pixel gets the gradient of the input",
        "a sample read four pixels. Each gets the gradient times its own share G.",
        _conv(INPUT, _same, offset=np.round),
    ),
    Mistake(*_LOST, _scattered([[k] for k in range(9)])),
    Mistake(*_LOST, _scattered([range(9)])),
    *(_assigned("input", INPUT, "several samples read one pixel.", by_place) for by_place in (False, True)),
    _assigned("offsets", OFFSET, "every channel and every pixel of a sample pulls at its offset."),
    _assigned("weight", WEIGHT, "a weight is used at every place of every image."),
    _assigned("masks", MASK, "every channel of the offset group is multiplied by the same mask."),
    Mistake(
        "a row or column below zero is counted from the other end",
        "input[-1] is NumPy's last row. A pixel with a negative row or column lies outside: skip it.",
        lambda *arguments: _in_loops(*arguments, wraps=True),
    ),
    Mistake(
        "all channels take the offsets and masks of the first offset group",
        "channel c belongs to offset group c // (C // G), whose offsets begin at channel 18 g and masks at 9 g.",
        _one_offset_group,
    ),
)
