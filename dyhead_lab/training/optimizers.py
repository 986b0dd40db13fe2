"""The optimiser of a recipe, and which parameters learn at which rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors.protocol import ParameterKind, parameter_kinds
from ..errors import UserError
from .recipe import Recipe

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum, over :func:`parameter_groups`; fused kernels on a GPU.

    Raises:
        UserError: no parameter learns, or as in :func:`parameter_groups`.
    """
    groups = parameter_groups(model, recipe)
    if not groups:
        raise UserError("the detector has no parameter that learns (requires_grad is False for all, if it has any)")
    fused = True if groups[0]["params"][0].is_cuda else None  # None: whatever PyTorch does on this device
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, in the order in which the model names them.

    Matrices and kernels decay; biases, gains of norms and what predicts sampling offsets only with ``decay_norms``.
    The body of the backbone learns at ``lr * backbone_lr``. What predicts sampling offsets learns at
    ``lr * offset_lr``, as in Deformable DETR: where a layer looks decides what all others see. Which parameters these
    are is said by the detector; see :mod:`dyhead_lab.detectors.protocol`.

    Raises:
        UserError: ``backbone_lr`` is set, but the detector has no backbone that learns.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    has_backbone = False
    kinds = parameter_kinds(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_offset, is_backbone = (bool(kinds[name] & kind) for kind in (ParameterKind.SAMPLING, ParameterKind.BACKBONE))
        has_backbone |= is_backbone
        lr = recipe.lr * (recipe.offset_lr if is_offset else 1.0) * (recipe.backbone_lr if is_backbone else 1.0)
        decays = recipe.decay_norms or (parameter.ndim > 1 and not is_offset)
        decay = recipe.weight_decay if decays else 0.0
        groups.setdefault((lr, decay), _group(lr, decay))["params"].append(parameter)
    if recipe.backbone_lr != 1.0 and not has_backbone:
        raise UserError(
            f"backbone_lr: expected 1 for a detector without a backbone that learns, got {recipe.backbone_lr}"
        )
    return list(groups.values())


def _group(lr: float, weight_decay: float) -> dict[str, Any]:
    """A group without parameters yet. ``initial_lr`` is PyTorch's name for the rate that a schedule multiplies."""
    return {"params": [], "lr": lr, "initial_lr": lr, "weight_decay": weight_decay}


def warm_average(decay: float, seen: Callable[[], int]) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential average whose memory grows with the steps seen, so that short runs forget their start.

    After n steps: average = d * average + (1 - d) * new, d = min(decay, (1 + n) / (10 + n)). The function takes lists
    of tensors of one kind, the averages and the new values, and changes the averages.

    Args:
        decay: what d grows to.
        seen: gives n. PyTorch hands n over as well, but on the device of the weights, where it must be waited for.
    """

    def average(old: Tensors, new: Tensors, _: Tensor | int) -> None:
        if not old[0].is_floating_point():  # BatchNorm counts its batches
            torch._foreach_copy_(old, new)
            return
        steps = seen()
        torch._foreach_lerp_(old, new, 1 - min(decay, (1 + steps) / (10 + steps)))

    return average
