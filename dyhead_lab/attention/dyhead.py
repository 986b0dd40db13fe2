"""Dynamic Head: scale-, spatial- and task-aware attention in one block, and blocks in a stack.

The paper (Dai et al., "Dynamic Head: Unifying Object Detection Heads with Attentions", CVPR 2021) and the
code that its authors released differ; both are here. This file holds the released form and the stack;
``paper.py`` holds the paper's block.

| | paper | released |
| --- | --- | --- |
| features | one tensor (B, L, S, C) of the median level's size | the pyramid, each level at its own size |
| order | scale, spatial, task | spatial, scale, task |
| levels that meet | all | a level and its two neighbours |
| scale weights | one per level, from all level means | one per branch, each from its own mean |
| theta | from the mean over levels and positions | from each level's mean over positions |
| back to the pyramid | not said: here each level's slice is resized to it and added to what came in | as it is |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..trace import emit
from .paper import PaperDyHeadBlock, join_levels, split_levels
from .pyramid import Pyramid, like_pyramid, pyramid_levels, resize_area
from .scale import ScaleAwareAttention, mean_of_branches
from .spatial import EXACT_FIT, SpatialAwareAttention
from .task import TaskAwareAttention

FORMS = ("released", "paper")


class DyHeadBlock(nn.Module):
    """One block of the released form: for each level, spatial- then scale- then task-aware attention.

        Y_l = pi_C(pi_L(pi_S(X_l, X_{l-1}, X_{l+1})))

    All levels share the weights and read the block's input, never each other's output.

    Emits per level, fine to coarse: ``after_scale``, ``after_task`` and ``block_output`` (the last two are
    the same map here), beside what its attentions emit.

    Args:
        channels: C, a multiple of 16.
        offset_fit: how offsets fit the coarser neighbour; see
            :func:`~dyhead_lab.attention.spatial.fit_offsets`.
        scale: False sets every gate to one: the plain mean of the branches.
        spatial: False takes ordinary 3x3 convolutions; levels are still fused.
        task: False takes ReLU.
        extra: makes one more attention for C channels. It takes all levels and returns maps of the same shapes. It
            comes first in the block, before a convolution mixes neighbours. The paper has none.

    Source: microsoft/DynamicHead, ``dyhead.py``; the switches are GLIP's.
    """

    recompute = True  # see detectors/protocol.py

    def __init__(
        self,
        channels: int,
        offset_fit: str = EXACT_FIT,
        scale: bool = True,
        spatial: bool = True,
        task: bool = True,
        extra: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        self.spatial = SpatialAwareAttention(channels, offset_fit, deformable=spatial)
        self.scale = ScaleAwareAttention(channels) if scale else None
        self.task = TaskAwareAttention(channels) if task else None
        self.extra = extra(channels) if extra is not None else None

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Attend over the maps (B, C, H, W) of a pyramid, fine to coarse; the same shapes back."""
        if self.extra is not None:
            levels = self.extra(levels)
        outputs = []
        for l, own in enumerate(levels):
            finer = levels[l - 1] if l > 0 else None
            coarser = levels[l + 1] if l + 1 < len(levels) else None
            branches = self.spatial(own, finer, coarser)
            fused = mean_of_branches(branches) if self.scale is None else self.scale(branches)
            y = F.relu(fused) if self.task is None else self.task(fused)
            emit(self, after_scale=fused, after_task=y, block_output=y)
            outputs.append(y)
        return outputs


class DyHead(nn.Module):
    """A stack of DyHead blocks on a feature pyramid, in either form.

    The paper's form ends with a skip, which is our choice: level l becomes ``x_l + resize(y_l)``, where x_l is the
    level that came in and y_l its slice after the last block, of the median level's size. Without it no level could
    hold anything finer than the median level.

    Args:
        channels: C of every level; a multiple of 16 (released) or of 4 (paper).
        blocks: how many; the paper and every released recipe take 6.
        form: ``"released"`` or ``"paper"``.
        offset_fit: released form: ``"centres"`` (exact on the coarser neighbour), ``"aligned"`` (on the finer one,
            too), ``"flat"`` (what the official weights were trained with), ``"resize"``, ``"crop"`` or ``"upsample"``.
        scale, spatial, task: the three switches of the ablation; each block says what "off" means.
        num_levels: paper form: L, which it needs because every level has weights of its own.
        levels: paper form: ``"residual"`` adds the summed map back to every level; ``"collapse"`` is the
            literal equation, after which one level is left.
        depthwise: paper form: the literal scalar w_{l,k} instead of a C x C matrix.
        extra: released form: makes one more attention at the start of every block; see :class:`DyHeadBlock`.

    Raises:
        ValueError: an option has an unknown value, ``num_levels`` is missing in the paper form, or ``extra`` is
            given to it.
    """

    def __init__(
        self,
        channels: int,
        blocks: int = 6,
        *,
        form: str = "released",
        offset_fit: str = EXACT_FIT,
        scale: bool = True,
        spatial: bool = True,
        task: bool = True,
        num_levels: int | None = None,
        levels: str = "residual",
        depthwise: bool = False,
        extra: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
        if blocks < 1:
            raise ValueError(f"blocks: expected at least 1, got {blocks}")
        self.channels = channels
        self.form = form
        switches = {"scale": scale, "spatial": spatial, "task": task}
        if form == "released":
            self.blocks = nn.ModuleList(
                DyHeadBlock(channels, offset_fit, **switches, extra=extra) for _ in range(blocks)
            )
            return
        if extra is not None:
            raise ValueError("extra: one more attention goes with form='released', got form='paper'")
        if num_levels is None:
            raise ValueError("num_levels: form='paper' has weights for each level and needs their number")
        # After a collapse one level is left, and the next block works on that.
        counts = [num_levels] + [num_levels if levels == "residual" else 1] * (blocks - 1)
        self.blocks = nn.ModuleList(
            PaperDyHeadBlock(channels, count, levels=levels, depthwise=depthwise, **switches) for count in counts
        )

    def forward(self, pyramid: Pyramid) -> Any:
        """Attend over a pyramid.

        Args:
            pyramid: dict or sequence of maps (B, C, H, W), fine to coarse, of any sizes.

        Returns:
            The same kind of container with the same keys and shapes.

        Raises:
            TypeError, ValueError: ``pyramid`` is no such thing; the message names the level.
        """
        levels = pyramid_levels(pyramid, self.channels)
        return like_pyramid(pyramid, self._released(levels) if self.form == "released" else self._paper(levels))

    def _released(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        for block in self.blocks:
            levels = block(levels)
        return levels

    def _paper(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        F_BLSC, size = join_levels(levels)
        for block in self.blocks:
            F_BLSC = block(F_BLSC, size)
        attended = split_levels(F_BLSC, size, len(levels))
        return [x + resize_area(y, x.shape[-2:]) for x, y in zip(levels, attended, strict=True)]
