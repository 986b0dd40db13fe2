"""What the fast paths of both operators share: finding the pixels of a sample, and its gradient's way back."""

from __future__ import annotations

import numpy as np

from ..numba_compile import fast, literal
from .lanes import LANES, load, store, total, zeros

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


@fast
def add_back(plain, weight, grad, sample, x, row, grad_x):
    """Add ``weight`` times a sample's gradient to a pixel's gradient; return what the sample gains from the pixel.

    grad: (samples, channels); x and grad_x: (rows, channels). A negative ``row`` stands for a pixel outside,
    which neither gains nor gives. ``plain``: see ``parts.py``.
    """
    if row < 0:
        return x.dtype.type(0)
    if plain is None:
        dots = zeros(x)
        for c in range(0, x.shape[1], LANES):
            dy = load(grad, sample, c)
            store(grad_x, row, c, load(grad_x, row, c) + weight * dy)
            dots = dots + dy * load(x, row, c)
        return total(dots)
    dot = x.dtype.type(0)
    for c in range(x.shape[1]):
        dot += grad[sample, c] * x[row, c]
    for c in range(x.shape[1]):  # by itself: a loop that only sums needs no check that arrays overlap
        grad_x[row, c] += weight * grad[sample, c]
    return dot
