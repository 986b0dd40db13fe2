"""The arithmetic of boxes stays in float32, under autocast and where a whole detector was cast to 16 bits."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

Head = TypeVar("Head", bound=nn.Module)


def in_float32(head: Head) -> Head:
    """Make ``head`` return float32 also under autocast; its convolutions still run in the lower precision.

    In bfloat16 a coordinate near 1000 is only known to 4 pixels. The head itself is returned.
    """
    head.register_forward_hook(_cast)
    return head


def in_precision_of_weights(head: Head) -> Head:
    """Make ``head`` take what was pooled in float32 as its weights are: those of ``model.half()`` take float16.

    The head itself is returned.
    """
    head.register_forward_pre_hook(_cast_inputs)
    return head


def _cast_inputs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    dtype = next(module.parameters()).dtype
    return tuple(tensor.to(dtype) for tensor in inputs)


def _cast(module: nn.Module, inputs: Any, output: Any) -> Any:
    return _float32(output)


def _float32(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _float32(value) for name, value in output.items()}
    return type(output)(_float32(value) for value in output)
