"""Multi-scale deformable attention, fast on a CPU.

First find the pixels of all points of a block of queries of one head, in plain loops that fill vector units; then read
these rows of channels. In the backward pass a thread owns one image's head, so that no two threads add to the same
gradient. Where many queries read large maps, the heads are first laid apart: all that a thread reads of one then lies
together in memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numba import prange
from torch import Tensor

from ..numba_compile import fast, in_parallel
from ..numba_reference.loops import level_position
from . import block_cache as memory
from .lanes import LANES, lanes_of, load, store, zeros
from .pixels import Points, back_through, find_axis, find_pixels, find_tokens
from .threads import part, run

#: Queries of a block: enough for loops to pay, few enough for what is found to stay in the first-level cache.
QUERIES = 32
#: From this many reads of each token on, it pays to lay the heads apart: what a head reads then stays in cache, and the
#: copies are small beside the reads.
READS_TO_LAY_APART = 8
#: Bytes of an image's values from which on it pays: as long as all heads stay in cache, the copies are for nothing.
BYTES_TO_LAY_APART = 4 << 20


@fast
def take_block(first, count, b, m, points, locations, A, y, x, a):
    """Positions and attention weights of ``count`` queries of one head, as long vectors."""
    LP, dtype = A.shape[3], y.dtype.type
    for q in range(count):
        for n in range(LP):
            i = q * LP + n
            x[i] = level_position(dtype, locations[b, first + q, m, n, 0], points.W[i])
            y[i] = level_position(dtype, locations[b, first + q, m, n, 1], points.H[i])
            a[i] = A[b, first + q, m, n]


@fast
def find_weights(a, weights_y, weights_x, weights):
    """The weights of the four pixels around each point, (4, n)."""
    for i in range(4):
        weight_y, weight_x, weight = weights_y[i // 2], weights_x[i % 2], weights[i]
        for n in range(len(weight)):
            weight[n] = a[n] * weight_y[n] * weight_x[n]


@fast
def add_rows(lanes, x, head, step, tokens, weights, first, last, out, row):
    """Row of out = sum over n in first .. last and i of weights[i, n] x[head + tokens[i, n] * step]."""
    if lanes is not None:
        for d in range(0, x.shape[1], LANES):
            upper, lower = zeros(x), zeros(x)
            for n in range(first, last):
                r0, r1 = head + tokens[0, n] * step, head + tokens[1, n] * step
                r2, r3 = head + tokens[2, n] * step, head + tokens[3, n] * step
                upper = upper + weights[0, n] * load(lanes, x, r0, d) + weights[1, n] * load(lanes, x, r1, d)
                lower = lower + weights[2, n] * load(lanes, x, r2, d) + weights[3, n] * load(lanes, x, r3, d)
            store(lanes, out, row, d, upper + lower)
    else:
        out[row] = 0
        for n in range(first, last):
            r0, r1 = head + tokens[0, n] * step, head + tokens[1, n] * step
            r2, r3 = head + tokens[2, n] * step, head + tokens[3, n] * step
            w0, w1, w2, w3 = weights[0, n], weights[1, n], weights[2, n], weights[3, n]
            for d in range(x.shape[1]):
                out[row, d] += w0 * x[r0, d] + w1 * x[r1, d] + w2 * x[r2, d] + w3 * x[r3, d]


@fast
def attend(first, last, lanes, points, x, steps, locations, A, out):
    """Blocks ``first`` .. ``last``, counted through all heads of all images. x: (B * N * M, D), out: (B * Q * M, D).

    steps: rows of x from a head to the next, and from a token to the next.

    In place of a pixel outside token 0 is read, with weight 0: that changes nothing as long as it is finite, and to
    read zeros instead would take 10 % longer.
    """
    B, Q, M, LP = A.shape
    blocks, size = (Q + QUERIES - 1) // QUERIES, len(points.H)
    tokens, weights = np.zeros((4, size), np.int32), np.zeros((4, size), A.dtype)
    positions, a = np.zeros((2, size), A.dtype), np.zeros(size, A.dtype)
    pixels, shares = np.zeros((4, size), A.dtype), np.zeros((4, size), A.dtype)
    for task in range(first, last):
        b, m, q = task // (M * blocks), task // blocks % M, task % blocks * QUERIES
        count = min(QUERIES, Q - q)
        take_block(q, count, b, m, points, locations, A, positions[0], positions[1], a)
        find_axis(positions[0], points.H, pixels[:2], shares[:2])
        find_axis(positions[1], points.W, pixels[2:], shares[2:])
        find_tokens(points, pixels[:2], pixels[2:], 0, tokens)
        find_weights(a, shares[:2], shares[2:], weights)
        head = len(x) // B * b + m * steps[0]
        for i in range(count):
            row = (b * Q + q + i) * M + m
            add_rows(lanes, x, head, steps[1], tokens, weights, i * LP, (i + 1) * LP, out, row)


@fast
def scatter(first, last, lanes, points, x, steps, locations, A, grad, grad_x, grad_locations, grad_A):
    """Gradients of heads ``first`` .. ``last``, counted through all images. x: (B * N * M, D), grad: (B * Q * M, D).

    steps: as in :func:`attend`.
    """
    B, Q, M, LP = A.shape
    size, length = len(points.H), len(x) // B
    tokens, slopes = np.zeros((4, size), np.int32), np.zeros((4, size), A.dtype)
    positions, a = np.zeros((2, size), A.dtype), np.zeros(size, A.dtype)
    pixels, shares = np.zeros((4, size), A.dtype), np.zeros((4, size), A.dtype)
    for task in range(first, last):
        b, m = task // M, task % M
        head = b * length + m * steps[0]
        image, grad_image = x[head:], grad_x[head:]  # from the head's first row on: that of a token outside is negative
        for q in range(0, Q, QUERIES):
            count = min(QUERIES, Q - q)
            take_block(q, count, b, m, points, locations, A, positions[0], positions[1], a)
            find_pixels(points, positions, pixels, shares, slopes, tokens)
            for i in range(count):
                query = (b * Q + q + i) * M + m
                for n in range(LP):
                    p = i * LP + n
                    axes_shares = shares[0, p], shares[1, p], shares[2, p], shares[3, p]
                    axes_slopes = slopes[0, p], slopes[1, p], slopes[2, p], slopes[3, p]
                    upper, lower = tokens[0, p] * steps[1], tokens[2, p] * steps[1]
                    rows = upper, tokens[1, p] * steps[1], lower, tokens[3, p] * steps[1]
                    gain, gain_y, gain_x = back_through(
                        lanes, a[p], axes_shares, axes_slopes, rows, grad, query, image, grad_image
                    )
                    grad_A[b, q + i, m, n] = gain
                    grad_locations[b, q + i, m, n, 0] = gain_x * points.W[p]
                    grad_locations[b, q + i, m, n, 1] = gain_y * points.H[p]


@in_parallel
def attend_in_threads(threads, items, lanes, points, x, steps, locations, A, out):
    for n in prange(threads):
        attend(part(n, threads, items), part(n + 1, threads, items), lanes, points, x, steps, locations, A, out)


@in_parallel
def scatter_in_threads(threads, items, lanes, points, x, steps, locations, A, grad, grad_x, grad_locations, grad_A):
    for n in prange(threads):
        first, last = part(n, threads, items), part(n + 1, threads, items)
        scatter(first, last, lanes, points, x, steps, locations, A, grad, grad_x, grad_locations, grad_A)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """The forward pass; tensors as in ``ops.ms_deform_attn``, all floating ones float32 or all float64."""
    B, Q, M, L, P = attention_weights.shape
    points = _points(spatial_shapes, level_start_index, P, value)
    x, steps = _rows(value, _pays_to_lay_apart(value, attention_weights))
    out = memory.array(B * Q * M, value.shape[3], like=x)
    locations, A = _array(sampling_locations, B, Q, M, L * P, 2), _array(attention_weights, B, Q, M, L * P)
    tasks, work = B * M * -(-Q // QUERIES), A.size * value.shape[3]
    run(attend, attend_in_threads, tasks, work, lanes_of(value.shape[3]), points, x, steps, locations, A, out)
    return torch.from_numpy(out.reshape(B, Q, -1))


def ms_deform_attn_backward(
    grad: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to value, sampling locations and attention weights."""
    B, Q, M, L, P = attention_weights.shape
    points, apart = _points(spatial_shapes, level_start_index, P, value), _pays_to_lay_apart(value, attention_weights)
    x, steps = _rows(value, apart)
    shapes = (B, Q, M, L * P, 2), (B, Q, M, L * P)
    grad_x, grad_locations, grad_A = (memory.array(*shape, like=x) for shape in (x.shape, *shapes))
    torch.from_numpy(grad_x).zero_()  # in threads
    locations, A = _array(sampling_locations, *shapes[0]), _array(attention_weights, *shapes[1])
    arrays = x, steps, locations, A, _array(grad, -1, value.shape[3]), grad_x, grad_locations, grad_A
    work = A.size * value.shape[3]
    run(scatter, scatter_in_threads, B * M, work, lanes_of(value.shape[3]), points, *arrays)
    grad_value = _heads_together(grad_x, value) if apart else grad_x.reshape(value.shape)
    grads = grad_value, grad_locations.reshape(sampling_locations.shape), grad_A.reshape(attention_weights.shape)
    return torch.from_numpy(grads[0]), torch.from_numpy(grads[1]), torch.from_numpy(grads[2])


def _pays_to_lay_apart(value: Tensor, attention_weights: Tensor) -> bool:
    reads, tokens = 4 * attention_weights.numel(), value.shape[:3].numel()
    return reads >= READS_TO_LAY_APART * tokens and value.shape[1:].numel() * value.element_size() >= BYTES_TO_LAY_APART


def _rows(value: Tensor, apart: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """(B, N, M, D) as rows of channels, and their steps, see :func:`attend`."""
    _, N, M, D = value.shape
    x = memory.contiguous(value.transpose(1, 2) if apart else value)
    return x.numpy().reshape(-1, D), (N, 1) if apart else (1, M)


def _heads_together(rows: np.ndarray, like: Tensor) -> np.ndarray:
    """Rows of heads apart, in the shape of ``like``, (B, N, M, D)."""
    B, N, M, D = like.shape
    return memory.contiguous(torch.from_numpy(rows).view(B, M, N, D).transpose(1, 2)).numpy()


def _points(spatial_shapes: Tensor, level_start_index: Tensor, P: int, value: Tensor) -> Points:
    levels = tuple(map(tuple, spatial_shapes.tolist())), tuple(level_start_index.tolist())
    return _points_of_a_block(*levels, P, value.numpy().dtype)


@lru_cache(maxsize=32)
def _points_of_a_block(sizes: tuple[tuple[int, int]], starts: tuple[int], P: int, dtype: np.dtype) -> Points:
    """The levels that the points of a block meet, one query after another. Layers of a model share them."""
    H, W, start = np.tile(np.column_stack((sizes, starts)).repeat(P, 0), (QUERIES, 1)).T
    return Points(H.astype(dtype), W.astype(dtype), start.astype(np.int32))


def _array(tensor: Tensor, *shape: int) -> np.ndarray:
    return tensor.contiguous().numpy().reshape(shape)
