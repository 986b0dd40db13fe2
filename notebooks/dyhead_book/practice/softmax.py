"""Softmax of NumPy arrays, which the solutions and mistakes of several chapters are written with."""

from __future__ import annotations

import numpy as np


def softmax(x: np.ndarray, axis: int | tuple[int, ...] = -1) -> np.ndarray:
    """exp(x) over its sum along ``axis``; the largest value is taken off first, so that nothing overflows."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)
