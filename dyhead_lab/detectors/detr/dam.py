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
    device = sampling_locations.device
    size_L12 = spatial_shapes_L2.flip(-1)[:, None].to(device, non_blocking=True)  # (W, H)
    start_L1 = level_start_index_L[:, None].to(device, non_blocking=True)
    W_L1, H_L1 = size_L12.unbind(-1)
    position = sampling_locations * size_L12 - (0.5 if half_pixel else 0.0)
    corner = position.floor()
    left, top = corner.long().unbind(-1)
    right_share, bottom_share = (position - corner).unbind(-1)
    dam_BN = position.new_zeros(B, tokens)  # under autocast the weights are bfloat16, the locations are not
    for x, share_x in ((left, 1 - right_share), (left + 1, right_share)):
        for y, share_y in ((top, 1 - bottom_share), (top + 1, bottom_share)):
            inside = (x >= 0) & (x < W_L1) & (y >= 0) & (y < H_L1)
            token, share = start_L1 + y * W_L1 + x, share_x * share_y * attention_weights
            dam_BN.scatter_add_(1, (token * inside).flatten(1), (share * inside).flatten(1))
    return dam_BN


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
