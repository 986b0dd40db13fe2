"""Point sets as boxes: what RepPoints turns its points into, and how it samples features at them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...attention.traced_conv import traced_deform_conv2d
from ..losses import share_gradient

POINTS = 9  # taps of a 3x3 convolution
#: Share of the gradient that the widths of :class:`MomentBox` pass to its factors.
MOMENT_GRADIENT = 0.01


def min_max_box(points: Tensor) -> Tensor:
    """The smallest box around each set of points: (..., P, 2), (x, y), -> xyxy (..., 4)."""
    return torch.cat([points.amin(-2), points.amax(-2)], -1)


class MomentBox(nn.Module):
    """The box around the mean of a set of points whose half sides are their standard deviations times learned factors.

        half = exp(f) * std(points),    box = mean(points) -+ half

    Every point moves the box, where the smallest box hears only its outermost points. The factors f, one for x and one
    for y, are shared by all places and start at 0.

    Shapes: (..., P, 2), (x, y) -> xyxy (..., 4).
    """

    def __init__(self):
        super().__init__()
        self.factors = nn.Parameter(torch.zeros(2))

    def forward(self, points: Tensor) -> Tensor:
        half = points.std(-2) * share_gradient(self.factors, MOMENT_GRADIENT).exp()
        middle = points.mean(-2)
        return torch.cat([middle - half, middle + half], -1)


#: How points become boxes, by name (RepPoints, section 3.2).
TO_BOX: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {"moment": MomentBox, "min_max": lambda: min_max_box}


class PointConv(nn.Module):
    """A 3x3 convolution whose nine taps read a map at nine given points, instead of around the place.

    Emits what :func:`~dyhead_lab.attention.traced_conv.traced_deform_conv2d` emits.

    Shapes: (B, C, H, W) and points (B, 18, H, W), (dy, dx) per point in cells from the place -> (B, C, H, W).
    """

    grid: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3).normal_(std=0.01))
        y, x = torch.meshgrid(torch.arange(-1.0, 2.0), torch.arange(-1.0, 2.0), indexing="ij")
        self.register_buffer("grid", torch.stack([y, x], -1).view(1, 2 * POINTS, 1, 1), persistent=False)

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        return traced_deform_conv2d(self, x, points - self.grid, self.weight, padding=1)
