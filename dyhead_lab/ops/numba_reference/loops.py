"""Both operators as literal loops, forward and backward: the reference that reads like the formula.

Nothing here is clever. Each function takes NumPy arrays of one floating dtype and returns new ones. The letters
are those of CONTRIBUTING.md; the equations stand in ``ops/formula.py``. The fast path is tested against this file.
"""

from __future__ import annotations

import math

import numpy as np

from ..numba_compile import literal


@literal
def around(p_y, p_x):
    """The four pixels around a position: (row, column, G, dG/dy, dG/dx) of each.

    G(q, p) = (1 - |q_y - p_y|) (1 - |q_x - p_x|). At the kink, an integer position, the slopes are those of the
    floor side: towards the pixel below and to the right.
    """
    row, column = math.floor(p_y), math.floor(p_x)
    part_y, part_x = p_y - row, p_x - column
    return (
        (row, column, (1 - part_y) * (1 - part_x), -(1 - part_x), -(1 - part_y)),
        (row, column + 1, (1 - part_y) * part_x, -part_x, 1 - part_y),
        (row + 1, column, part_y * (1 - part_x), 1 - part_x, -part_y),
        (row + 1, column + 1, part_y * part_x, part_x, part_y),
    )


@literal
def inside(row, column, H, W):
    return 0 <= row < H and 0 <= column < W


@literal
def near(p_y, p_x, H, W):
    """Whether a position has any pixel around it. Also keeps NaN and huge numbers away from integer indices."""
    return -1 <= p_y < H and -1 <= p_x < W


@literal
def nothing(p_y, p_x):
    """What is read where no pixel is near: 0, or NaN at a position that is not finite, so that the mistake shows."""
    return (p_y - p_y) + (p_x - p_x)


@literal
def bilinear(image_HW, p_y, p_x):
    """x(p) = sum over q of G(q, p) x(q)."""
    H, W = image_HW.shape
    total = image_HW.dtype.type(nothing(p_y, p_x))
    if near(p_y, p_x, H, W):
        for row, column, G, _, _ in around(p_y, p_x):
            if inside(row, column, H, W):
                total += G * image_HW[row, column]
    return total


@literal
def tap_position(offset, b, g, k, i, j, Kh, Kw, stride, padding, dilation):
    """p_0 + p_k + dp_k of tap ``k`` of offset group ``g`` at output pixel (``i``, ``j``)."""
    first = 2 * (g * Kh * Kw + k)
    dtype = offset.dtype.type
    p_y = dtype(i * stride[0] - padding[0] + k // Kw * dilation[0]) + offset[b, first, i, j]
    p_x = dtype(j * stride[1] - padding[1] + k % Kw * dilation[1]) + offset[b, first + 1, i, j]
    return p_y, p_x


@literal
def deform_conv2d(input, offset, weight, mask, stride, padding, dilation):
    """y(p) = sum over taps k and channels c of w_ck x_c(p + p_k + dp_k) dm_k.

    Shapes: input (B, C, H, W), offset (B, 2*G*K, Ho, Wo), weight (Co, C / groups, Kh, Kw), mask (B, G*K, Ho, Wo).
    """
    B, C, _, _ = input.shape
    Co, C_group, Kh, Kw = weight.shape
    Ho, Wo = offset.shape[2:]
    K = Kh * Kw
    G = mask.shape[1] // K
    out = np.zeros((B, Co, Ho, Wo), input.dtype)
    for b in range(B):
        for o in range(Co):
            first = o // (Co // (C // C_group)) * C_group
            for i in range(Ho):
                for j in range(Wo):
                    for k in range(K):
                        for c in range(first, first + C_group):
                            g = c // (C // G)
                            p_y, p_x = tap_position(offset, b, g, k, i, j, Kh, Kw, stride, padding, dilation)
                            x = bilinear(input[b, c], p_y, p_x)
                            w = weight[o, c - first, k // Kw, k % Kw]
                            out[b, o, i, j] += w * x * mask[b, g * K + k, i, j]
    return out


@literal
def deform_conv2d_backward(grad, input, offset, weight, mask, stride, padding, dilation):
    """Gradients of :func:`deform_conv2d` to input, offset, weight and mask."""
    B, C, H, W = input.shape
    Co, C_group, Kh, Kw = weight.shape
    Ho, Wo = offset.shape[2:]
    K = Kh * Kw
    G = mask.shape[1] // K
    grad_input, grad_offset = np.zeros_like(input), np.zeros_like(offset)
    grad_weight, grad_mask = np.zeros_like(weight), np.zeros_like(mask)
    for b in range(B):
        for o in range(Co):
            first = o // (Co // (C // C_group)) * C_group
            for i in range(Ho):
                for j in range(Wo):
                    for k in range(K):
                        for c in range(first, first + C_group):
                            g = c // (C // G)
                            m = mask[b, g * K + k, i, j]
                            w = weight[o, c - first, k // Kw, k % Kw]
                            dy = grad[b, o, i, j]
                            p_y, p_x = tap_position(offset, b, g, k, i, j, Kh, Kw, stride, padding, dilation)
                            x = bilinear(input[b, c], p_y, p_x)
                            grad_weight[o, c - first, k // Kw, k % Kw] += dy * x * m
                            grad_mask[b, g * K + k, i, j] += dy * w * x
                            if not near(p_y, p_x, H, W):
                                grad_offset[b, 2 * (g * K + k), i, j] += nothing(p_y, p_x)
                                grad_offset[b, 2 * (g * K + k) + 1, i, j] += nothing(p_y, p_x)
                                continue
                            for row, column, value, slope_y, slope_x in around(p_y, p_x):
                                if inside(row, column, H, W):
                                    x_q = input[b, c, row, column]
                                    grad_input[b, c, row, column] += dy * w * m * value
                                    grad_offset[b, 2 * (g * K + k), i, j] += dy * w * m * slope_y * x_q
                                    grad_offset[b, 2 * (g * K + k) + 1, i, j] += dy * w * m * slope_x * x_q
    return grad_input, grad_offset, grad_weight, grad_mask


@literal
def level_position(dtype, r, size):
    """phi: stretch [0, 1] over the outer edges of ``size`` pixels."""
    return r * dtype(size) - dtype(0.5)


@literal
def ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights):
    """out_q = sum over levels l and points p of A_qlp x_l(phi_l(r_qlp)).

    Shapes: value (B, N, M, D), sampling_locations (B, Q, M, L, P, 2) as (x, y), attention_weights (B, Q, M, L, P);
    returns (B, Q, M, D).
    """
    D = value.shape[3]
    B, Q, M, L, P = attention_weights.shape
    dtype = value.dtype.type
    out = np.zeros((B, Q, M, D), value.dtype)
    for b in range(B):
        for q in range(Q):
            for m in range(M):
                for l in range(L):
                    H, W = spatial_shapes[l]
                    start = level_start_index[l]
                    level = value[b, start : start + H * W].reshape((H, W, M, D))
                    for p in range(P):
                        p_x = level_position(dtype, sampling_locations[b, q, m, l, p, 0], W)
                        p_y = level_position(dtype, sampling_locations[b, q, m, l, p, 1], H)
                        A = attention_weights[b, q, m, l, p]
                        for d in range(D):
                            out[b, q, m, d] += A * bilinear(level[:, :, m, d], p_y, p_x)
    return out


@literal
def ms_deform_attn_backward(grad, value, spatial_shapes, level_start_index, sampling_locations, attention_weights):
    """Gradients of :func:`ms_deform_attn` to value, sampling locations and attention weights."""
    D = value.shape[3]
    B, Q, M, L, P = attention_weights.shape
    dtype = value.dtype.type
    grad_value = np.zeros_like(value)
    grad_locations, grad_weights = np.zeros_like(sampling_locations), np.zeros_like(attention_weights)
    for b in range(B):
        for q in range(Q):
            for m in range(M):
                for l in range(L):
                    H, W = spatial_shapes[l]
                    start = level_start_index[l]
                    for p in range(P):
                        p_x = level_position(dtype, sampling_locations[b, q, m, l, p, 0], W)
                        p_y = level_position(dtype, sampling_locations[b, q, m, l, p, 1], H)
                        A = attention_weights[b, q, m, l, p]
                        if not near(p_y, p_x, H, W):
                            grad_weights[b, q, m, l, p] += nothing(p_y, p_x)
                            grad_locations[b, q, m, l, p, :] += nothing(p_y, p_x)
                            continue
                        for row, column, G, slope_y, slope_x in around(p_y, p_x):
                            if not inside(row, column, H, W):
                                continue
                            n = start + row * W + column
                            for d in range(D):
                                dy, x_q = grad[b, q, m, d], value[b, n, m, d]
                                grad_value[b, n, m, d] += dy * A * G
                                grad_weights[b, q, m, l, p] += dy * G * x_q
                                grad_locations[b, q, m, l, p, 0] += dy * A * slope_x * W * x_q
                                grad_locations[b, q, m, l, p, 1] += dy * A * slope_y * H * x_q
    return grad_value, grad_locations, grad_weights
