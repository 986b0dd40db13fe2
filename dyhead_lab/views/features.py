"""The energy of features, and how much of it lies in how few places."""

from __future__ import annotations

import torch

TOP = 0.1  # share of positions


def energy(features: torch.Tensor) -> torch.Tensor:
    """Energy of every position: the sum of squares over channels, (B, C, H, W) -> (B, H, W)."""
    return features.square().sum(1)


def energy_share(features: torch.Tensor, top: float = TOP) -> torch.Tensor:
    """The share of the energy that lies in the strongest positions: a number for "sparser".

    Equal energy everywhere gives ``top``; everything in one place gives 1.

    Args:
        features: (B, C, H, W).
        top: share of positions that count as the strongest, at least one position.

    Returns:
        (B,), each in [top, 1] up to rounding of the number of positions.

    Raises:
        ValueError: ``features`` has another number of axes, or ``top`` is not in (0, 1].
    """
    if features.dim() != 4:
        raise ValueError(f"features: got shape {tuple(features.shape)}, expected (B, C, H, W)")
    if not 0 < top <= 1:
        raise ValueError(f"top: got {top}, expected a share in (0, 1]")
    energy_BS = energy(features).flatten(1)
    strongest = energy_BS.topk(max(1, round(top * energy_BS.shape[1])), dim=1).values
    return strongest.sum(1) / energy_BS.sum(1)
