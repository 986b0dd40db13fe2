"""Spatial-aware attention pi_S: look where the object is, and fuse levels at the same place.

Both forms are a modulated deformable convolution over several levels with one map of offsets and masks. The
paper sums over all levels, resized to one size (equation 4). The released code keeps the pyramid and lets
each level read its neighbours, which raises a question of its own: how the offsets of a level fit the coarser
neighbour's grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..trace import emit, is_traced
from .pyramid import LevelNorm, resize_corners, to_coarser, to_finer
from .scale import mean_of_branches
from .traced_conv import traced_deform_conv2d

KERNEL = 3
TAPS = KERNEL * KERNEL

#: How a level's offsets and masks serve its neighbours; see :class:`SpatialAwareAttention`.
OFFSET_FITS = ("flat", "crop", "resize", "centres", "aligned", "upsample")
#: Of new detectors: offsets of a level that point at one place do so on its coarser neighbour, too.
EXACT_FIT = "centres"
#: Of detectors that were trained before that was so, where their files do not say it.
FORMER_FIT = "resize"
#: Those in which all maps of the coarser branch meet at the centres of cells.
AT_CENTRES = ("centres", "aligned")


class DeformableConvNorm(nn.Module):
    """3x3 convolution with bias, then GroupNorm with 16 groups; deformable when it is given offsets."""

    GROUPS = 16

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, KERNEL, stride, padding=KERNEL // 2)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.norm = LevelNorm(self.GROUPS, channels)

    def forward(
        self, x: torch.Tensor, offset: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Convolve (B, C, H, W); ``offset`` (B, 18, h, w) and ``mask`` (B, 9, h, w) have its output size."""
        conv = self.conv
        if offset is None:
            return self.norm(conv(x))
        return self.norm(
            traced_deform_conv2d(
                self, x, offset, conv.weight, conv.bias, stride=conv.stride[0], padding=KERNEL // 2, mask=mask
            )
        )


class OffsetMaskConv(nn.Conv2d):
    """The 3x3 convolution that predicts where to look: 18 offsets and 9 masks per position.

    It starts at zero: training starts from an ordinary convolution on its regular grid, with masks of 0.5.
    """

    sampling_parameters = ("weight", "bias")  # see detectors/protocol.py

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, 3 * TAPS, KERNEL, stride, padding=KERNEL // 2)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Offsets (B, 18, h, w), (dy, dx) per tap in pixels, and masks (B, 9, h, w) in [0, 1]."""
        offset_mask = super().forward(x)
        return offset_mask[:, : 2 * TAPS], offset_mask[:, 2 * TAPS :].sigmoid()


class SpatialAwareAttention(nn.Module):
    """The released form: a level and its two neighbours, each through its own convolution.

    The finer neighbour passes a convolution of stride 2; the coarser one is convolved on its own grid and
    then enlarged. One :class:`OffsetMaskConv` on the level itself steers all three. All levels share the
    weights.

    Emits ``offsets`` (B, 18, H, W) and ``masks`` (B, 9, H, W) of the level; ``branches`` (B, n, C, H, W),
    fine to coarse; and ``after_spatial``, the mean of the branches, which is what gates of one would pass on.

    Args:
        channels: C, a multiple of 16.
        offset_fit: how this level's offsets serve its neighbours. ``"upsample"`` enlarges the coarser neighbour first,
            so that they fit: right, but a convolution on four times the positions. The others keep it on its own
            grid; see :func:`fit_offsets`. Under all of them but one the finer neighbour takes the offsets as they are,
            as in the released code: an offset of 1 is half a pixel of the level there. ``"aligned"`` is ``"centres"``
            with offsets that point at the same places of the finer neighbour, too.
        deformable: False takes ordinary 3x3 convolutions instead; the fusion of levels stays.

    Raises:
        ValueError: ``channels`` or ``offset_fit`` is none of these.

    Source: microsoft/DynamicHead, ``DyConv`` of ``dyhead.py``; the switch is GLIP's ``USE_DFCONV``.
    """

    def __init__(self, channels: int, offset_fit: str = EXACT_FIT, deformable: bool = True):
        super().__init__()
        if channels % DeformableConvNorm.GROUPS:
            raise ValueError(f"channels: expected a multiple of {DeformableConvNorm.GROUPS}, got {channels}")
        if offset_fit not in OFFSET_FITS:
            raise ValueError(f"offset_fit: expected one of {', '.join(OFFSET_FITS)}, got {offset_fit!r}")
        self.offset_fit = offset_fit
        self.finer = DeformableConvNorm(channels, stride=2)
        self.own = DeformableConvNorm(channels)
        self.coarser = DeformableConvNorm(channels)
        self.offset_mask = OffsetMaskConv(channels) if deformable else None

    def forward(
        self, own: torch.Tensor, finer: torch.Tensor | None = None, coarser: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """The branches of one level, fine to coarse, each (B, C, H, W) of the size of ``own``.

        Args:
            own: the level itself, (B, C, H, W).
            finer: the next finer level, about (B, C, 2H, 2W), or None at the fine end.
            coarser: the next coarser level, about (B, C, H/2, W/2), or None at the coarse end.
        """
        offset, mask = self.offset_mask(own) if self.offset_mask is not None else (None, None)
        branches = [self.own(own, offset, mask)]
        if finer is not None:
            branches.insert(0, self._from_finer(finer, offset, mask, own.shape[-2:]))
        if coarser is not None:
            branches.append(self._from_coarser(coarser, offset, mask, own.shape[-2:]))
        if is_traced():
            if offset is not None:
                emit(self, offsets=offset, masks=mask)
            emit(self, branches=torch.stack(branches, dim=1), after_spatial=mean_of_branches(branches))
        return branches

    def _from_finer(self, finer, offset, mask, size) -> torch.Tensor:
        # A stride of 2 gives ceil(H / 2). Pyramids that round otherwise differ by a pixel, which is
        # interpolated away.
        if offset is not None:
            stepped = [(n + 1) // 2 for n in finer.shape[-2:]]
            offset, mask = resize_corners(offset, stepped), resize_corners(mask, stepped)
            if self.offset_fit == "aligned":
                # Cell i of the level lies between the finer cells 2i and 2i + 1; the convolution stands on 2i.
                offset = 2 * offset + 0.5
        return resize_corners(self.finer(finer, offset, mask), size)

    def _from_coarser(self, coarser, offset, mask, size) -> torch.Tensor:
        if self.offset_fit == "upsample":
            return self.coarser(resize_corners(coarser, size), offset, mask)
        if offset is not None:
            offset, mask = fit_offsets(offset, mask, coarser.shape[-2:], self.offset_fit)
        enlarge = to_finer if self.offset_fit in AT_CENTRES else resize_corners
        return enlarge(self.coarser(coarser, offset, mask), size)


def fit_offsets(
    offset: torch.Tensor, mask: torch.Tensor, size: torch.Size, offset_fit: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a level's offsets (B, 18, H, W) and masks (B, 9, H, W) to its coarser neighbour's ``size`` (h, w).

    - ``"flat"`` reads the first 18*h*w numbers of each image's offsets as if they were an h x w map. The
      released CUDA kernel does this because it does not compare sizes; the official weights were trained with
      it. Geometry is lost: the numbers belong to other channels and other places.
    - ``"crop"`` takes the top-left corner: the right channels at the wrong places.
    - ``"centres"``, ``"aligned"`` read the maps at the centres of the coarser cells and halve the offsets, because a
      pixel there is two pixels here. Offsets that all point at one place still do so.
    - ``"resize"`` halves them, too, but puts corner pixels on corner pixels, which moves every cell by up to
      half a pixel of its level.

    Raises:
        ValueError: ``offset_fit`` is none of these.
    """
    h, w = size
    if offset_fit == "flat":
        return _prefix(offset, h, w), _prefix(mask, h, w)
    if offset_fit == "crop":
        return offset[:, :, :h, :w], mask[:, :, :h, :w]
    if offset_fit in AT_CENTRES:
        return _at_coarser_centres(offset, size) / 2, to_coarser(mask, size)
    if offset_fit == "resize":
        return resize_corners(offset, size) / 2, resize_corners(mask, size)
    raise ValueError(f"offset_fit: expected flat, crop, resize, centres or aligned, got {offset_fit!r}")


def _at_coarser_centres(offset: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """The offsets (B, 18, h, w) of the coarser cells to where the level's own cells point, in its pixels."""
    fitted = to_coarser(offset, size)
    # The last cell of an odd side stands alone in its coarser cell, half a pixel before that one's centre.
    if offset.shape[-2] % 2 and size[0] == (offset.shape[-2] + 1) // 2:
        fitted[:, 0::2, -1] -= 0.5
    if offset.shape[-1] % 2 and size[1] == (offset.shape[-1] + 1) // 2:
        fitted[:, 1::2, :, -1] -= 0.5
    return fitted


def _prefix(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """The first numbers of each image of (B, K, H, W) as (B, K, h, w)."""
    B, K = x.shape[:2]
    return x.flatten(1)[:, : K * h * w].view(B, K, h, w)


class PaperSpatialAwareAttention(nn.Module):
    """The paper's form: one deformable convolution that sums over taps and levels (equation 4).

        pi_S(F) . F = 1/L sum_l sum_k w_{l,k} . F(l; p_k + dp_k; c) . dm_k

    Offsets dp and masks dm come from the median level's slice and are shared by all levels. The sum removes
    the level axis.

    Emits ``offsets`` (B, 18, H, W) and ``masks`` (B, 9, H, W).

    Args:
        channels: C.
        num_levels: L.
        depthwise: False: w_{l,k} is a C x C matrix. True: the scalar that the equation writes.
        deformable: False takes offsets of zero and masks of one: an ordinary 3x3 convolution over all levels.
    """

    def __init__(self, channels: int, num_levels: int, depthwise: bool = False, deformable: bool = True):
        super().__init__()
        shape = (1, num_levels) if depthwise else (channels, channels * num_levels)
        bound = (TAPS * (1 if depthwise else channels)) ** -0.5
        # Input channels stand level by level within a channel of F: c * L + l.
        self.weight = nn.Parameter(torch.empty(*shape, KERNEL, KERNEL).uniform_(-bound, bound))
        self.offset_mask = OffsetMaskConv(channels) if deformable else None

    def forward(self, F_BLSC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Sum (B, L, S, C) over taps and levels into (B, 1, S, C).

        Args:
            F_BLSC: the levels, resized to one size.
            size: (H, W) with H * W = S.
        """
        B, L, _, C = F_BLSC.shape
        x = F_BLSC.permute(0, 3, 1, 2).reshape(B, C * L, *size)
        weight = self.weight.expand(C, -1, -1, -1) / L
        if self.offset_mask is None:
            y = F.conv2d(x, weight, padding=KERNEL // 2, groups=C * L // weight.shape[1])
        else:
            median = F_BLSC[:, median_level(L)].transpose(1, 2).reshape(B, C, *size)
            offset, mask = self.offset_mask(median)
            emit(self, offsets=offset, masks=mask)
            y = traced_deform_conv2d(self, x, offset, weight, padding=KERNEL // 2, mask=mask)
        return y.flatten(2).transpose(1, 2).unsqueeze(1)


def median_level(num_levels: int) -> int:
    """Index of the median level, fine to coarse; of two in the middle the coarser, which costs less."""
    return num_levels // 2
