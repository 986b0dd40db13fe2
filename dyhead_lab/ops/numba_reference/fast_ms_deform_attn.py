"""Multi-scale deformable attention, fast on a CPU.

For one query and head, first find the pixels of all its points in one loop without branches; then read these rows
of channels. The forward pass adds them eight at a time. In the backward pass a thread owns one image's head, so
that no two threads add to the same gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from .compile import fast, in_threads
from .loops import level_position
from .pixels import add_back, axis

#: Rows that are added at once; ``add_rows`` is written for it.
UNROLL = 8
#: From this many reads of each token on, it pays to lay the heads apart, so that what a head reads stays in cache.
READS_TO_LAY_APART = 8


class Layout(NamedTuple):
    """How many rows of channels lie between two images, two heads and two tokens of the value tensor."""

    image: int
    head: int
    token: int


class Points(NamedTuple):
    """What every query does at its L * P points: the level's (H, W) as floats, and its first token."""

    H: np.ndarray
    W: np.ndarray
    start: np.ndarray


@fast
def find_pixels(points, locations, positions, tokens, weights, slopes_y, slopes_x):
    """Fill (4, L * P) arrays with the tokens of the four pixels around each point, their weights and slopes.

    positions: (2, L * P), scratch that sets x and y apart, so that the main loop fills vector units.
    """
    dtype = locations.dtype.type
    for n in range(locations.shape[0]):
        positions[0, n], positions[1, n] = locations[n, 0], locations[n, 1]
    for n in range(locations.shape[0]):
        H, W = points.H[n], points.W[n]
        columns, weights_x, deltas_x = axis(level_position(dtype, positions[0, n], W), W)
        rows, weights_y, deltas_y = axis(level_position(dtype, positions[1, n], H), H)
        for i in range(4):
            row, column = i // 2, i % 2
            token = np.int32(rows[row]) * np.int32(W) + np.int32(columns[column])
            tokens[i, n] = points.start[n] + token
            weights[i, n] = weights_y[row] * weights_x[column]
            slopes_y[i, n] = deltas_y[row] * weights_x[column] * H
            slopes_x[i, n] = weights_y[row] * deltas_x[column] * W


@fast
def add_rows(x, first, step, tokens, weights, out):
    """out = sum over n of weights[n] x[first + tokens[n] * step]."""
    out[:] = 0
    for n in range(0, len(tokens), UNROLL):
        w0, w1, w2, w3 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3]
        w4, w5, w6, w7 = weights[n + 4], weights[n + 5], weights[n + 6], weights[n + 7]
        r0, r1 = first + tokens[n] * step, first + tokens[n + 1] * step
        r2, r3 = first + tokens[n + 2] * step, first + tokens[n + 3] * step
        r4, r5 = first + tokens[n + 4] * step, first + tokens[n + 5] * step
        r6, r7 = first + tokens[n + 6] * step, first + tokens[n + 7] * step
        for d in range(len(out)):
            half = w0 * x[r0, d] + w1 * x[r1, d] + w2 * x[r2, d] + w3 * x[r3, d]
            out[d] += half + w4 * x[r4, d] + w5 * x[r5, d] + w6 * x[r6, d] + w7 * x[r7, d]


@fast
def attend(first, last, layout, points, x, locations, A, out):
    """Queries ``first`` .. ``last``, counted through all heads of all images. out: (B, Q, M, D)."""
    Q, M, LP = A.shape[1:]
    padded = (4 * LP + UNROLL - 1) // UNROLL * UNROLL
    all_tokens, all_weights = np.zeros(padded, np.int32), np.zeros(padded, A.dtype)
    tokens, weights = all_tokens[: 4 * LP].reshape(4, LP), all_weights[: 4 * LP].reshape(4, LP)
    slopes, positions = np.zeros((4, LP), A.dtype), np.zeros((2, LP), A.dtype)
    for task in range(first, last):
        b, m, q = task // (Q * M), task // Q % M, task % Q
        find_pixels(points, locations[b, q, m], positions, tokens, weights, slopes, slopes)
        for i in range(4):
            for n in range(LP):
                weights[i, n] *= A[b, q, m, n]
        head = b * layout.image + m * layout.head
        add_rows(x, head, layout.token, all_tokens, all_weights, out[b, q, m])


@fast
def scatter(first, last, layout, points, x, locations, A, grad, grad_x, grad_locations, grad_A):
    """Gradients of heads ``first`` .. ``last``, counted through all images. grad: (B, Q, M, D)."""
    Q, M, LP = A.shape[1:]
    zero = A.dtype.type(0)
    tokens, weights = np.zeros((4, LP), np.int32), np.zeros((4, LP), A.dtype)
    slopes_y, slopes_x = np.zeros((4, LP), A.dtype), np.zeros((4, LP), A.dtype)
    positions = np.zeros((2, LP), A.dtype)
    for task in range(first, last):
        b, m = task // M, task % M
        head = b * layout.image + m * layout.head
        for q in range(Q):
            find_pixels(points, locations[b, q, m], positions, tokens, weights, slopes_y, slopes_x)
            dy = grad[b, q, m]
            for n in range(LP):
                a = A[b, q, m, n]
                sum_A = sum_y = sum_x = zero
                for i in range(4):
                    row = head + tokens[i, n] * layout.token
                    dot = add_back(a * weights[i, n], dy, x[row], grad_x[row])
                    sum_A += weights[i, n] * dot
                    sum_y += slopes_y[i, n] * dot
                    sum_x += slopes_x[i, n] * dot
                grad_A[b, q, m, n] = sum_A
                grad_locations[b, q, m, n, 0], grad_locations[b, q, m, n, 1] = a * sum_x, a * sum_y


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """The forward pass; tensors as in ``ops.ms_deform_attn``, all floating ones float32 or all float64."""
    B, Q, M, _, P, _ = sampling_locations.shape
    D = value.shape[3]
    layout, x = _rows(value, attention_weights)
    points = _points(spatial_shapes, level_start_index, P, x)
    out = value.new_empty(B, Q, M, D)
    arrays = _arrays(sampling_locations.flatten(3, 4), attention_weights.flatten(3), out)
    in_threads(attend, B * M * Q, layout, points, x.numpy(), *arrays)
    return out.view(B, Q, M * D)


def ms_deform_attn_backward(
    grad: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to value, sampling locations and attention weights."""
    B, Q, M, _, P, _ = sampling_locations.shape
    N, D = value.shape[1], value.shape[3]
    layout, x = _rows(value, attention_weights)
    points = _points(spatial_shapes, level_start_index, P, x)
    tensors = sampling_locations.flatten(3, 4), attention_weights.flatten(3), grad.reshape(B, Q, M, D)
    grads = x.new_zeros(x.shape), tensors[0].new_empty(tensors[0].shape), tensors[1].new_empty(tensors[1].shape)
    in_threads(scatter, B * M, layout, points, x.numpy(), *_arrays(*tensors, *grads))
    grad_value = grads[0].view(B, M, N, D).transpose(1, 2) if layout.token == 1 else grads[0].view(B, N, M, D)
    return grad_value, grads[1].view(sampling_locations.shape), grads[2].view(attention_weights.shape)


def _rows(value: Tensor, attention_weights: Tensor) -> tuple[Layout, Tensor]:
    """``value`` as rows of channels, (B * N * M, D), the heads apart if that copy is small beside the reads."""
    B, N, M, D = value.shape
    if 4 * attention_weights.numel() >= READS_TO_LAY_APART * B * N * M:
        return Layout(N * M, N, 1), value.transpose(1, 2).reshape(-1, D)
    return Layout(N * M, 1, M), value.reshape(-1, D)


def _points(spatial_shapes: Tensor, level_start_index: Tensor, P: int, x: Tensor) -> Points:
    H, W = spatial_shapes.to(x.dtype).repeat_interleave(P, 0).T.contiguous().numpy()
    return Points(H, W, level_start_index.int().repeat_interleave(P).numpy())


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.contiguous().numpy() for tensor in tensors]
