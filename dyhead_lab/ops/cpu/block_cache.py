"""Memory for large tensors, in large pages, and used again. Where this part is left out, ``torch.empty`` gives it.

To touch new memory costs as much as to compute on it: Linux must find every page and clear it.
"""

from __future__ import annotations

import weakref
from math import prod

import numpy as np
import torch
from torch import Tensor

from . import parts

#: NumPy asks Linux for pages of 2 MiB from this size on. PyTorch does so only where the environment says it.
LARGE = 4 << 20
#: Bytes of a cache line: a vector that begins with a line is read at once, another one in two parts.
LINE = 64
#: NumPy makes arrays of fewer bytes in a fraction of the time. Larger ones gain from beginning with a line.
TINY = 1 << 16
#: Blocks that no tensor uses any more wait for the next one, up to this many bytes in all.
KEPT = 256 << 20

#: These blocks, by their id, in the order in which they came back. Several threads may take and bring: in `_taken` and
#: `_bring` each step that changes the dictionary is one call, which Python does not interrupt.
_idle: dict[int, np.ndarray] = {}


def empty(*shape: int, like: Tensor) -> Tensor:
    """A tensor with the dtype of ``like`` on the CPU, its values undefined."""
    size = prod(shape) * like.element_size()
    if size < LARGE or not parts.has("block cache"):
        return torch.empty(shape, dtype=like.dtype)
    block = _taken(size + LINE)
    first = -block.ctypes.data % LINE
    array = block[first : first + size]
    # The last tensor that uses the array takes it along when it goes.
    weakref.finalize(array, _bring, block).atexit = False
    return torch.from_numpy(array).view(like.dtype).view(shape)  # NumPy knows no bfloat16


def _taken(size: int) -> np.ndarray:
    """A block of ``size`` bytes or more: an idle one that is not twice as large, or a new one."""
    for key, block in list(_idle.items()):
        if size <= block.nbytes < 2 * size and _idle.pop(key, None) is not None:
            return block
    return np.empty(size, np.uint8)


def _bring(block: np.ndarray) -> None:
    """Keep a block for the next tensor. Beyond :data:`KEPT` bytes in all, those that were idle longest are freed."""
    if block.nbytes > KEPT:
        return
    _idle[id(block)] = block
    for key in list(_idle):
        if sum(each.nbytes for each in list(_idle.values())) > KEPT:
            _idle.pop(key, None)


def array(*shape: int, like: np.ndarray) -> np.ndarray:
    """The same for NumPy."""
    if prod(shape) * like.itemsize < TINY:
        return np.empty(shape, like.dtype)
    return empty(*shape, like=torch.from_numpy(like)).numpy()


def contiguous(tensor: Tensor) -> Tensor:
    """The tensor itself if its elements lie in order, else a copy."""
    return tensor if tensor.is_contiguous() else empty(*tensor.shape, like=tensor).copy_(tensor)
