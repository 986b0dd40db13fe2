"""Backends ``cuda`` and ``emulated``: the kernels of ``csrc``, on a GPU or under the emulator.

The tensors' device decides which of the two runs. Neither takes part in autograd, and both want contiguous tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..checks import Geometry


def deform_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry) -> Tensor:
    _load(input)
    tensors = _contiguous(input, offset, weight, mask)
    return torch.ops.dyhead_native.deform_conv2d_forward(*tensors, *_integers(geometry), native.kernels(), _tf32())


def deform_conv2d_backward(
    grad: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _load(input)
    tensors = _contiguous(grad, input, offset, weight, mask)
    return torch.ops.dyhead_native.deform_conv2d_backward(
        *tensors, *_integers(geometry), _deterministic(), native.kernels(), _tf32()
    )


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    _load(value)
    levels = _levels(spatial_shapes, level_start_index, value)
    tensors = _contiguous(value, *levels, sampling_locations, attention_weights)
    return torch.ops.dyhead_native.ms_deform_attn_forward(*tensors, native.kernels())


def ms_deform_attn_backward(
    grad: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    _load(value)
    levels = _levels(spatial_shapes, level_start_index, value)
    tensors = _contiguous(grad, value, *levels, sampling_locations, attention_weights)
    return torch.ops.dyhead_native.ms_deform_attn_backward(*tensors, _deterministic(), native.kernels())


def _load(tensor: Tensor) -> None:
    native.load("cuda" if tensor.is_cuda else "emulated")


def _levels(spatial_shapes: Tensor, level_start_index: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Both on the device of ``value``. From the CPU they follow the work in line there; nobody waits for them."""
    starts = level_start_index.to(value.device, non_blocking=True)
    return spatial_shapes.to(value.device, non_blocking=True), starts


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _integers(geometry: Geometry) -> tuple[int, ...]:
    """stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups, offset_groups."""
    return (*geometry.stride, *geometry.padding, *geometry.dilation, geometry.groups, geometry.offset_groups)


def _deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()


def _tf32() -> bool:
    """Whether matrix products of float32 may round their factors, as for PyTorch's own."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"  # follows the older switches too
