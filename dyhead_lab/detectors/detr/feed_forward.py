"""The feed-forward network of a transformer layer, which every family of DETR has after its attentions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Hidden numbers that are computed together where nothing is kept for a gradient: 8 MB in float32, which stay in the
#: second-level cache, or near it, from the first matrix product through ReLU to the second.
TOGETHER = 2 << 20


def feed_forward(x_BNC: Tensor, first: nn.Linear, last: nn.Linear, dropout: nn.Module) -> Tensor:
    """dropout(last(dropout(relu(first(x))))), (B, N, C).

    Detecting on a CPU, the tokens pass in strips: the hidden numbers of all 18,000 tokens of a pyramid would take
    73 MB, and new memory costs as much as the matrix product that fills it.
    """
    x = x_BNC
    few = x.shape[:-1].numel() * first.out_features <= TOGETHER
    if few or dropout.training or torch.is_grad_enabled() or x.device.type != "cpu":
        return dropout(last(dropout(first(x).relu_())))
    strips = x.flatten(0, 1).split(TOGETHER // first.out_features)
    return torch.cat([dropout(last(dropout(first(strip).relu_()))) for strip in strips]).view(x.shape)
