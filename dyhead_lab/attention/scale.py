"""Scale-aware attention pi_L: which level speaks louder.

Both forms gate whole feature maps by one number each. The paper computes one number per level from the vector
of level means; the released code computes one per branch of a level, each from its own mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..trace import emit


class ScaleAwareAttention(nn.Module):
    """The released form: each branch of a level gates itself, and the level becomes the mean of its branches.

        gate(X) = hard_sigmoid(relu(w . mean_HW(X) + b)),    Y = 1/n sum_i gate(X_i) X_i

    with hard_sigmoid(x) = relu6(x + 3) / 6. The inner ReLU keeps every gate in [0.5, 1].

    Emits ``scale_weights`` (B, n): the gates in the order of ``branches``, which is fine to coarse.

    Args:
        channels: C of every branch.

    Source: microsoft/DynamicHead, ``AttnConv`` of ``dyhead.py``.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Linear(channels, 1)
        nn.init.normal_(self.gate.weight, std=0.01)
        nn.init.zeros_(self.gate.bias)

    def forward(self, branches: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse n branches, (B, C, H, W) each, into one map (B, C, H, W)."""
        means_BnC = torch.stack([x.mean((2, 3)) for x in branches], dim=1)
        gates_Bn = F.hardsigmoid(F.relu(self.gate(means_BnC).squeeze(-1)))
        emit(self, scale_weights=gates_Bn)
        return mean_of_branches([x * gates_Bn[:, i, None, None, None] for i, x in enumerate(branches)])


def mean_of_branches(branches: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean of n maps (B, C, H, W): over the branches that are present, two at the ends of a pyramid."""
    total = branches[0]
    for x in branches[1:]:
        total = total + x
    return total / len(branches)


class PaperScaleAwareAttention(nn.Module):
    """The paper's form: one weight per level, from the means of all levels (equation 3).

        pi_L(F) . F = sigma(f(1/(S C) sum_{S,C} F)) . F,    sigma(x) = max(0, min(1, (x + 1) / 2))

    f is linear, L -> L: a 1x1 convolution with the levels as channels.

    Emits ``scale_weights`` (B, L), fine to coarse.

    Args:
        num_levels: L.
    """

    def __init__(self, num_levels: int):
        super().__init__()
        self.f = nn.Linear(num_levels, num_levels)

    def forward(self, F_BLSC: torch.Tensor) -> torch.Tensor:
        """Weigh the levels of (B, L, S, C); same shape back."""
        means_BL = F_BLSC.mean((2, 3))
        weights_BL = paper_sigmoid(self.f(means_BL))
        emit(self, scale_weights=weights_BL)
        return weights_BL[:, :, None, None] * F_BLSC


def paper_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """The paper's hard sigmoid, max(0, min(1, (x + 1) / 2)): 0 below -1, 1 above 1."""
    return ((x + 1) / 2).clamp(0, 1)


def scale_ratio(weights: torch.Tensor, level: int | None = None) -> torch.Tensor:
    """How much a level listens to finer levels rather than to coarser ones, (B,).

    Above 1 the finer side speaks louder. The released gates lie in [0.5, 1], so their ratio lies in [0.5, 2].

    Args:
        weights: traced ``scale_weights``, fine to coarse. Released form: the gates of one level's branches,
            (B, branches). Paper form: the weights of all levels, (B, L).
        level: None for the released form: gate of the finest branch present over gate of the coarsest one.
            For the paper form the level in question: mean weight of the finer levels over mean weight of the
            coarser ones, where the level itself stands in for a side that has none.

    Raises:
        ValueError: ``weights`` is not two-dimensional, or ``level`` is not one of its levels.
    """
    if weights.dim() != 2:
        raise ValueError(f"weights: expected (B, branches) or (B, L), got shape {tuple(weights.shape)}")
    if level is None:
        return weights[:, 0] / weights[:, -1]
    last = weights.shape[1] - 1
    if not 0 <= level <= last:
        raise ValueError(f"level: expected 0 to {last} for weights of shape {tuple(weights.shape)}, got {level}")
    finer = weights[:, : max(level, 1)]
    coarser = weights[:, min(level + 1, last) :]
    return finer.mean(1) / coarser.mean(1)
