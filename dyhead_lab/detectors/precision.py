"""Heads under autocast: the arithmetic of boxes stays in float32."""

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


def _cast(module: nn.Module, inputs: Any, output: Any) -> Any:
    return _float32(output)


def _float32(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _float32(value) for name, value in output.items()}
    return type(output)(_float32(value) for value in output)
