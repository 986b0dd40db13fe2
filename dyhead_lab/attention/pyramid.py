"""Feature pyramids: what the attentions take and give back, and how a map is resized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

#: Channels of a group, and pixels of a map: of fewer, PyTorch normalises channels-last maps slowly on a processor.
NARROW, SMALL = 8, 1024

#: A feature pyramid: level name -> map, or the maps alone, (B, C, H, W) each, fine to coarse.
Pyramid = Mapping[Any, torch.Tensor] | Sequence[torch.Tensor]


def pyramid_levels(pyramid: Pyramid, channels: int) -> list[torch.Tensor]:
    """The maps of ``pyramid`` as a list, fine to coarse.

    Raises:
        TypeError: ``pyramid`` is neither a dict nor a sequence of tensors.
        ValueError: it is empty, a map is not (B, ``channels``, H, W), or the maps are not ordered fine to
            coarse.
    """
    if not isinstance(pyramid, Mapping | Sequence):
        raise TypeError(f"pyramid: expected a dict or a sequence of (B, C, H, W) maps, got {type(pyramid).__name__}")
    levels = list(pyramid.values() if isinstance(pyramid, Mapping) else pyramid)
    if not levels:
        raise ValueError("pyramid: expected at least one level, got none")
    for i, level in enumerate(levels):
        expected = (levels[0].shape[0], channels)
        if level.dim() != 4 or level.shape[:2] != expected:
            raise ValueError(f"pyramid: level {i} has shape {tuple(level.shape)}, expected {expected} and then (H, W)")
        before = levels[max(i - 1, 0)]
        if level.shape[2] > before.shape[2] or level.shape[3] > before.shape[3]:
            raise ValueError(
                f"pyramid: expected levels from fine to coarse, but level {i} has size "
                f"{tuple(level.shape[2:])} and the one before it {tuple(before.shape[2:])}"
            )
    return levels


def like_pyramid(pyramid: Pyramid, levels: Sequence[torch.Tensor]) -> Any:
    """``levels`` in the container of ``pyramid``: a dict with its keys, a tuple, or a list."""
    if isinstance(pyramid, Mapping):
        return dict(zip(pyramid, levels, strict=True))
    return tuple(levels) if isinstance(pyramid, tuple) else list(levels)


def resize_corners(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear resize of (B, C, H, W) that maps corner pixels onto corner pixels, as the released code does.

    A map that has the size already is returned as it is.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def to_coarser(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A map (B, C, H, W) at the cells of the next coarser level, of ``size`` (h, w).

    Cell i of a level has its centre at (i + 1/2) times the stride. A coarser cell has the centre of the two by two
    cells that it covers, so a bilinear sample there is their mean. On a side of odd size the last cell stands alone.
    """
    if [(n + 1) // 2 for n in x.shape[-2:]] == list(size):
        return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    return _resize_centres(x, size)


def to_finer(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A map (B, C, h, w) at the cells of the next finer level, of ``size`` (H, W): bilinear between cell centres."""
    h, w = x.shape[-2:]
    if [(n + 1) // 2 for n in size] == [h, w]:
        return _resize_centres(x, (2 * h, 2 * w))[:, :, : size[0], : size[1]]
    return _resize_centres(x, size)


def _resize_centres(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear resize of (B, C, H, W) in which the outer edges of both maps coincide."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def resize_area(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize (B, C, H, W) by covered area: means when it shrinks, bilinear interpolation when it grows.

    Means, because a bilinear sample of a map four times as large would skip most of its pixels.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if x.shape[-2] >= size[0] and x.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class LevelNorm(nn.GroupNorm):
    """Group normalisation that also takes a level of a single place, as the coarsest level of a small image is.

    PyTorch's own refuses one image of 1 x 1, although a group of several channels has a mean and a variance there. And
    on a processor it takes twenty times as long and more for small channels-last maps of narrow groups as for others:
    these are normalised in the other order of memory.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = x.contiguous() if self._is_narrow_and_small(x) else x
        normed = torch.group_norm(turned, self.num_groups, self.weight, self.bias, self.eps)
        return normed if turned is x else normed.contiguous(memory_format=torch.channels_last)

    def _is_narrow_and_small(self, x: torch.Tensor) -> bool:
        """Whether PyTorch would walk through (B, C, H, W) in steps of one group's few channels of one pixel."""
        narrow = self.num_channels // self.num_groups < NARROW and x.shape[-2] * x.shape[-1] < SMALL
        return narrow and x.device.type == "cpu" and not x.is_contiguous()
