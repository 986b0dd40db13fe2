"""Check and mistakes of the gradients of multi-scale deformable attention.

All functions take and return NumPy arrays in float64. The backward pass has the signature of
``ops/numba_reference/loops.py``; tests hold those loops against numerical differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dyhead_lab.ops.numba_reference import loops

from ..practice.cases import with_gradient
from ..practice.reader_checks import Case, Mistake, Verdict, check
from .multi_scale_checks import ms_deform_attn_cases

Gradients = tuple[np.ndarray, ...]
NAMES = ("grad", "value", "shapes", "starts", "locations", "weights")


def _attention_cases(seed: int, count: int = 6) -> Iterator[Case]:
    def shape(value, _shapes, _starts, locations, _weights):  # type: ignore[no-untyped-def]
        return *locations.shape[:3], value.shape[3]

    return with_gradient(ms_deform_attn_cases(seed, count), shape, seed)


def _attention(change: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """``change(value, locations, weights, a)`` gets the right gradients, and the arguments by name.

    ``a["size"]`` is (W, H) of each level, (L, 1, 2), and ``a["plain"]`` the gradients where all weights are 1.
    """

    def imitate(*arguments: np.ndarray) -> Gradients:
        a: dict[str, Any] = dict(zip(NAMES, arguments, strict=True))
        a["size"] = a["shapes"][:, None, ::-1]
        ones = (*arguments[:-1], np.ones_like(arguments[-1]))
        a["plain"] = loops.ms_deform_attn_backward(*ones)
        return change(*loops.ms_deform_attn_backward(*arguments), a)

    return imitate


def _last_reader(grad: np.ndarray, *arguments: np.ndarray) -> np.ndarray:
    """The gradient of the values when every sample overwrites what the ones before it gave a cell."""
    value, shapes, starts, locations, weights = arguments
    out = np.zeros_like(value)
    for b, q, m, l, p in np.ndindex(weights.shape):
        H, W = shapes[l]
        p_x, p_y = locations[b, q, m, l, p] * (W, H) - 0.5
        for row, column, share, _, _ in loops.around.py_func(p_y, p_x):
            if 0 <= row < H and 0 <= column < W:
                token = starts[l] + int(row) * W + int(column)
                out[b, token, m] = weights[b, q, m, l, p] * share * grad[b, q, m]
    return out


def _last_of_many(grad: np.ndarray, *arguments: np.ndarray) -> np.ndarray:
    """The gradient of the values by ``d[b, tokens, m] += ...`` on arrays: of the samples that meet one counts."""
    value, shapes, starts, locations, weights = arguments
    out = np.zeros_like(value)
    batch, head = np.arange(len(value))[:, None, None, None], np.arange(value.shape[2])[None, None, :, None]
    for level, ((H, W), start) in enumerate(zip(shapes.tolist(), starts.tolist(), strict=True)):
        x, y = locations[:, :, :, level, :, 0] * W - 0.5, locations[:, :, :, level, :, 1] * H - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
                inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
                token = np.where(inside, start + row * W + column, 0)
                share = weights[:, :, :, level] * share_y * share_x
                at = tuple(np.broadcast_to(index, inside.shape)[inside] for index in (batch, token, head))
                out[at] += (share[..., None] * grad[:, :, :, None])[inside]
    return out


def _last_cell(grad: np.ndarray, *arguments: np.ndarray) -> Gradients:
    """The gradients of locations and weights when each of the four cells overwrites what the one before it gave."""
    value, shapes, starts, locations, weights = arguments
    d_locations, d_weights = np.zeros_like(locations), np.zeros_like(weights)
    for b, q, m, l, p in np.ndindex(weights.shape):
        H, W = shapes[l]
        p_x, p_y = locations[b, q, m, l, p] * (W, H) - 0.5
        for row, column, share, slope_y, slope_x in loops.around.py_func(p_y, p_x):
            if 0 <= row < H and 0 <= column < W:
                matters = grad[b, q, m] @ value[b, starts[l] + row * W + column, m]
                d_locations[b, q, m, l, p] = weights[b, q, m, l, p] * matters * np.array([slope_x * W, slope_y * H])
                d_weights[b, q, m, l, p] = share * matters
    return d_locations, d_weights


def _from_token_0(*arguments: np.ndarray) -> Gradients:
    grad, value, shapes, starts, *others = arguments
    return loops.ms_deform_attn_backward(grad, value, shapes, np.zeros_like(starts), *others)


ATTENTION_BACKWARD_MISTAKES = (
    Mistake(
        "the last sample that reads a cell overwrites the others",
        "`=` stands where `+=` belongs: many queries read the same cell, and their gradients add up.",
        _attention(lambda v, l, w, a: (_last_reader(*(a[n] for n in NAMES)), l, w)),
    ),
    Mistake(
        "the gradient of the locations counts in cells",
        "a location of 1 is W cells: multiply the slope along x by W and that along y by H.",
        _attention(lambda v, l, w, a: (v, l / a["size"], w)),
    ),
    Mistake(
        "x and y are exchanged in the gradient of the locations",
        "a location is (x, y): entry 0 gets the slope along x.",
        _attention(lambda v, l, w, a: (v, l[..., ::-1], w)),
    ),
    Mistake(
        "the slope along x is multiplied by H, that along y by W",
        "spatial_shapes holds (H, W), locations hold (x, y).",
        _attention(lambda v, l, w, a: (v, l / a["size"] * a["size"][..., ::-1], w)),
    ),
    Mistake(
        "the attention weight is missing in the gradient of the locations",
        "out = A x: moving the point changes it by A times the slope.",
        _attention(lambda v, l, w, a: (v, a["plain"][1], w)),
    ),
    Mistake(
        "the attention weight is missing in the gradient of the values",
        "out = A x: a cell changes it by A times its share G.",
        _attention(lambda v, l, w, a: (a["plain"][0], l, w)),
    ),
    Mistake(
        "the gradient of the weights is multiplied by the weights",
        "out = A x: by A the slope is x, the sample itself.",
        _attention(lambda v, l, w, a: (v, l, w * a["weights"])),
    ),
    Mistake(
        "the softmax is differentiated too",
        "the weights are arguments here. The softmax before them has a backward pass of its own.",
        _attention(lambda v, l, w, a: (v, l, a["weights"] * (w - (a["weights"] * w).sum((3, 4), keepdims=True)))),
    ),
    Mistake(
        "a cell that several samples read gets the gradient of one of them",
        "d[b, tokens, m] += g adds once for each cell. np.add.at adds all; so does a loop.",
        _attention(lambda v, l, w, a: (_last_of_many(*(a[n] for n in NAMES)), l, w)),
    ),
    Mistake(
        "the gradient of the locations is assigned, not added to",
        "`=` stands where `+=` belongs: all four cells of a sample pull at its location.",
        _attention(lambda v, l, w, a: (v, _last_cell(*(a[n] for n in NAMES))[0], w)),
    ),
    Mistake(
        "the gradient of the weights is assigned, not added to",
        "`=` stands where `+=` belongs: the sample is a sum over four cells.",
        _attention(lambda v, l, w, a: (v, l, _last_cell(*(a[n] for n in NAMES))[1])),
    ),
    Mistake(
        "every level is read from the first token on",
        "level l starts at token level_start_index[l].",
        _from_token_0,
    ),
)


def check_attention_backward(function: Callable[..., Gradients], seed: int = 0) -> Verdict:
    """Check the reader's ``ms_deform_attn_backward(grad, value, shapes, starts, locations, weights)``: three arrays."""
    return check(function, loops.ms_deform_attn_backward, _attention_cases(seed), ATTENTION_BACKWARD_MISTAKES)
