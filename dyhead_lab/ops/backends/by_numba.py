"""Backend ``numba``: the production CPU path of ``ops/cpu``, for every dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import autocast
from ..checks import HALVES, Geometry
from ..cpu import fast_deform_conv, fast_ms_deform_attn


def _computed(tensor: Tensor) -> Tensor:
    """Float16 and bfloat16 are computed in float32; the results are cast back."""
    plain = tensor.detach() if tensor.requires_grad else tensor
    return plain.float() if plain.dtype in HALVES else plain


def _cast(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.dtype == like.dtype else tensor.to(like.dtype)


def deform_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry) -> Tensor:
    tensors = map(_computed, (input, offset, weight, _full(mask, offset)))
    return _cast(fast_deform_conv.deform_conv2d(geometry, _factors(input), *tensors), input)


def deform_conv2d_backward(
    grad: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tensors = map(_computed, (input, offset, weight, _full(mask, offset)))
    grad_input, grad_offset, grad_weight, grad_mask = fast_deform_conv.deform_conv2d_backward(
        geometry, _factors(input), grad.detach(), *tensors
    )
    grad_mask = grad.new_empty(0) if mask is None else _cast(grad_mask, mask)
    return _cast(grad_input, input), _cast(grad_offset, offset), _cast(grad_weight, weight), grad_mask


def _factors(input: Tensor) -> torch.dtype:
    """Matrix products take bfloat16 as it is where the processor can; their sums are float32."""
    if input.dtype == torch.bfloat16 and autocast.has_bfloat16(input.device):
        return torch.bfloat16
    return torch.float32 if input.dtype in HALVES else input.dtype


def _full(mask: Tensor | None, offset: Tensor) -> Tensor:
    """Version 1 is version 2 with a mask of ones."""
    return offset.new_ones(offset[:, ::2].shape) if mask is None else mask


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    points = map(_computed, (sampling_locations, attention_weights))
    out = fast_ms_deform_attn.ms_deform_attn(_computed(value), spatial_shapes, level_start_index, *points)
    return _cast(out, value)


def ms_deform_attn_backward(
    grad: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = fast_ms_deform_attn.ms_deform_attn_backward(
        _computed(grad.contiguous()),
        _computed(value),
        spatial_shapes,
        level_start_index,
        _computed(sampling_locations),
        _computed(attention_weights),
    )
    return _cast(grads[0], value), _cast(grads[1], sampling_locations), _cast(grads[2], attention_weights)
