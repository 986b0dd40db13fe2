"""A first guess of a box for every encoder token, from its place and level alone.

Source: Deformable DETR, appendix A.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .deformable_transformer import FlatPyramid

#: Width and height of a proposal on the finest level, normalised; it doubles with every level.
FINEST_SIZE = 0.05
#: Proposals with a coordinate outside this range are not used.
USABLE = (0.01, 0.99)


def grid_boxes(pyramid: FlatPyramid) -> tuple[Tensor, Tensor]:
    """One box per token: centred on its cell, twice as large on every coarser level.

    Returns:
        logits of the boxes (cx, cy, w, h), (B, N, 4), +inf where a token is not usable; and whether it is, (B, N):
        inside the image and not too close to its border.
    """
    centres_BN2 = pyramid.cell_references()
    sides_N = torch.cat(
        [centres_BN2.new_full((H * W,), FINEST_SIZE * 2.0**level) for level, (H, W) in enumerate(pyramid.sizes)]
    )
    boxes_BN4 = torch.cat([centres_BN2, sides_N[:, None].expand_as(centres_BN2)], -1)
    usable_BN = ((boxes_BN4 > USABLE[0]) & (boxes_BN4 < USABLE[1])).all(-1) & ~pyramid.padding_BN
    return (boxes_BN4 / (1 - boxes_BN4)).log().masked_fill(~usable_BN[..., None], torch.inf), usable_BN


def take(x_BN: Tensor, index_BQ: Tensor) -> Tensor:
    """Rows of every image by index: (B, N, C) -> (B, Q, C)."""
    return x_BN.gather(1, index_BQ[..., None].expand(-1, -1, x_BN.shape[-1]))
