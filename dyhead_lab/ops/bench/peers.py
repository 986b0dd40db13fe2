"""What others offer for the same two operators; a benchmark runs them beside ours."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample
from torchvision.ops import deform_conv2d


def torchvision_deform_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """torchvision's operator, 3x3 with padding 1."""
    return deform_conv2d(input, offset, weight, padding=1, mask=mask)


def plain_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """An ordinary 3x3 convolution of the same shape: what the matrix product alone costs."""
    return conv2d(input, weight, padding=1)


def grid_sample_attention(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Multi-scale deformable attention as one ``grid_sample`` per level: the usual way without a kernel."""
    B, _, M, D = value.shape
    Q, P = sampling_locations.shape[1], sampling_locations.shape[4]
    grids = 2 * sampling_locations - 1
    samples = []
    for l, ((H, W), start) in enumerate(zip(spatial_shapes.tolist(), level_start_index.tolist(), strict=True)):
        image = value[:, start : start + H * W].permute(0, 2, 3, 1).reshape(B * M, D, H, W)
        grid = grids[:, :, :, l].transpose(1, 2).reshape(B * M, Q, P, 2)
        samples.append(grid_sample(image, grid, align_corners=False))
    A = attention_weights.transpose(1, 2).reshape(B * M, 1, Q, -1)
    out = (torch.cat(samples, -1) * A).sum(-1)
    return out.view(B, M * D, Q).transpose(1, 2)


def has_deformops() -> bool:
    """Whether deformops is installed (PyPI; K. Stolle, TMLR 2026). It needs Python 3.12 and a GPU."""
    return find_spec("deformops") is not None


def deformops_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Its convolution, 3x3 with padding 1."""
    from deformops.integrations.torchvision import deform_conv2d

    return deform_conv2d(input, offset, weight, padding=(1, 1), mask=mask)


def deformops_attention(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Its multi-scale attention, by the kernel that it chooses; arguments as of :func:`grid_sample_attention`."""
    from deformops.registry import msda

    return msda(value, shapes, starts, locations, weights.flatten(3))
