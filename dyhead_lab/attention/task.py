"""Task-aware attention pi_C: each channel picks its own activation, the larger of two lines.

    pi_C(F) . F = max(a1(F) . F_c + b1(F), a2(F) . F_c + b2(F))

The slopes and intercepts come from the mean of the features, so they follow the image (Dynamic ReLU; equation
5). The two forms differ in what the mean covers and in how the network theta is normalised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..trace import emit

#: The hidden layer of theta has C / REDUCTION channels.
REDUCTION = 4


class TaskAwareAttention(nn.Module):
    """The released form, Dynamic ReLU: one theta per level, from that level's own mean.

    theta is two linear layers with a ReLU between and hard_sigmoid(x) = relu6(x + 3) / 6 after. With its
    output y in [0, 1]: a1 = 2y in [0, 2], a2 = 2y - 1 in [-1, 1], b1 and b2 = y - 0.5. Zero weights and
    biases make it ReLU.

    Emits ``task_coefficients`` (B, 4, C): a1, b1, a2, b2.

    Args:
        channels: C, a multiple of 4.

    Source: microsoft/DynamicHead, ``DYReLU`` of ``dyrelu.py``.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.fc1, self.fc2 = _theta(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate (B, C, H, W); same shape back."""
        y = F.hardsigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        y_a1, y_b1, y_a2, y_b2 = (y - 0.5).chunk(4, dim=1)
        a1, b1, a2, b2 = 2 * y_a1 + 1, y_b1, 2 * y_a2, y_b2
        emit(self, task_coefficients=torch.stack([a1, b1, a2, b2], dim=1))
        return larger_line(x, *(c[:, :, None, None] for c in (a1, b1, a2, b2)))


class PaperTaskAwareAttention(nn.Module):
    """The paper's form: one theta for the whole pyramid, from the mean over levels and positions (equation
    5).

    theta is two linear layers with a ReLU between, layer normalisation and 2 sigmoid(x) - 1. With its output
    d in [-1, 1]: a1 = 1 + d, a2 = d, b = 0.5 d. The normalisation starts with weight zero, so training starts
    at ReLU.

    Emits ``task_coefficients`` (B, 4, C): a1, b1, a2, b2.

    Args:
        channels: C, a multiple of 4.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.fc1, self.fc2 = _theta(channels)
        self.norm = nn.LayerNorm(4 * channels)
        # Zeroing fc2 instead would leave the normalisation a vector without variance, whose gradient
        # explodes.
        nn.init.zeros_(self.norm.weight)

    def forward(self, F_BLSC: torch.Tensor) -> torch.Tensor:
        """Activate (B, L, S, C); same shape back."""
        theta = self.norm(self.fc2(F.relu(self.fc1(F_BLSC.mean((1, 2))))))
        d_a1, d_b1, d_a2, d_b2 = (2 * theta.sigmoid() - 1).chunk(4, dim=1)
        a1, b1, a2, b2 = 1 + d_a1, 0.5 * d_b1, d_a2, 0.5 * d_b2
        emit(self, task_coefficients=torch.stack([a1, b1, a2, b2], dim=1))
        return larger_line(F_BLSC, *(c[:, None, None, :] for c in (a1, b1, a2, b2)))


def _theta(channels: int) -> tuple[nn.Linear, nn.Linear]:
    """The two layers of theta: C -> C / 4 -> 4 C."""
    if channels % REDUCTION:
        raise ValueError(f"channels: expected a multiple of {REDUCTION}, got {channels}")
    return nn.Linear(channels, channels // REDUCTION), nn.Linear(channels // REDUCTION, 4 * channels)


def larger_line(
    x: torch.Tensor, a1: torch.Tensor, b1: torch.Tensor, a2: torch.Tensor, b2: torch.Tensor
) -> torch.Tensor:
    """max(a1 x + b1, a2 x + b2), with coefficients that broadcast against ``x``."""
    return torch.maximum(a1 * x + b1, a2 * x + b2)
