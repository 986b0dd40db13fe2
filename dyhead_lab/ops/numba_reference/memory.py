"""Memory for large tensors in large pages. To touch new memory in pages of 4 KiB costs as much as to compute on it."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

#: NumPy asks Linux for pages of 2 MiB from this size on. PyTorch does so only where the environment says it.
LARGE = 4 << 20


def empty(*shape: int, like: Tensor) -> Tensor:
    """A tensor with the dtype of ``like`` on the CPU, its values undefined."""
    size = prod(shape) * like.element_size()
    if size < LARGE:
        return torch.empty(shape, dtype=like.dtype)
    return torch.from_numpy(np.empty(size, np.uint8)).view(like.dtype).view(shape)  # NumPy knows no bfloat16


def zeros(*shape: int, like: Tensor) -> Tensor:
    """The same, filled with zeros."""
    return empty(*shape, like=like).zero_()


def contiguous(tensor: Tensor) -> Tensor:
    """The tensor itself if its elements lie in order, else a copy."""
    return tensor if tensor.is_contiguous() else empty(*tensor.shape, like=tensor).copy_(tensor)
