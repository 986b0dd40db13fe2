"""Deformable convolution, fast on a CPU: sample into columns, then one matrix product.

The image is read as rows of channels (channels-last), so that a sample is a weighted sum of four contiguous rows.
The product of weights and columns is an ordinary 1x1 convolution, which oneDNN computes near the peak of the
machine. Gradients need no atomics: every thread owns the channels that it adds to.

A *piece* is a run of channels that share their convolution group and their offset group.
"""

from __future__ import annotations

from math import lcm
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_weight

from ..checks import Geometry
from .compile import fast, in_threads, literal
from .pixels import add_back, axis

#: Columns beyond this size are made and used image by image.
COLUMN_BYTES = 256 << 20


class Taps(NamedTuple):
    """The steps of the taps over the image, as kernels want them: plain integers."""

    H: int
    W: int
    kernel_w: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    dilation_y: int
    dilation_x: int


@literal
def tap(offset, taps, b, g, k, i, j):
    """The four pixels of tap ``k`` at output pixel (``i``, ``j``); offset is (B, G, K, 2, Ho, Wo).

    Returns:
        First pixels of the two image rows, the two columns, and weights and slopes by y and x (see ``axis``).
    """
    dtype = offset.dtype.type
    y = i * taps.stride_y - taps.padding_y + k // taps.kernel_w * taps.dilation_y
    x = j * taps.stride_x - taps.padding_x + k % taps.kernel_w * taps.dilation_x
    rows, weights_y, slopes_y = axis(dtype(y) + offset[b, g, k, 0, i, j], dtype(taps.H))
    columns, weights_x, slopes_x = axis(dtype(x) + offset[b, g, k, 1, i, j], dtype(taps.W))
    first = (b * taps.H + int(rows[0])) * taps.W, (b * taps.H + int(rows[1])) * taps.W
    return first, (int(columns[0]), int(columns[1])), weights_y, weights_x, slopes_y, slopes_x


@fast
def sample_rows(first, last, x, offset, mask, taps, columns):
    """Fill ``columns`` for rows ``first`` .. ``last`` of the batch's output: a sample is four weighted rows.

    x: (B*H*W*pieces, width). columns: (B, Ho, Wo, groups, K, pieces / groups, width).
    """
    Ho, Wo, groups, K, pieces_of_group, width = columns.shape[1:]
    pieces, G = groups * pieces_of_group, offset.shape[1]
    for task in range(first, last):
        b, i = task // Ho, task % Ho
        for j in range(Wo):
            for piece in range(pieces):
                g = piece * G // pieces
                for k in range(K):
                    (r0, r1), (c0, c1), (top, bottom), (left, right), _, _ = tap(offset, taps, b, g, k, i, j)
                    m = mask[b, g, k, i, j]
                    w00, w01, w10, w11 = m * top * left, m * top * right, m * bottom * left, m * bottom * right
                    x00, x01 = x[(r0 + c0) * pieces + piece], x[(r0 + c1) * pieces + piece]
                    x10, x11 = x[(r1 + c0) * pieces + piece], x[(r1 + c1) * pieces + piece]
                    out = columns[b, i, j, piece // pieces_of_group, k, piece % pieces_of_group]
                    for c in range(width):
                        out[c] = w00 * x00[c] + w01 * x01[c] + w10 * x10[c] + w11 * x11[c]


@fast
def scatter_rows(first, last, x, offset, mask, taps, grad_columns, grad_x, grad_points):
    """Spread the gradient of the columns over image, positions and mask; a task is one piece of one image.

    grad_points: (B, pieces, 3, K, Ho, Wo), the piece's share of the gradient to (dy, dx, mask).
    """
    Ho, Wo, groups, K, pieces_of_group, _ = grad_columns.shape[1:]
    pieces, G = groups * pieces_of_group, offset.shape[1]
    zero = x.dtype.type(0)
    for task in range(first, last):
        b, piece = task // pieces, task % pieces
        g = piece * G // pieces
        for i in range(Ho):
            for j in range(Wo):
                for k in range(K):
                    rows, columns, weights_y, weights_x, slopes_y, slopes_x = tap(offset, taps, b, g, k, i, j)
                    m = mask[b, g, k, i, j]
                    grad = grad_columns[b, i, j, piece // pieces_of_group, k, piece % pieces_of_group]
                    sum_y = sum_x = sum_m = zero
                    for y in range(2):
                        for z in range(2):
                            row = (rows[y] + columns[z]) * pieces + piece
                            weight = weights_y[y] * weights_x[z]
                            dot = add_back(m * weight, grad, x[row], grad_x[row])
                            sum_y += slopes_y[y] * weights_x[z] * dot
                            sum_x += weights_y[y] * slopes_x[z] * dot
                            sum_m += weight * dot
                    grad_points[b, piece, 0, k, i, j] = m * sum_y
                    grad_points[b, piece, 1, k, i, j] = m * sum_x
                    grad_points[b, piece, 2, k, i, j] = sum_m


def deform_conv2d(
    geometry: Geometry, factors: torch.dtype, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor
) -> Tensor:
    """The forward pass; float32 or float64 tensors as in ``ops.deform_conv2d``, mask included.

    Args:
        factors: dtype of the factors of the matrix products: that of the tensors, or bfloat16, whose sums are
            float32 all the same.

    Returns:
        (B, Co, Ho, Wo), channels-last.
    """
    matrix = _matrix(weight).to(factors)
    outs = []
    for images in _portions(offset, weight, geometry):
        columns = _as_image(_columns(input[images], offset[images], mask[images], weight, geometry))
        outs.append(conv2d(columns.to(matrix.dtype), matrix, groups=geometry.groups))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def deform_conv2d_backward(
    geometry: Geometry,
    factors: torch.dtype,
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to input, offset, weight and mask; ``factors`` as in the forward pass."""
    groups, matrix = geometry.groups, _matrix(weight).to(factors)
    grad = grad.to(matrix.dtype).contiguous(memory_format=torch.channels_last)
    transposed = _transposed(matrix, groups)
    grad_matrix = torch.zeros_like(_matrix(weight))
    grads: list[tuple[Tensor, ...]] = []
    for images in _portions(offset, weight, geometry):
        portion = input[images], offset[images], mask[images], weight, geometry
        columns = _as_image(_columns(*portion)).to(matrix.dtype)
        grad_matrix += conv2d_weight(columns, matrix.shape, grad[images], groups=groups)
        grad_columns = conv2d(grad[images], transposed, groups=groups)  # oneDNN is slower at conv2d's own backward
        grads.append(_scatter(grad_columns.to(weight.dtype), *portion))
    grad_input, grad_offset, grad_mask = (torch.cat(parts) for parts in zip(*grads, strict=True))
    grad_weight = grad_matrix.view(weight.shape[0], *weight.shape[2:], -1).permute(0, 3, 1, 2)
    return grad_input, grad_offset, grad_weight, grad_mask


def _portions(offset: Tensor, weight: Tensor, geometry: Geometry) -> list[slice]:
    """The batch in slices whose columns stay within :data:`COLUMN_BYTES`, or are one image."""
    B, _, Ho, Wo = offset.shape
    per_image = Ho * Wo * weight[0].numel() * geometry.groups * weight.element_size()
    step = max(1, COLUMN_BYTES // per_image)
    return [slice(b, b + step) for b in range(0, B, step)]


def _matrix(weight: Tensor) -> Tensor:
    """(Co, C / groups, Kh, Kw) as a 1x1 kernel (Co, K * C / groups, 1, 1), channels innermost."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1, 1, 1)


def _transposed(matrix: Tensor, groups: int) -> Tensor:
    """The kernel (groups * n, Co / groups, 1, 1) that takes output gradients back to the n columns of a group."""
    return matrix.view(groups, -1, matrix.shape[1]).transpose(1, 2).reshape(-1, matrix.shape[0] // groups, 1, 1)


def _as_image(columns: Tensor) -> Tensor:
    """(B, Ho, Wo, ...) as a channels-last image of many channels."""
    return columns.flatten(3).permute(0, 3, 1, 2)


def _kernel_arguments(
    input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, geometry: Geometry, pieces: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Taps]:
    B, C, H, W = input.shape
    G, K = geometry.offset_groups, weight.shape[2] * weight.shape[3]
    x = input.permute(0, 2, 3, 1).reshape(B * H * W * pieces, C // pieces)
    return (
        x.numpy(),
        offset.contiguous().view(B, G, K, 2, *offset.shape[2:]).numpy(),
        mask.contiguous().view(B, G, K, *offset.shape[2:]).numpy(),
        Taps(H, W, weight.shape[3], *geometry.stride, *geometry.padding, *geometry.dilation),
    )


def _columns(input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """All samples, times the mask: (B, Ho, Wo, groups, K, pieces / groups, width)."""
    groups, K = geometry.groups, weight.shape[2] * weight.shape[3]
    pieces = lcm(groups, geometry.offset_groups)
    B, _, Ho, Wo = offset.shape
    columns = input.new_empty(B, Ho, Wo, groups, K, pieces // groups, input.shape[1] // pieces)
    arguments = _kernel_arguments(input, offset, mask, weight, geometry, pieces)
    in_threads(sample_rows, B * Ho, *arguments, columns.numpy())
    return columns


def _scatter(
    grad_columns: Tensor, input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to input, offset and mask from that of the columns, (B, groups * K * C / groups, Ho, Wo)."""
    groups, K = geometry.groups, weight.shape[2] * weight.shape[3]
    G = geometry.offset_groups
    B, C, H, W = input.shape
    Ho, Wo = offset.shape[2:]
    pieces = _pieces_for_threads(B, C, lcm(groups, G))
    columns = grad_columns.permute(0, 2, 3, 1).contiguous()
    columns = columns.view(B, Ho, Wo, groups, K, pieces // groups, C // pieces)
    grad_x = input.new_zeros(B * H * W * pieces, C // pieces)
    grad_points = input.new_empty(B, pieces, 3, K, Ho, Wo)
    arguments = _kernel_arguments(input, offset, mask, weight, geometry, pieces)
    in_threads(scatter_rows, B * pieces, *arguments, columns.numpy(), grad_x.numpy(), grad_points.numpy())
    grad_points = grad_points.view(B, G, pieces // G, 3, K, Ho, Wo).sum(2)
    grad_offset = grad_points[:, :, :2].transpose(2, 3).reshape(offset.shape)
    grad_input = grad_x.view(B, H, W, C).permute(0, 3, 1, 2)
    return grad_input, grad_offset, grad_points[:, :, 2].reshape(mask.shape)


def _pieces_for_threads(B: int, C: int, pieces: int) -> int:
    """Cut pieces further where that is what gives every thread the same work."""
    threads = torch.get_num_threads()
    return pieces * threads if B * pieces % threads and C // pieces % threads == 0 else pieces
