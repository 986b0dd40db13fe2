"""The Dynamic Head block as the paper's equations write it, on one tensor (B, L, S, C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..trace import emit, is_traced
from .pyramid import resize_area
from .scale import PaperScaleAwareAttention
from .spatial import PaperSpatialAwareAttention, median_level
from .task import PaperTaskAwareAttention

LEVELS = ("residual", "collapse")


class PaperDyHeadBlock(nn.Module):
    """W(F) = pi_C(pi_S(pi_L(F) . F) . F) . F (equation 2): scale, then spatial, then task.

    Emits per level, fine to coarse and (B, C, H, W) each: ``after_scale``, ``after_spatial``, ``after_task``
    and ``block_output`` (the same as ``after_task``), beside what its three attentions emit.

    Args:
        channels: C, a multiple of 4.
        num_levels: L.
        levels: the spatial attention sums over levels. ``"collapse"`` leaves it there, (B, 1, S, C).
            ``"residual"`` adds the sum back to every level, (B, L, S, C), so that blocks stack.
        depthwise: the literal scalar weight per level and tap instead of a C x C matrix.
        scale: False sets every weight to one.
        spatial: False takes an ordinary 3x3 convolution over all levels.
        task: False takes ReLU.

    Raises:
        ValueError: ``levels`` is none of these.
    """

    recompute = True  # see detectors/protocol.py

    def __init__(
        self,
        channels: int,
        num_levels: int,
        levels: str = "residual",
        depthwise: bool = False,
        scale: bool = True,
        spatial: bool = True,
        task: bool = True,
    ):
        super().__init__()
        if levels not in LEVELS:
            raise ValueError(f"levels: expected one of {', '.join(LEVELS)}, got {levels!r}")
        self.num_levels = num_levels
        self.levels = levels
        self.scale = PaperScaleAwareAttention(num_levels) if scale else None
        self.spatial = PaperSpatialAwareAttention(channels, num_levels, depthwise, deformable=spatial)
        self.task = PaperTaskAwareAttention(channels) if task else None

    def forward(self, F_BLSC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Attend over (B, L, S, C) with S = H * W.

        Returns:
            the same shape, or (B, 1, S, C) on collapse.
        """
        if F_BLSC.shape[1] != self.num_levels:
            raise ValueError(
                f"F_BLSC: this block was built for {self.num_levels} levels, got shape {tuple(F_BLSC.shape)}"
            )
        if self.scale is not None:
            F_BLSC = self.scale(F_BLSC)
        self._show(F_BLSC, size, "after_scale")
        summed_B1SC = self.spatial(F_BLSC, size)
        F_BLSC = summed_B1SC if self.levels == "collapse" else F_BLSC + summed_B1SC
        self._show(F_BLSC, size, "after_spatial")
        F_BLSC = F.relu(F_BLSC) if self.task is None else self.task(F_BLSC)
        self._show(F_BLSC, size, "after_task", "block_output")
        return F_BLSC

    def _show(self, F_BLSC: torch.Tensor, size: tuple[int, int], *names: str) -> None:
        if is_traced():
            for level in split_levels(F_BLSC, size, F_BLSC.shape[1]):
                emit(self, **dict.fromkeys(names, level))


def join_levels(levels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[int, int]]:
    """Resize the maps (B, C, H, W) of a pyramid to the median level's size and stack them.

    Returns:
        F (B, L, S, C) and the size (H, W) with S = H * W.
    """
    height, width = levels[median_level(len(levels))].shape[-2:]
    resized = [resize_area(x, (height, width)).flatten(2).transpose(1, 2) for x in levels]
    return torch.stack(resized, dim=1), (height, width)


def split_levels(F_BLSC: torch.Tensor, size: tuple[int, int], num_levels: int) -> list[torch.Tensor]:
    """The slices of (B, L, S, C) as maps (B, C, H, W); a collapsed F, L = 1, serves every level."""
    B, _, _, C = F_BLSC.shape
    F_BLSC = F_BLSC.expand(B, num_levels, -1, -1)
    return [x.transpose(1, 2).reshape(B, C, *size) for x in F_BLSC.unbind(1)]
