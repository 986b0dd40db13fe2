"""A detector made ready to detect on a CPU: the same answers for less work.

Where the time goes that a detector does not need, for Deformable DETR on ResNet-50 at 800 x 1066: half of it lies in
passes over memory around the convolutions and matrix products. :func:`prepared` takes out what it can:

- batch norms that keep their statistics are folded into the convolutions before them: ``W x * g + h = (g W) x + h``;
- in the residual blocks of torchvision, ReLU and the sum with the shortcut are done by the convolution while its output
  is still in the cache (oneDNN's post-operations);
- weights lie channels-last, and so does then every map: tokens, attentions and heads read it without a copy;
- for bfloat16 the weights are rounded once, not in every call.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from .norm_folding import fold_norms
from .protocol import ParameterKind, parameter_kinds

Model = TypeVar("Model", bound=nn.Module)
#: oneDNN's convolutions with something behind them; PyTorch's compiler writes calls of the same operators.
FUSED = torch.ops.mkldnn


def prepared(model: Model, dtype: torch.dtype | None = None) -> Model:
    """A copy of a detector for detecting on a CPU; what it need not change it shares with ``model``.

    It gives what ``model`` gives but for the order of roundings (``tests/detectors/test_inference.py`` states how
    much), and a trace sees the same names at the same paths. It detects under ``torch.no_grad`` or
    ``torch.inference_mode`` and cannot be trained. On another device the model itself comes back.

    Args:
        model: a detector in the form of CONTRIBUTING.md.
        dtype: what to compute in under autocast; None: as the model does. For ``torch.bfloat16`` the weights are so
            already, but for those that decide where to sample.
    """
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copy = deepcopy(model, shared).eval()
    with torch.no_grad():
        fold_norms(copy)
        if torch.backends.mkldnn.is_available() and hasattr(FUSED, "_convolution_pointwise"):
            _fuse_blocks(copy)
        _lay_weights(copy, dtype)
    if dtype is not None:
        copy.forward = torch.autocast("cpu", dtype)(copy.forward)  # type: ignore[method-assign]
    return copy


def _lay_weights(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Weights of convolutions channels-last; for bfloat16 those of convolutions and matrix products in it."""
    kinds = parameter_kinds(model)
    for path, module in model.named_modules():
        if type(module) not in (nn.Conv2d, nn.Linear):  # others may use their weights in ways of their own
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            samples = kinds.get(f"{path}.{name}", ParameterKind.REST) & ParameterKind.SAMPLING
            new = parameter.to(torch.bfloat16) if dtype == torch.bfloat16 and not samples else parameter
            if new.ndim == 4:
                new = new.contiguous(memory_format=torch.channels_last)
            if new is not parameter:
                setattr(module, name, nn.Parameter(new, requires_grad=False))


# Residual blocks


def _fuse_blocks(model: nn.Module) -> None:
    """Put :class:`FusedBlock` in the place of torchvision's blocks whose norms are all folded."""
    for path, module in list(model.named_modules()):
        if type(module) in (BasicBlock, Bottleneck) and _is_folded(module):
            model.set_submodule(path, FusedBlock(module))


def _is_folded(block: nn.Module) -> bool:
    norms = [part for name, part in block.named_children() if name.startswith("bn")]
    convolutions = [part for name, part in block.named_children() if name.startswith("conv")]
    shortcut = [type(part) for part in getattr(block, "downsample", None) or ()]
    return (
        all(type(norm) is nn.Identity for norm in norms)
        and all(type(each) is nn.Conv2d and each.padding_mode == "zeros" for each in convolutions)
        and shortcut in ([], [nn.Conv2d, nn.Identity])
    )


class FusedBlock(nn.Module):
    """torchvision's residual block without norms; ReLU and the sum are part of the convolutions.

    Args:
        block: a ``BasicBlock`` or a ``Bottleneck``.

    Shapes: as of the block.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.convolutions = nn.ModuleList(part for name, part in block.named_children() if name.startswith("conv"))
        shortcut: Any = block.downsample
        self.shortcut = None if shortcut is None else shortcut[0]

    def forward(self, x: Tensor) -> Tensor:
        beside = x if self.shortcut is None else _convolved(self.shortcut, x, "none")
        *inner, last = self.convolutions
        for convolution in inner:
            x = _convolved(convolution, x, "relu")
        if beside.shape[-2:] == (1, 1):  # of an image of 32 pixels; there PyTorch's sum "could not create a memory"
            return (_convolved(last, x, "none") + beside).relu()
        x, weight, *how = _arguments(last, x)
        return FUSED._convolution_pointwise.binary(x, beside.to(x.dtype), weight, *how, "add", 1.0, "relu", [], None)


def _convolved(convolution: nn.Module, x: Tensor, activation: str) -> Tensor:
    return FUSED._convolution_pointwise(*_arguments(convolution, x), activation, [], None)


def _arguments(convolution: Any, x: Tensor) -> tuple[Any, ...]:
    weight, bias, c = convolution.weight, convolution.bias, convolution
    return x.to(weight.dtype), weight, bias, c.padding, c.stride, c.dilation, c.groups
