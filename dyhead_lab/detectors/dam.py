"""The decoder attention map (DAM): how much attention each encoder token receives from the decoder.

Sparse DETR learns to predict which tokens the decoder will look at, and refines only those.
Source: Roh et al., "Sparse DETR", ICLR 2022, section 3.3; kakaobrain/sparse-detr ``util/dam.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def decoder_attention_map(
    sampling_locations: Tensor,
    attention_weights: Tensor,
    spatial_shapes_L2: Tensor,
    level_start_index_L: Tensor,
    tokens: int,
    half_pixel: bool = True,
) -> Tensor:
    """Spread the weight of every sampling point over the four tokens that the point reads, and add it all up.

    Args:
        sampling_locations: (B, Q, M, L, P, 2), (x, y) in [0, 1]; for several layers, joined along Q.
        attention_weights: (B, Q, M, L, P).
        spatial_shapes_L2: (H, W) of each level, (L, 2).
        level_start_index_L: index of each level's first token, (L,).
        tokens: N.
        half_pixel: read cell centres at (i + 0.5) / size, as deformable attention does. False repeats the official
            code, whose map is shifted by half a cell.

    Returns:
        (B, N). Points outside a level add nothing.
    """
    B = sampling_locations.shape[0]
    size_L12 = spatial_shapes_L2.flip(-1)[:, None].to(sampling_locations.device, non_blocking=True)  # (W, H)
    position = sampling_locations * size_L12 - (0.5 if half_pixel else 0.0)
    corner = position.floor()
    far_share = position - corner
    dam_BN = position.new_zeros(B, tokens)  # under autocast the weights are bfloat16, the locations are not
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        step = torch.tensor([dx, dy], device=position.device)
        cell = corner + step
        share = torch.where(step.bool(), far_share, 1 - far_share).prod(-1) * attention_weights
        inside = ((cell >= 0) & (cell < size_L12)).all(-1)
        x, y = cell.long().unbind(-1)
        token = level_start_index_L[:, None].to(x.device, non_blocking=True) + y * size_L12[..., 0] + x
        dam_BN.scatter_add_(1, (token * inside).flatten(1), (share * inside).flatten(1))
    return dam_BN


@torch.no_grad()
def dense_attention_map(attention_maps: Sequence[Tensor]) -> Tensor:
    """The DAM (B, N) of a decoder with dense attention: its maps (B, M, Q, N), summed over layers, heads, queries."""
    return torch.stack([attention.sum((1, 2)) for attention in attention_maps]).sum(0)


def kept_share(dam_BN: Tensor, kept_BN: Tensor) -> Tensor:
    """Share of the decoder's attention that falls on kept tokens, per image: (B, N) both -> (B,)."""
    return (dam_BN * kept_BN).sum(1) / dam_BN.sum(1)


def correlation(dam_BN: Tensor, kept_BN: Tensor, sizes: Sequence[tuple[int, int]] = ()) -> Tensor:
    """Corr: the share of the decoder's attention that falls on kept tokens (Sparse DETR, equation 6).

    Args:
        dam_BN: decoder attention map, (B, N).
        kept_BN: True for kept tokens, (B, N).
        sizes: (H, W) of each level, to have it per level too.

    Returns:
        mean over the images: over all tokens, then per level, (1 + len(sizes),).
    """
    parts = [slice(None)]
    start = 0
    for H, W in sizes:
        parts.append(slice(start, start + H * W))
        start += H * W
    return torch.stack([kept_share(dam_BN[:, part], kept_BN[:, part]).mean() for part in parts])
