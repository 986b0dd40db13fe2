"""Deformable convolution, fast on a CPU: sample into columns, then one matrix product.

The image is read as rows of channels (channels-last), so that a sample is a weighted sum of four contiguous rows.
Gradients need no atomics: every thread owns the channels that it adds to.

A *piece* is a run of channels that share their convolution group and their offset group.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd, lcm, prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from ..checks import Geometry
from ..numba_compile import fast, in_parallel, literal
from . import block_cache as memory
from .image_rows import empty_images, images_of, put_rows, rows_of
from .lanes import LANES, lanes_of, load, store
from .pixels import Points, axis, back_through, find_pixels
from .products import Products
from .threads import part, run

#: Columns are made and used in strips of this size: large enough for a fast matrix product, and small beside memory.
STRIP_BYTES = 32 << 20
#: Channels of a piece in the backward pass: few, so that the image rows around an output row stay in cache.
CHANNELS = 64
#: Outputs of a block of the backward pass: enough for loops to pay, few enough for what is found to stay in the
#: first-level cache.
OUTPUTS = 32


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
def tap(dy, dx, taps, b, k, i, j):
    """The four pixels of tap ``k`` at output pixel (``i``, ``j``) of image ``b``, moved by (dy, dx).

    Returns:
        First pixels of the two image rows, the two columns, and weights by y and x (see ``axis``). For rows and columns
        outside the image stands 0.
    """
    dtype = type(dy)
    y = i * taps.stride_y - taps.padding_y + k // taps.kernel_w * taps.dilation_y
    x = j * taps.stride_x - taps.padding_x + k % taps.kernel_w * taps.dilation_x
    rows, weights_y, _ = axis(dtype(y) + dy, dtype(taps.H))
    columns, weights_x, _ = axis(dtype(x) + dx, dtype(taps.W))
    upper = (b * taps.H + int(rows[0])) * taps.W if rows[0] >= 0 else 0
    lower = (b * taps.H + int(rows[1])) * taps.W if rows[1] >= 0 else 0
    left, right = int(columns[0]) if columns[0] >= 0 else 0, int(columns[1]) if columns[1] >= 0 else 0
    return (upper, lower), (left, right), weights_y, weights_x


@fast
def blend(lanes, x, rows, weights, columns, n):
    """Row ``n`` of columns = sum over the four pixels of a sample: weight times row of x."""
    r00, r01, r10, r11 = rows
    w00, w01, w10, w11 = weights
    if lanes is not None:
        for c in range(0, x.shape[1], LANES):
            upper = w00 * load(lanes, x, r00, c) + w01 * load(lanes, x, r01, c)
            lower = w10 * load(lanes, x, r10, c) + w11 * load(lanes, x, r11, c)
            store(lanes, columns, n, c, upper + lower)
    else:
        for c in range(x.shape[1]):
            columns[n, c] = w00 * x[r00, c] + w01 * x[r01, c] + w10 * x[r10, c] + w11 * x[r11, c]


@fast
def sample_rows(first, last, lanes, start, x, offset, mask, taps, shape, columns):
    """Fill rows ``first`` .. ``last`` of a strip that begins at row ``start`` of the batch's output.

    A sample is four weighted rows of x, (B*H*W*pieces, width). ``columns`` has a row for every entry of
    (rows, *shape), shape = (Wo, groups, K, pieces / groups). In place of a pixel outside another
    one is read, with weight 0: that changes nothing as long as it is finite. To read zeros would take 8 % longer.
    """
    Wo, groups, K, pieces_of_group = shape
    pieces, G, Ho = groups * pieces_of_group, offset.shape[1], offset.shape[4]
    for task in range(first, last):
        b, i = (start + task) // Ho, (start + task) % Ho
        for j in range(Wo):
            for piece in range(pieces):
                g = piece * G // pieces
                group, place = piece // pieces_of_group, piece % pieces_of_group
                for k in range(K):
                    dy, dx = offset[b, g, k, 0, i, j], offset[b, g, k, 1, i, j]
                    (r0, r1), (c0, c1), (top, bottom), (left, right) = tap(dy, dx, taps, b, k, i, j)
                    m = mask[b, g, k, i, j]
                    weights = m * top * left, m * top * right, m * bottom * left, m * bottom * right
                    x00, x01 = (r0 + c0) * pieces + piece, (r0 + c1) * pieces + piece
                    x10, x11 = (r1 + c0) * pieces + piece, (r1 + c1) * pieces + piece
                    n = (((task * Wo + j) * groups + group) * K + k) * pieces_of_group + place
                    blend(lanes, x, (x00, x01, x10, x11), weights, columns, n)


@fast
def take_taps(count, b, g, i, first, taps, offset, mask, y, x, a):
    """Positions and masks of all taps of ``count`` outputs of row ``i`` from ``first`` on, as long vectors."""
    dtype = y.dtype.type
    for k in range(offset.shape[2]):
        row = dtype(i * taps.stride_y - taps.padding_y + k // taps.kernel_w * taps.dilation_y)
        column = k % taps.kernel_w * taps.dilation_x - taps.padding_x
        for j in range(count):
            p = k * OUTPUTS + j
            y[p] = row + offset[b, g, k, 0, i, first + j]
            x[p] = dtype((first + j) * taps.stride_x + column) + offset[b, g, k, 1, i, first + j]
            a[p] = mask[b, g, k, i, first + j]


@fast
def scatter_rows(first, last, lanes, start, x, offset, mask, taps, shape, grad_columns, grad_x, grad_offset, grad_mask):
    """Spread a strip's gradient over image, positions and mask, for the pieces ``first`` .. ``last``.

    grad_columns: a row for every entry of (rows, *shape), as in ``sample_rows``.
    grad_offset: (B, pieces, K, 2, Ho, Wo), grad_mask: (B, pieces, K, Ho, Wo), the piece's share of these gradients.
    """
    Wo, groups, K, pieces_of_group = shape
    pieces, G, Ho = groups * pieces_of_group, offset.shape[1], offset.shape[4]
    rows_of_strip, length = len(grad_columns) // (Wo * K * pieces), taps.H * taps.W * pieces
    size = K * OUTPUTS
    points = Points(np.full(size, taps.H, x.dtype), np.full(size, taps.W, x.dtype), np.zeros(size, np.int32))
    tokens, slopes = np.zeros((4, size), np.int32), np.zeros((4, size), x.dtype)
    positions, m = np.zeros((2, size), x.dtype), np.zeros(size, x.dtype)
    found, shares = np.zeros((4, size), x.dtype), np.zeros((4, size), x.dtype)
    for piece in range(first, last):
        g, group, place = piece * G // pieces, piece // pieces_of_group, piece % pieces_of_group
        for line in range(rows_of_strip):
            b, i = (start + line) // Ho, (start + line) % Ho
            image, grad_image = x[b * length : (b + 1) * length], grad_x[b * length : (b + 1) * length]
            for block in range(0, Wo, OUTPUTS):
                count = min(OUTPUTS, Wo - block)
                take_taps(count, b, g, i, block, taps, offset, mask, positions[0], positions[1], m)
                find_pixels(points, positions, found, shares, slopes, tokens)
                for j in range(count):
                    for k in range(K):
                        p = k * OUTPUTS + j
                        n = (((line * Wo + block + j) * groups + group) * K + k) * pieces_of_group + place
                        axes_shares = shares[0, p], shares[1, p], shares[2, p], shares[3, p]
                        axes_slopes = slopes[0, p], slopes[1, p], slopes[2, p], slopes[3, p]
                        upper, lower = tokens[0, p] * pieces + piece, tokens[2, p] * pieces + piece
                        rows = upper, tokens[1, p] * pieces + piece, lower, tokens[3, p] * pieces + piece
                        gain, gain_y, gain_x = back_through(
                            lanes, m[p], axes_shares, axes_slopes, rows, grad_columns, n, image, grad_image
                        )
                        grad_offset[b, piece, k, 0, i, block + j] = gain_y
                        grad_offset[b, piece, k, 1, i, block + j] = gain_x
                        grad_mask[b, piece, k, i, block + j] = gain


@in_parallel
def sample_rows_in_threads(threads, items, lanes, start, x, offset, mask, taps, shape, columns):
    for n in prange(threads):
        first, last = part(n, threads, items), part(n + 1, threads, items)
        sample_rows(first, last, lanes, start, x, offset, mask, taps, shape, columns)


@in_parallel
def scatter_rows_in_threads(
    threads, items, lanes, start, x, offset, mask, taps, shape, grad_columns, grad_x, grad_offset, grad_mask
):
    for n in prange(threads):
        first, last = part(n, threads, items), part(n + 1, threads, items)
        grads = grad_columns, grad_x, grad_offset, grad_mask
        scatter_rows(first, last, lanes, start, x, offset, mask, taps, shape, *grads)


def deform_conv2d(
    geometry: Geometry, factors: torch.dtype, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor
) -> Tensor:
    """The forward pass; float32 or float64 tensors as in ``ops.deform_conv2d``, mask included.

    Args:
        factors: dtype of the factors of the matrix products: that of the tensors, or bfloat16, whose sums are
            float32 all the same.

    Returns:
        (B, Co, Ho, Wo).
    """
    plan = _plan_of(geometry, input, offset, weight)
    sampler = _Sampler(plan, _arrays(plan, rows_of(input), offset, mask))
    products = Products(_matrix(weight), factors, geometry.groups)
    if len(plan.strips) == 1:
        return images_of(products.outputs(sampler.columns(plan.strips[0])), like=input)
    B, _, Ho, Wo = offset.shape
    out = empty_images(B, len(weight), Ho, Wo, like=input)
    for strip in plan.strips:
        put_rows(products.outputs(sampler.columns(strip)), strip.start, out)
    return out


def deform_conv2d_backward(
    geometry: Geometry,
    factors: torch.dtype,
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to input, offset, weight and mask; ``factors`` as in the forward pass, ``grad`` of any dtype."""
    plan = _plan_of(geometry, input, offset, weight)
    arrays = _arrays(plan, rows_of(input), offset, mask)
    products = Products(_matrix(weight), factors, geometry.groups)
    grad_rows = rows_of(grad).to(factors)
    sampler, scatterer = _Sampler(plan, arrays), _Scatterer(plan, arrays)
    for strip in plan.strips:
        of_strip = grad_rows[strip]
        products.add_gradient(of_strip, sampler.columns(strip))
        scatterer.add(strip, products.gradient_of_columns(of_strip))
    Co, _, Kh, Kw = weight.shape
    grad_weight = products.gradient().view(Co, Kh, Kw, -1).permute(0, 3, 1, 2)
    grad_input, grad_offset, grad_mask = scatterer.gradients(input, offset, mask)
    return grad_input, grad_offset, grad_weight, grad_mask


class _Plan(NamedTuple):
    """What follows from the sizes of a problem."""

    geometry: Geometry
    taps: Taps
    sampled: tuple[int, ...]  # (Wo, groups, K, pieces / groups, channels of a piece), where samples are made
    scattered: tuple[int, ...]  # the same where gradients are spread: in more pieces, for threads and for the cache
    points: tuple[int, ...]  # (B, G, K, Ho, Wo)
    strips: tuple[slice, ...]  # of the rows of the batch's output: their columns fill STRIP_BYTES, or are one row


def _plan_of(geometry: Geometry, input: Tensor, offset: Tensor, weight: Tensor) -> _Plan:
    elements = STRIP_BYTES // input.element_size()
    return _plan(geometry, input.shape, offset.shape, weight.shape, elements, torch.get_num_threads())


@lru_cache(maxsize=1024)
def _plan(
    geometry: Geometry, input: torch.Size, offset: torch.Size, weight: torch.Size, elements: int, threads: int
) -> _Plan:
    """``elements``: how many fit into a strip."""
    (_, C, H, W), (B, _, Ho, Wo), (_, _, Kh, Kw) = input, offset, weight
    groups, K = geometry.groups, Kh * Kw
    sampled, scattered = (
        (Wo, groups, K, pieces // groups, C // pieces)
        for pieces in (lcm(groups, geometry.offset_groups), _pieces_of_scatter(geometry, C, threads))
    )
    step = max(1, elements // prod(sampled))
    strips = tuple(slice(row, min(row + step, B * Ho)) for row in range(0, B * Ho, step))
    taps = Taps(H, W, Kw, *geometry.stride, *geometry.padding, *geometry.dilation)
    points = B, geometry.offset_groups, K, Ho, Wo
    return _Plan(geometry, taps, sampled, scattered, points, strips)


def _pieces_of_scatter(geometry: Geometry, C: int, threads: int) -> int:
    """Pieces of :data:`CHANNELS` or fewer, and the same number of them for every thread, as far as C can be cut."""
    pieces = lcm(geometry.groups, geometry.offset_groups)
    while C // pieces > CHANNELS and C // pieces % 2 == 0:
        pieces *= 2
    more = threads // gcd(pieces, threads)
    return pieces * more if C // pieces % more == 0 else pieces


def _arrays(plan: _Plan, rows: Tensor, offset: Tensor, mask: Tensor) -> tuple[Any, ...]:
    """The arguments that all kernels take, in their order; rows of pixels still whole."""
    B, G, K, Ho, Wo = plan.points
    offsets = offset.contiguous().numpy().reshape(B, G, K, 2, Ho, Wo)
    return rows.numpy(), offsets, mask.contiguous().numpy().reshape(plan.points), plan.taps


def _matrix(weight: Tensor) -> Tensor:
    """(Co, C / groups, Kh, Kw) as a matrix (Co, K * C / groups), channels innermost."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


class _Sampler:
    """Makes the columns of one strip after the other, in the same memory."""

    def __init__(self, plan: _Plan, arrays: tuple[Any, ...]) -> None:
        Wo, *of_pixel = plan.sampled
        self.width = plan.sampled[-1]
        self.arguments = (arrays[0].reshape(-1, self.width), *arrays[1:], plan.sampled[:-1])
        self.strip = memory.array(plan.strips[0].stop, Wo, prod(of_pixel), like=arrays[0])

    def columns(self, strip: slice) -> Tensor:
        """All samples of a strip, times the mask: (rows, Wo, groups * K * C / groups)."""
        rows = strip.stop - strip.start
        columns = self.strip[:rows]
        entries = columns.reshape(-1, self.width)
        arguments = lanes_of(self.width), strip.start, *self.arguments, entries
        run(sample_rows, sample_rows_in_threads, rows, entries.size, *arguments)
        return torch.from_numpy(columns)


class _Scatterer:
    """Collects the gradients to input, offset and mask, strip by strip. A thread owns the pieces it adds to."""

    def __init__(self, plan: _Plan, arrays: tuple[Any, ...]) -> None:
        rows, (B, _, K, Ho, Wo) = arrays[0], plan.points
        _, groups, _, pieces_of_group, self.width = plan.scattered
        self.plan, self.pieces = plan, groups * pieces_of_group
        self.arguments = (rows.reshape(-1, self.width), *arrays[1:], plan.scattered[:-1])
        self.grad_rows, self.grad_offset, self.grad_mask = (
            memory.array(*shape, like=rows)
            for shape in (rows.shape, (B, self.pieces, K, 2, Ho, Wo), (B, self.pieces, K, Ho, Wo))
        )
        torch.from_numpy(self.grad_rows).zero_()  # in threads

    def add(self, strip: slice, grad_columns: Tensor) -> None:
        """Spread the gradient of a strip's columns, (rows, Wo, groups * K * C / groups)."""
        entries = grad_columns.contiguous().numpy().reshape(-1, self.width)
        grads = self.grad_rows.reshape(-1, self.width), self.grad_offset, self.grad_mask
        arguments = lanes_of(self.width), strip.start, *self.arguments, entries, *grads
        run(scatter_rows, scatter_rows_in_threads, self.pieces, entries.size, *arguments)

    def gradients(self, input: Tensor, offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients to input, offset and mask, once every strip has been added."""
        grad_input = images_of(torch.from_numpy(self.grad_rows), like=input)
        return grad_input, self._summed(self.grad_offset, offset), self._summed(self.grad_mask, mask)

    def _summed(self, shares: np.ndarray, like: Tensor) -> Tensor:
        """The shares of all pieces of each offset group together, in the shape of the argument ``like``."""
        G = self.plan.points[1]
        if self.pieces == G:
            return torch.from_numpy(shares.reshape(like.shape))
        return torch.from_numpy(shares).unflatten(1, (G, -1)).sum(2).view(like.shape)
