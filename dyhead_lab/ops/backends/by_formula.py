"""Backend ``formula``: the papers' equations, and their gradients as autograd derives them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import formula
from ..checks import Geometry


def deform_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry) -> Tensor:
    return formula.deform_conv2d(input, offset, weight, None, *geometry[:3], mask)


def deform_conv2d_backward(
    grad: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def of(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None = None) -> Tensor:
        return deform_conv2d(input, offset, weight, mask, geometry)

    masks = () if mask is None else (mask,)
    grad_input, grad_offset, grad_weight, *grad_mask = _gradients(of, grad, input, offset, weight, *masks)
    return grad_input, grad_offset, grad_weight, grad_mask[0] if masks else grad.new_empty(0)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    return formula.ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    grad: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    def of(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
        return formula.ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)

    grads = _gradients(of, grad, value, sampling_locations, attention_weights)
    return grads[0], grads[1], grads[2]


def _gradients(of: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    # torch.func differentiates inside a torch.library operator, where autograd itself is switched off.
    return torch.func.vjp(of, *inputs)[1](grad)
