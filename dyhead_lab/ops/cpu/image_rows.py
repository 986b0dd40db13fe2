"""Images (B, C, H, W) as rows of pixels, (B * H, W, C), and back: the order in which samples are read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from . import block_cache as memory

#: Rows of pixels that change their order together, few enough to stay in cache.
ROWS_AT_ONCE = 4
#: Images of so few numbers stay in cache whole. NumPy turns them in half of the time that PyTorch takes.
FEW = 1 << 14


def empty_images(B: int, C: int, H: int, W: int, like: Tensor) -> Tensor:
    """Memory for a batch of images, their elements in the order of ``like``."""
    if like.is_contiguous():
        return memory.empty(B, C, H, W, like=like)
    return memory.empty(B, H, W, C, like=like).permute(0, 3, 1, 2)


def images_of(rows: Tensor, like: Tensor) -> Tensor:
    """Rows of pixels, (B * H, W, C), as images (B, C, H, W), their elements in the order of ``like``: a view where that
    is channels-last, else a copy."""
    B, (n, W, C) = like.shape[0], rows.shape
    images = rows.view(B, n // B, W, C)
    if not like.is_contiguous():
        return images.permute(0, 3, 1, 2)
    if rows.numel() <= FEW:
        return _turned(images, 0, 3, 1, 2)
    result = memory.empty(B, C, n // B, W, like=rows)
    put_rows(rows, 0, result)
    return result


def _turned(tensor: Tensor, *order: int) -> Tensor:
    """Few numbers in another order of the axes."""
    if tensor.dtype == torch.bfloat16:  # which NumPy does not know
        return tensor.permute(order).contiguous()
    return torch.from_numpy(np.ascontiguousarray(tensor.numpy().transpose(order)))


def put_rows(rows: Tensor, start: int, images: Tensor) -> None:
    """Write rows of pixels, (rows, W, C), into images (B, C, H, W), from row ``start`` of the batch on."""
    for source, target in _lines(images, start, start + len(rows)):
        target[:] = rows[source].permute(2, 0, 1)


def rows_of(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as rows of pixels, (B * H, W, C): a view of channels-last images, else a copy."""
    B, C, H, W = images.shape
    if images.numel() <= FEW:
        return _turned(images, 0, 2, 3, 1).view(B * H, W, C)
    last = images.permute(0, 2, 3, 1)
    if last.is_contiguous():
        return last.view(B * H, W, C)
    rows = memory.empty(B * H, W, C, like=images)
    for target, source in _lines(images, 0, B * H):
        rows[target] = source.permute(1, 2, 0)
    return rows


def _lines(images: Tensor, start: int, stop: int) -> Iterator[tuple[slice, Tensor]]:
    """The rows ``start`` .. ``stop`` of a batch of images, a few of one image at a time: where they lie among
    these rows, and themselves, (C, n, W)."""
    H = images.shape[2]
    first = start
    while first < stop:
        b, row = divmod(first, H)
        n = min(ROWS_AT_ONCE, stop - first, H - row)
        yield slice(first - start, first - start + n), images[b, :, row : row + n]
        first += n
