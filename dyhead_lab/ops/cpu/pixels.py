"""What the fast paths of both operators share: finding the pixels of a sample, and its gradient's way back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..numba_compile import fast, inlined, literal
from .lanes import LANES, load, store, totals, zeros

#: In place of a pixel that lies outside the image.
OUTSIDE = -1


@literal
def axis(p, size):
    """The two pixels around position ``p`` on an axis of ``size`` pixels, without a branch.

    A pixel outside is :data:`OUTSIDE`, with weight 0; its slope meets no gradient. Where ``p`` is NaN or
    infinite, both pixels are outside, and weights and slopes are NaN: they carry the mistake into every result. All
    numbers have the dtype of ``p``, so that a loop over positions fills vector units.

    Returns:
        (low, high), (weight of low, of high), (slope of low, of high): slopes are the weights' derivatives by p.
    """
    zero, one, outside = type(p)(0), type(p)(1), type(p)(OUTSIDE)
    low = np.floor(p)
    part = p - low
    nothing = p - p  # 0, or NaN where p is not finite
    slope = one + nothing
    low_inside, high_inside = (low >= zero) & (low < size), (low >= -one) & (low < size - one)
    pixels = low if low_inside else outside, low + one if high_inside else outside
    weights = one - part if low_inside else nothing, part if high_inside else nothing
    return pixels, weights, (-slope, slope)


class Points(NamedTuple):
    """What the points of a block meet: the level's (H, W) as floats, and its first token."""

    H: np.ndarray
    W: np.ndarray
    start: np.ndarray


@fast
def find_axis(positions, sizes, pixels, weights):
    """The two pixels around each position on one axis, and their weights: (2, n) each.

    A loop that writes little is one that fills vector units: the compiler need not fear that arrays overlap.
    """
    for n in range(len(positions)):
        found, _, _ = axis(positions[n], sizes[n])
        pixels[0, n], pixels[1, n] = found
    for n in range(len(positions)):
        _, shares, _ = axis(positions[n], sizes[n])
        weights[0, n], weights[1, n] = shares


@fast
def find_slopes(positions, sizes, slopes):
    """Derivatives of the weights of :func:`find_axis` by the position."""
    for n in range(len(positions)):
        _, _, (slopes[0, n], slopes[1, n]) = axis(positions[n], sizes[n])


@fast
def find_tokens(points, rows, columns, outside, tokens):
    """The tokens of the four pixels around each point, (4, n); ``outside`` for a pixel outside the level."""
    for i in range(4):
        row, column, token = rows[i // 2], columns[i % 2], tokens[i]
        for n in range(len(token)):
            pixel = points.start[n] + np.int32(row[n]) * np.int32(points.W[n]) + np.int32(column[n])
            token[n] = pixel if (row[n] >= 0) & (column[n] >= 0) else outside


@fast
def find_pixels(points, positions, pixels, shares, slopes, tokens):
    """All that a way back needs of points at ``positions``, (2, n): y first in each; see the functions above."""
    find_axis(positions[0], points.H, pixels[:2], shares[:2])
    find_axis(positions[1], points.W, pixels[2:], shares[2:])
    find_slopes(positions[0], points.H, slopes[:2])
    find_slopes(positions[1], points.W, slopes[2:])
    find_tokens(points, pixels[:2], pixels[2:], OUTSIDE, tokens)


@inlined
def exchange(lanes, weight, dy, x, row, first, grad_x, dots):
    """Add ``weight * dy`` to a pixel's gradient, and ``dy`` times the pixel to ``dots``, for lanes of channels.

    x and grad_x: (rows, channels). A negative ``row`` stands for a pixel outside, which neither gains nor gives.
    """
    if row < 0:
        return dots
    store(lanes, grad_x, row, first, load(lanes, grad_x, row, first) + weight * dy)
    return dots + dy * load(lanes, x, row, first)


@fast
def exchange_in_loops(weight, grad, sample, x, row, grad_x):
    """The same for all channels of a row of ``grad``, in plain loops."""
    dot = x.dtype.type(0)
    if row >= 0:
        for c in range(x.shape[1]):
            dot += grad[sample, c] * x[row, c]
        for c in range(x.shape[1]):  # by itself: a loop that only sums needs no check that arrays overlap
            grad_x[row, c] += weight * grad[sample, c]
    return dot


@inlined
def add_back(lanes, weights, grad, sample, x, rows, grad_x):
    """Add a sample's gradient to its four pixels; return what the sample gains from each.

    grad: (samples, channels); x and grad_x: (rows, channels). ``lanes``: see ``lanes.py``.
    """
    w0, w1, w2, w3 = weights
    r0, r1, r2, r3 = rows
    if lanes is not None:
        d0, d1, d2, d3 = zeros(x), zeros(x), zeros(x), zeros(x)
        for c in range(0, x.shape[1], LANES):
            dy = load(lanes, grad, sample, c)
            d0 = exchange(lanes, w0, dy, x, r0, c, grad_x, d0)
            d1 = exchange(lanes, w1, dy, x, r1, c, grad_x, d1)
            d2 = exchange(lanes, w2, dy, x, r2, c, grad_x, d2)
            d3 = exchange(lanes, w3, dy, x, r3, c, grad_x, d3)
        return totals(d0, d1, d2, d3)
    return (
        exchange_in_loops(w0, grad, sample, x, r0, grad_x),
        exchange_in_loops(w1, grad, sample, x, r1, grad_x),
        exchange_in_loops(w2, grad, sample, x, r2, grad_x),
        exchange_in_loops(w3, grad, sample, x, r3, grad_x),
    )


@inlined
def back_through(lanes, a, shares, slopes, rows, grad, sample, x, grad_x):
    """Lead the gradient of a sample, ``a`` times its four pixels, to these pixels; return those to a, y and x.

    shares, slopes: the weights of upper, lower, left and right, and their derivatives.
    """
    (top, bottom, left, right), (top_slope, bottom_slope, left_slope, right_slope) = shares, slopes
    weights = a * top * left, a * top * right, a * bottom * left, a * bottom * right
    d00, d01, d10, d11 = add_back(lanes, weights, grad, sample, x, rows, grad_x)
    upper, lower = left * d00 + right * d01, left * d10 + right * d11
    sum_x = left_slope * (top * d00 + bottom * d10) + right_slope * (top * d01 + bottom * d11)
    return top * upper + bottom * lower, a * (top_slope * upper + bottom_slope * lower), a * sum_x
