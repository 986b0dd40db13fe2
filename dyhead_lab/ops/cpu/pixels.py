"""What the fast paths of both operators share: finding the pixels of a sample, and its gradient's way back."""

from __future__ import annotations

import numpy as np

from ..numba_compile import fast, literal
from .lanes import LANES, load, store, total, zeros


@literal
def axis(p, size):
    """The two pixels around position ``p`` on an axis of ``size`` pixels, without a branch.

    A pixel outside becomes the nearest one inside, with weight and slope 0, which changes nothing as long as that
    pixel is a finite number. A ``p`` that is NaN finds pixel 0 with weight 0. All numbers have the dtype of ``p``, so
    that a loop over positions fills vector units.

    Returns:
        (low, high), (weight of low, of high), (slope of low, of high): slopes are the weights' derivatives by p.
    """
    zero, one = type(p)(0), type(p)(1)
    low = np.floor(p)
    part = p - low
    low_inside, high_inside = (low >= zero) & (low < size), (low >= -one) & (low < size - one)
    below = zero if low < zero or p != p else size - one
    pixels = low if low_inside else below, low + one if high_inside else below
    weights = one - part if low_inside else zero, part if high_inside else zero
    slopes = -one if low_inside else zero, one if high_inside else zero
    return pixels, weights, slopes


@fast
def add_back(weight, grad, sample, x, row, grad_x):
    """Add ``weight`` times a sample's gradient to a pixel's gradient; return what the sample gains from the pixel.

    grad: (samples, channels); x and grad_x: (rows, channels).
    """
    dot = zeros(x)
    for c in range(0, x.shape[1], LANES):
        dy = load(grad, sample, c)
        store(grad_x, row, c, load(grad_x, row, c) + weight * dy)
        dot = dot + dy * load(x, row, c)
    return total(dot)
