"""Batch norms that keep their statistics, folded into the convolutions before them: W x * g + h = (g W) x + h.

Such a norm multiplies and adds once for every number of a map, which on a processor are two passes over memory, and a
third on the way back. Folded, it multiplies once for every weight. A detector that only detects is folded for good; one
that learns is folded anew in every call, because its weights change, and keeps its parameters as they are.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.ops import FrozenBatchNorm2d

from .backbones.deformable_conv import DeformableConv2d


def fold_norms(model: nn.Module) -> None:
    """Fold each batch norm of a detector that only detects; an activation that belongs to it stays."""
    unfold_in_calls(model)
    for parent, convolution, name in list(_pairs(model, (*_learning(), *_frozen()))):
        norm = parent.get_submodule(name)
        weight, bias = _folded(convolution, norm, torch.float64)
        convolution.weight, convolution.bias = (
            nn.Parameter(each.to(convolution.weight.dtype), requires_grad=False) for each in (weight, bias)
        )
        parent.set_submodule(name, nn.Sequential(*_behind(norm)) if _behind(norm) else nn.Identity())


def fold_in_calls(model: nn.Module) -> None:
    """Fold each frozen batch norm of a detector that learns, in every call. Names and values of its state stay.

    Those behind deformable convolutions stay as they are: what these emit carries their own name.
    """
    for parent, convolution, name in list(_pairs(model, _frozen())):
        if type(convolution) is DeformableConv2d:
            continue
        norm: Any = parent.get_submodule(name)
        convolution.folded_norm = (norm,)  # in a tuple, which hides it from the parts of the convolution
        convolution.__class__ = _folding(convolution.__class__)
        norm.__class__ = _passing(norm.__class__)


def unfold_in_calls(model: nn.Module) -> None:
    """Undo :func:`fold_in_calls`."""
    for module in model.modules():
        kind: Any = getattr(type(module), "unfolded", None)
        if kind is not None:
            vars(module).pop("folded_norm", None)
            module.__class__ = kind


@cache
def _folding(kind: Any) -> type[nn.Module]:
    """This kind of convolution, with the norm behind it in its weights."""

    class Folding(kind):
        unfolded = kind

        def forward(self, x: Tensor) -> Tensor:
            weight, bias = _folded(self, self.folded_norm[0], self.weight.dtype)
            seen = object.__new__(kind)  # the same convolution with other weights
            seen.__dict__ = {**self.__dict__, "_parameters": {"weight": weight, "bias": bias}}
            return kind.forward(seen, x)

    Folding.__name__ = f"{kind.__name__}WithNorm"
    return Folding


@cache
def _passing(kind: Any) -> type[nn.Module]:
    """This kind of norm, of which nothing is left but what comes behind it."""

    class Passing(kind):
        unfolded = kind

        def forward(self, x: Tensor) -> Tensor:
            for module in _behind(self):
                x = module(x)
            return x

    Passing.__name__ = f"Folded{kind.__name__}"
    return Passing


def _folded(convolution: Any, norm: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of convolution and norm in one, computed in ``dtype``."""
    gain = norm.weight.to(dtype) * (norm.running_var.to(dtype) + norm.eps).rsqrt()
    shift = norm.bias.to(dtype) - norm.running_mean.to(dtype) * gain
    if convolution.bias is not None:
        shift = shift + convolution.bias * gain
    return convolution.weight * gain.view(-1, 1, 1, 1), shift


def _behind(norm: Any) -> tuple[nn.Module, ...]:
    """What a norm does after it has normalised: timm's drop and activate."""
    return (norm.drop, norm.act) if hasattr(norm, "act") else ()


def _pairs(model: nn.Module, norms: tuple[type[nn.Module], ...]) -> Iterator[tuple[nn.Module, Any, str]]:
    """Convolutions and the name, inside a part that holds both, of the batch norm that alone reads what they give."""
    names = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent, convolution, name in _read_once(model, norms):
        norm: Any = parent.get_submodule(name)
        if names[id(convolution)] == names[id(norm)] == 1 and norm.running_mean is not None and norm.weight is not None:
            yield parent, convolution, name


def _read_once(module: nn.Module, norms: tuple[type[nn.Module], ...]) -> Iterator[tuple[nn.Module, Any, str]]:
    """The same where a part may be called from several places.

    Found in the graph of the part, not by names: what another module or function reads as well is no pair.
    """
    if not any(type(part) in norms for part in module.modules()):
        return
    try:
        graph = _Tracer(norms).trace(module)
    except Exception:  # whatever a forward says to values that are not there: look into its parts
        for child in module.children():
            yield from _read_once(child, norms)
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        convolution, norm = (module.get_submodule(str(each.target)) for each in (source, node))
        if type(convolution) in _linear() and type(norm) in norms and calls[node.target] == calls[source.target] == 1:
            yield module, convolution, str(node.target)


class _Tracer(fx.Tracer):
    """Sees a part as calls of its smallest modules and norms."""

    def __init__(self, norms: tuple[type[nn.Module], ...]):
        super().__init__()
        self.norms = norms

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or type(m) in self.norms or next(m.children(), None) is None


def _linear() -> tuple[type[nn.Module], ...]:
    """Convolutions whose output is linear in their weight and bias; other kinds may do anything with them."""
    timm = sys.modules.get("timm.layers")
    return nn.Conv2d, DeformableConv2d, *(() if timm is None else (timm.Conv2dSame,))


def _learning() -> tuple[type[nn.Module], ...]:
    """Norms that learn with a detector, and keep what they have learned when it detects."""
    timm = sys.modules.get("timm.layers")
    return nn.BatchNorm2d, *(() if timm is None else (timm.BatchNormAct2d,))


def _frozen() -> tuple[type[nn.Module], ...]:
    """Norms that keep their statistics and gains while a detector learns; timm's, where a detector has brought timm."""
    timm = sys.modules.get("timm.layers")
    return FrozenBatchNorm2d, *(() if timm is None else (timm.FrozenBatchNormAct2d,))
