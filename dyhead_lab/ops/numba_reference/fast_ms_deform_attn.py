"""Multi-scale deformable attention, fast on a CPU.

Forward: for one query and head, first write down which pixels count and how much, without a branch; then add up
these rows of channels, eight at a time. Backward: a thread owns one image's head, so that no two add to the same
gradient.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .compile import fast, in_threads
from .loops import level_position
from .pixels import add_back, around

#: Pixels that are added at once; the list of pixels is padded to a multiple of it with weights of zero.
UNROLL = 8


@fast
def list_pixels(token, M, shapes, starts, locations, A, rows, weights):
    """Write the (row, weight) of every pixel that one query's head reads. Pixels outside weigh zero.

    token: row of the head's first token; from token to token it is M rows.
    """
    L, P = A.shape
    dtype = A.dtype.type
    n = 0
    for l in range(L):
        H, W = shapes[l]
        for p in range(P):
            p_x = level_position(dtype, locations[l, p, 0], W)
            p_y = level_position(dtype, locations[l, p, 1], H)
            (q00, q01, q10, q11), (top, bottom, left, right) = around(p_y, p_x, H, W)
            above, below = A[l, p] * top, A[l, p] * bottom
            corners = (q00, above * left), (q01, above * right), (q10, below * left), (q11, below * right)
            for q, weight in corners:
                rows[n] = token + (starts[l] + max(q, 0)) * M
                weights[n] = weight if q >= 0 else dtype(0)
                n += 1


@fast
def add_rows(x, rows, weights, out):
    """out = sum over n of weights[n] x[rows[n]], :data:`UNROLL` rows at a time."""
    out[:] = 0
    for n in range(0, len(rows), UNROLL):
        w0, w1, w2, w3 = weights[n], weights[n + 1], weights[n + 2], weights[n + 3]
        w4, w5, w6, w7 = weights[n + 4], weights[n + 5], weights[n + 6], weights[n + 7]
        x0, x1, x2, x3 = x[rows[n]], x[rows[n + 1]], x[rows[n + 2]], x[rows[n + 3]]
        x4, x5, x6, x7 = x[rows[n + 4]], x[rows[n + 5]], x[rows[n + 6]], x[rows[n + 7]]
        for d in range(len(out)):
            half = w0 * x0[d] + w1 * x1[d] + w2 * x2[d] + w3 * x3[d]
            out[d] += half + w4 * x4[d] + w5 * x5[d] + w6 * x6[d] + w7 * x7[d]


@fast
def attend_queries(first, last, N, x, shapes, starts, locations, A, out):
    """Queries ``first`` .. ``last`` of the whole batch. x: (B*N*M, D). out: (B, Q, M, D)."""
    Q, M, L, P = A.shape[1:]
    count = (4 * L * P + UNROLL - 1) // UNROLL * UNROLL
    rows, weights = np.zeros(count, np.int64), np.zeros(count, A.dtype)
    for query in range(first, last):
        b, q = query // Q, query % Q
        for m in range(M):
            list_pixels(b * N * M + m, M, shapes, starts, locations[b, q, m], A[b, q, m], rows, weights)
            add_rows(x, rows, weights, out[b, q, m])


@fast
def scatter_heads(first, last, N, grad, x, shapes, starts, locations, A, grad_x, grad_locations, grad_A):
    """Gradients of heads ``first`` .. ``last`` of the whole batch; a task is one head of one image."""
    Q, M, L, P = A.shape[1:]
    dtype = A.dtype.type
    for task in range(first, last):
        b, m = task // M, task % M
        for q in range(Q):
            dy = grad[b, q, m]
            for l in range(L):
                H, W = shapes[l]
                token = (b * N + starts[l]) * M + m
                for p in range(P):
                    a = A[b, q, m, l, p]
                    p_x = level_position(dtype, locations[b, q, m, l, p, 0], W)
                    p_y = level_position(dtype, locations[b, q, m, l, p, 1], H)
                    (q00, q01, q10, q11), (top, bottom, left, right) = around(p_y, p_x, H, W)
                    d00 = add_back(a * top * left, dy, q00, token, M, x, grad_x)
                    d01 = add_back(a * top * right, dy, q01, token, M, x, grad_x)
                    d10 = add_back(a * bottom * left, dy, q10, token, M, x, grad_x)
                    d11 = add_back(a * bottom * right, dy, q11, token, M, x, grad_x)
                    slope_x = top * (d01 - d00) + bottom * (d11 - d10)
                    slope_y = left * (d10 - d00) + right * (d11 - d01)
                    grad_locations[b, q, m, l, p, 0] = a * dtype(W) * slope_x
                    grad_locations[b, q, m, l, p, 1] = a * dtype(H) * slope_y
                    grad_A[b, q, m, l, p] = top * (left * d00 + right * d01) + bottom * (left * d10 + right * d11)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """The forward pass; tensors as in ``ops.ms_deform_attn``, all floating ones float32 or all float64."""
    N, M, D = value.shape[1:]
    B, Q = sampling_locations.shape[:2]
    out = value.new_empty(B, Q, M, D)
    tensors = value.reshape(-1, D), spatial_shapes, level_start_index, sampling_locations, attention_weights
    in_threads(attend_queries, B * Q, N, *_arrays(*tensors, out))
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
    N, M, D = value.shape[1:]
    B, Q = sampling_locations.shape[:2]
    tensors = value.reshape(-1, D), spatial_shapes, level_start_index, sampling_locations, attention_weights
    grad_value = value.new_zeros(B * N * M, D)
    grads = (grad_value, *(t.new_empty(t.shape) for t in (sampling_locations, attention_weights)))
    in_threads(scatter_heads, B * M, N, *_arrays(grad.reshape(B, Q, M, D), *tensors, *grads))
    return grad_value.view(B, N, M, D), *grads[1:]


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.contiguous().numpy() for tensor in tensors]
