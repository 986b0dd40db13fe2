"""How strongly the predictors of a one-stage head weigh each channel, for a trace."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...trace import emit, is_traced


def show_strengths(head: nn.Module, *branches: Iterable[nn.Module]) -> None:
    """Emit ``channel_strengths`` of ``head``: for classes, boxes and centres, how strongly each channel is weighed.

    Args:
        head: the module in whose name it is emitted.
        branches: for classes, boxes and centres the modules that the features pass; the first convolution counts.
    """
    if is_traced():
        emit(head, channel_strengths=torch.stack([strength(first_convolution(branch)) for branch in branches]))


def first_convolution(branch: Iterable[nn.Module]) -> nn.Conv2d:
    """The convolution that reads the features, wherever it is nested.

    Raises:
        ValueError: there is none.
    """
    for part in branch:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                return module
    raise ValueError("branch: holds no convolution")


def strength(convolution: nn.Conv2d) -> Tensor:
    """Norm of all weights that read a channel, over outputs and taps: (C,)."""
    return convolution.weight.detach().square().sum((0, 2, 3)).sqrt()
