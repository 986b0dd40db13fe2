"""The small networks that turn a query into a class and a box, and the arithmetic of refining boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class BoxHead(nn.Module):
    """Three linear layers with ReLU between them: (..., C) -> (..., 4), a box in logits or a correction to one.

    Args:
        channels: C.
        size_bias: start value of the width and height outputs; -2 starts with small boxes (Deformable DETR).
        zero: start the last layer at zero, so that the head answers with its bias (Deformable DETR; DETR does not).
    """

    def __init__(self, channels: int, size_bias: float = 0.0, zero: bool = True):
        super().__init__()
        last = nn.Linear(channels, 4)
        self.layers = nn.ModuleList([nn.Linear(channels, channels), nn.Linear(channels, channels), last])
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            nn.init.constant_(last.bias[2:], size_bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu_()
        return self.layers[-1](x)


def class_head(channels: int, classes: int, prior: float = 0.01) -> nn.Linear:
    """Linear classifier for the focal loss: every class starts with probability ``prior`` (RetinaNet, section 4.1)."""
    head = nn.Linear(channels, classes)
    nn.init.constant_(head.bias, -math.log((1 - prior) / prior))
    return head


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of a probability, kept finite by ``eps`` at both ends."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def refine_boxes(correction: Tensor, reference: Tensor) -> Tensor:
    """Move reference points or boxes by a correction in logits: sigmoid(correction + logit(reference)).

    Args:
        correction: (..., 4), the output of a :class:`BoxHead`.
        reference: (..., 2) points, whose box takes its size from the correction alone, or (..., 4) boxes; in [0, 1].

    Returns:
        boxes (cx, cy, w, h) in [0, 1], (..., 4).

    Source: Deformable DETR, appendix A.4.
    """
    logit = inverse_sigmoid(reference)
    if reference.shape[-1] == 2:
        logit = torch.cat([logit, torch.zeros_like(logit)], -1)
    return (correction + logit).sigmoid()
