"""Joint attention: every place of every level reads every other one, in a single softmax.

The three attentions of Dynamic Head look along one axis of F at a time. Whether several axes should be attended
jointly is an open question of the paper. This is one candidate, over levels and positions at once; it plugs into a
block as ``extra`` (see :class:`~dyhead_lab.attention.DyHeadBlock`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..trace import emit, is_traced

#: Score of a token with itself where queries and keys start alike: e^9 beside 1 for a token without resemblance.
OWN_SCORE = 9.0


class JointAttention(nn.Module):
    """Scaled dot-product attention over the N tokens of a whole pyramid, added to what it reads.

        Y = F + gamma . softmax(Q K^T / sqrt(C)) V,    Q, K, V linear in LayerNorm(F)

    gamma starts at zero: a trained head with a new joint attention computes exactly what it computed before. Queries
    and keys start with the same weights, so that a place reads what resembles it. Tokens carry no position: a place
    is found by what it holds, not by where it lies.

    Emits ``attention_maps`` (B, 1, N, N), fine to coarse; apart from each other, one per level (B, 1, S, S).

    Args:
        channels: C of every level.
        across_levels: False lets a place read its own level only, S tokens instead of N = sum of all S.
        alike: False draws queries and keys independently, as usual in transformers.

    Source: dot-product attention of Vaswani et al., "Attention Is All You Need", 2017; its use here is our own.
    """

    def __init__(self, channels: int, across_levels: bool = True, alike: bool = True):
        super().__init__()
        self.across_levels = across_levels
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        if alike:
            query, key, _ = self.query_key_value.weight.data.chunk(3)
            key.copy_(nn.init.orthogonal_(query, gain=(OWN_SCORE / channels**0.5) ** 0.5))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Attend over maps (B, C, H, W) of any sizes; the same shapes back."""
        if not self.across_levels:
            return [self._attend([level])[0] for level in levels]
        return self._attend(levels)

    def _attend(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        F_BNC = to_tokens(levels)
        q_BNC, k_BNC, v_BNC = self.query_key_value(self.norm(F_BNC)).chunk(3, dim=-1)
        if is_traced():
            scores_BNN = q_BNC @ k_BNC.transpose(1, 2) / q_BNC.shape[-1] ** 0.5
            emit(self, attention_maps=scores_BNN.softmax(-1).unsqueeze(1))
        read_BNC = F.scaled_dot_product_attention(q_BNC, k_BNC, v_BNC)
        return to_levels(F_BNC + self.gamma * read_BNC, [tuple(level.shape[-2:]) for level in levels])


def to_tokens(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps (B, C, H, W), fine to coarse, as tokens (B, N, C): level after level, row after row."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def to_levels(tokens_BNC: torch.Tensor, sizes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Tokens (B, N, C) as maps (B, C, H, W) of ``sizes`` (H, W): what :func:`to_tokens` joined.

    Raises:
        ValueError: the sizes do not add up to N.
    """
    counts = [H * W for H, W in sizes]
    if sum(counts) != tokens_BNC.shape[1]:
        raise ValueError(f"sizes: {list(sizes)} have {sum(counts)} places, expected {tokens_BNC.shape[1]}")
    parts = tokens_BNC.split(counts, dim=1)
    # Contiguous, since a convolution rounds differently where channels lie next to each other in memory.
    return [part.transpose(1, 2).unflatten(2, size).contiguous() for part, size in zip(parts, sizes, strict=True)]
