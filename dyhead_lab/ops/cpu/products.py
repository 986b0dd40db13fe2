"""The matrix products of a deformable convolution on a CPU: columns times weights, and both ways back.

The product is an ordinary 1x1 convolution, which oneDNN computes near the peak of the machine. But it has to be
prepared, and on the way back its kernel is turned: small ones, with few pixels or few channels, are plain matrix
products.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear

#: Multiply-adds of a small product: 25 pixels of 256 channels are one, for which to turn the kernel takes longer.
SMALL = 1 << 24


class Products:
    """The products of one call with its weights, strip by strip.

    Args:
        matrix: (Co, K * C / groups); columns and gradients to both have its dtype.
        factors: dtype of the factors; gradients to outputs come in it.
        pixels: of the largest strip.
    """

    def __init__(self, matrix: Tensor, factors: torch.dtype, groups: int, pixels: int) -> None:
        self.matrix, self.groups, self.dtype = _as(factors, matrix), groups, matrix.dtype
        self.is_small = groups == 1 and pixels * matrix.numel() <= SMALL
        self._gradient: Tensor | None = None  # like `matrix` for small products, else like `_turned`

    def outputs(self, columns: Tensor) -> Tensor:
        """Columns (rows, Wo, groups * K * C / groups) -> (rows, Wo, Co)."""
        columns = _as(self.matrix.dtype, columns)
        if self.is_small:
            return linear(columns, self.matrix)
        return _as_rows(conv2d(_as_image(columns), self.matrix[:, :, None, None], groups=self.groups))

    def gradient_of_columns(self, grad: Tensor) -> Tensor:
        """The gradient to the outputs, (rows, Wo, Co), taken back to their columns."""
        if self.is_small:
            return _as(self.dtype, grad @ self.matrix)
        of_columns = conv2d(_as_image(grad), self._turned, groups=self.groups)  # faster than conv2d's own backward
        return _as(self.dtype, _as_rows(of_columns))

    def add_gradient(self, grad: Tensor, columns: Tensor) -> None:
        """Add a strip's share of the gradient to the matrix."""
        columns = _as(self.matrix.dtype, columns)
        if self.is_small:
            share = grad.flatten(0, 1).t() @ columns.flatten(0, 1)
        else:  # with factors exchanged, (columns, grad), the same product is slower
            share = _gradient_of_kernel(_as_image(grad), self._turned, _as_image(columns), self.groups)
        share = _as(self.dtype, share)
        self._gradient = share if self._gradient is None else self._gradient.add_(share)

    def gradient(self) -> Tensor:
        """The gradient to the matrix, once every strip has been added."""
        assert self._gradient is not None  # a batch has rows
        return self._gradient if self.is_small else _turned(self._gradient, self.groups).flatten(1)

    @cached_property
    def _turned(self) -> Tensor:
        return _turned(self.matrix[:, :, None, None], self.groups)


def _as(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _turned(kernel: Tensor, groups: int) -> Tensor:
    """(groups * n, m, 1, 1) -> (groups * m, n, 1, 1): the kernel that takes each group's outputs back to its inputs."""
    return kernel.view(groups, -1, kernel.shape[1]).transpose(1, 2).reshape(-1, kernel.shape[0] // groups, 1, 1)


def _gradient_of_kernel(input: Tensor, kernel: Tensor, grad: Tensor, groups: int) -> Tensor:
    """The gradient to the 1x1 ``kernel`` of a convolution of ``input``."""
    steps = [1, 1], [0, 0], [1, 1], False, [0, 0]
    wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(grad, input, kernel, None, *steps, groups, wanted)[1]


def _as_image(rows: Tensor) -> Tensor:
    """(rows, Wo, n) as one channels-last image of many channels."""
    return rows[None].permute(0, 3, 1, 2)


def _as_rows(image: Tensor) -> Tensor:
    """The way back: (1, n, rows, Wo) as (rows, Wo, n)."""
    return image.permute(0, 2, 3, 1)[0]
