"""The autocast rule of both operators, written where the public functions can use it before they check."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def target(tensor: object) -> torch.dtype | None:
    """The dtype that autocast wants for ``tensor``; None where it wants nothing.

    As in PyTorch's own rules float64 is left alone.
    """
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return None
    device = tensor.device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def cast(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """``tensor`` in ``dtype``, unless the tensor is no candidate for autocast. Places, which say where an operator
    reads, stay float32: their rounding would move every sample."""
    return tensor if target(tensor) is None else tensor.to(dtype)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the machine multiplies bfloat16 by itself; elsewhere PyTorch is far slower with it than with float32.

    NVIDIA's GPUs do from compute capability 8.0 on (A100); V100 and T4 emulate it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def off(device: torch.device) -> AbstractContextManager[None]:
    """A block in which autocast does not reach into an operator's own arithmetic."""
    on = device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
