"""Attention before it was taken apart: one fully connected map over levels, positions and channels.

    W(F) = pi(F) . F    (equation 1)

pi sees every number of F at once. It is the plainest thing to write and far too large to use, which is why
Dynamic Head decouples it into three. It is here so that its cost can be measured on a toy.
"""

from __future__ import annotations

import torch


def undecoupled_attention(F_BLSC: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sigmoid(weight . F) . F over the flattened F.

    Args:
        F_BLSC: features (B, L, S, C).
        weight: (N, N) with N = L * S * C.

    Returns:
        (B, L, S, C).

    Raises:
        ValueError: ``weight`` does not fit F.
    """
    n = F_BLSC[0].numel()
    if weight.shape != (n, n):
        raise ValueError(f"weight: expected ({n}, {n}) for F of shape {tuple(F_BLSC.shape)}, got {tuple(weight.shape)}")
    gates = torch.sigmoid(F_BLSC.flatten(1) @ weight.T)
    return gates.view_as(F_BLSC) * F_BLSC


def undecoupled_cost(levels: int, positions: int, channels: int) -> int:
    """Parameters of the fully connected map, (L S C)^2; also its multiply-adds per image."""
    return (levels * positions * channels) ** 2
