"""What the fast paths of both operators share: finding the four pixels of a sample, and its gradient's way back."""

from __future__ import annotations

from math import floor

from .compile import fast, literal


@literal
def around(p_y, p_x, H, W):
    """The four pixels around a position as flat indices, -1 outside the image, and the four bilinear parts.

    Returns:
        (q00, q01, q10, q11), (top, bottom, left, right); pixel q01 weighs top * right, and so on.
    """
    zero, one = type(p_y)(0), type(p_y)(1)
    if not (-1 <= p_y < H and -1 <= p_x < W):  # far outside, or NaN
        return (-1, -1, -1, -1), (zero, zero, zero, zero)
    row, column = floor(p_y), floor(p_x)
    y, x = p_y - type(p_y)(row), p_x - type(p_y)(column)
    q = row * W + column
    above, below, before, after = row >= 0, row + 1 < H, column >= 0, column + 1 < W
    pixels = (
        q if above and before else -1,
        q + 1 if above and after else -1,
        q + W if below and before else -1,
        q + W + 1 if below and after else -1,
    )
    return pixels, (one - y, y, one - x, x)


@fast
def add_back(weight, grad, q, first, step, rows, grad_rows):
    """Add ``weight * grad`` to the gradient of pixel ``q``; return what the sample would gain from the pixel.

    rows: (any, channels); pixel 0 is row ``first``, and from pixel to pixel it is ``step`` rows.
    """
    dot = grad.dtype.type(0)
    if q >= 0:
        row, grad_row = rows[first + q * step], grad_rows[first + q * step]
        for c in range(len(grad)):
            grad_row[c] += weight * grad[c]
            dot += grad[c] * row[c]
    return dot
