"""Memory for large tensors, in large pages, and used again.

To touch new memory costs as much as to compute on it: Linux must find every page and clear it.
"""

from __future__ import annotations

import os
import threading
import weakref
from math import prod

import numpy as np
import torch
from torch import Tensor

#: NumPy asks Linux for pages of 2 MiB from this size on. PyTorch does so only where the environment says it.
LARGE = 4 << 20
#: Bytes of a cache line: a vector that begins with a line is read at once, another one in two parts.
LINE = 64
#: Blocks that no tensor uses any more wait for the next one, up to this many bytes in all.
KEPT = 256 << 20

#: Every block, and the array in it that a tensor holds. The array is gone when the last such tensor is.
_blocks: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []
_lock = threading.Lock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def empty(*shape: int, like: Tensor) -> Tensor:
    """A tensor with the dtype of ``like`` on the CPU, its values undefined."""
    size = prod(shape) * like.element_size()
    if size < LARGE:
        return torch.empty(shape, dtype=like.dtype)
    with _lock:
        block = _taken(size + LINE)
        first = -block.ctypes.data % LINE
        array = block[first : first + size]
        _blocks.append((block, weakref.ref(array)))
    return torch.from_numpy(array).view(like.dtype).view(shape)  # NumPy knows no bfloat16


def _taken(size: int) -> np.ndarray:
    """A block of ``size`` bytes or more: an idle one that is not twice as large, taken from the list, or a new one."""
    idle = [n for n, (_, user) in enumerate(_blocks) if user() is None]
    for n in idle:
        if size <= _blocks[n][0].nbytes < 2 * size:
            return _blocks.pop(n)[0]
    spare = sum(_blocks[n][0].nbytes for n in idle) - KEPT
    for n in reversed(idle):
        if spare > 0:
            spare -= _blocks.pop(n)[0].nbytes
    return np.empty(size, np.uint8)


def zeros(*shape: int, like: Tensor) -> Tensor:
    """The same, filled with zeros."""
    return empty(*shape, like=like).zero_()


def contiguous(tensor: Tensor) -> Tensor:
    """The tensor itself if its elements lie in order, else a copy."""
    return tensor if tensor.is_contiguous() else empty(*tensor.shape, like=tensor).copy_(tensor)
