"""Backends ``cuda`` and ``emulated``: the kernels of ``csrc``, on a GPU or under the emulator.

The tensors' device decides which of the two runs. Neither takes part in autograd, and both want contiguous tensors;
maps and weights of the convolution may be channels-last as well, and results are as the input is.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...notices import notice
from .. import native
from ..checks import Geometry


def deform_conv2d(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry) -> Tensor:
    _load(input)
    tensors = _maps(input, offset, weight, mask)
    steps = _integers(geometry)
    if input.is_cuda and native.kernels() == "auto":
        tell_if_not_fast(tensors, steps)
    return torch.ops.dyhead_native.deform_conv2d_forward(*tensors, *steps, native.kernels(), _tf32())


def deform_conv2d_backward(
    grad: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _load(input)
    tensors = _maps(input, offset, weight, mask)
    return torch.ops.dyhead_native.deform_conv2d_backward(
        _map(grad), *tensors, *_integers(geometry), _deterministic(), native.kernels(), _tf32()
    )


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    _load(value)
    tensors = _contiguous(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
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
    tensors = _contiguous(grad, value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
    return torch.ops.dyhead_native.ms_deform_attn_backward(*tensors, _deterministic(), native.kernels())


def _load(tensor: Tensor) -> None:
    native.load("cuda" if tensor.is_cuda else "emulated")


#: Layers that were looked at: device, dtype, C, Co, groups and offset groups.
_seen: set[tuple[Any, ...]] = set()


def tell_if_not_fast(tensors: tuple[Any, ...], steps: tuple[int, ...]) -> None:
    """Say, once for each GPU, that a layer is computed another way than by the fast kernels."""
    input, _, weight, _ = tensors
    layer = input.device, input.dtype, input.shape[1], len(weight), *steps[-2:]
    if layer not in _seen:
        _seen.add(layer)
        if not torch.ops.dyhead_native.deform_conv2d_is_fast(*tensors, *steps):
            _say_columns(input.device)


@cache
def _say_columns(device: torch.device) -> None:
    notice(
        f"dyhead_lab: a deformable convolution on {device} keeps its samples in memory for PyTorch's matrix product; "
        "the fast kernels need an Ampere GPU or newer, or float16 on a Turing one, one group, channels in steps of 64 "
        "bytes and outputs in eights"
    )


def _maps(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None) -> tuple[Any, ...]:
    return _map(input), offset.contiguous(), _map(weight), None if mask is None else mask.contiguous()


def _map(tensor: Tensor) -> Tensor:
    """Channels-last maps are read as they are: to turn them would cost a copy there and one back."""
    return tensor if tensor.is_contiguous(memory_format=torch.channels_last) else tensor.contiguous()


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def _integers(geometry: Geometry) -> tuple[int, ...]:
    """stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups, offset_groups."""
    return (*geometry.stride, *geometry.padding, *geometry.dilation, geometry.groups, geometry.offset_groups)


def _deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()


def _tf32() -> bool:
    """Whether matrix products of float32 may round their factors, as for PyTorch's own."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"  # follows the older switches too
