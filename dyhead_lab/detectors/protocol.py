"""What a detector may say of itself so that it trains well, and what is assumed of one that says nothing.

Any ``nn.Module`` of the form that CONTRIBUTING.md describes trains. The engine and the evaluation ask it five
questions. A detector answers with a method; without one the default holds:

============================  ========================================================================================
method of the detector        default
============================  ========================================================================================
``backbone_body()``           ``backbone.body`` where there is one (a pyramid stands on it), else ``backbone``. It
                              learns at the recipe's ``backbone_lr``. None: there is no such part
``blocks_to_recompute()``     every module that sets ``recompute = True``, and torchvision's residual and Swin blocks
``parts_to_compile()``        ``backbone``: it does the same for every batch, while heads choose by the targets
``keep_sizes_in_training()``  torchvision's transform, where the detector has one, resizes only when it detects
``padded_size(h, w)``         (H, W) of the batch made of one image alone: as torchvision's transform says, else (h, w).
                              Only images with the same answer are evaluated together (``evaluation/grouping.py``)
============================  ========================================================================================

Modules inside a detector, attentions above all, say two more things, as attributes of their class:

``sampling_parameters``
    names of those of its layers or parameters that decide where it samples, such as ``("sampling_offsets",)``. They
    learn at the recipe's ``offset_lr``, without weight decay. Nothing is guessed from a name: a parameter that is
    called ``offset`` and stands in no such tuple learns as all others do.
``recompute``
    True for a block whose activations may be forgotten and computed again (``activation_checkpointing``).

**Losses and micro-batches.** With ``accumulate`` a step hands its batch over in parts, one call of the detector each,
and averages their losses. A loss that is divided by the number of objects must be divided by that of the whole batch,
or objects in crowded parts would weigh less. ``losses.whole_batch(counts)`` tells it, with the number of parts: inside
a step the engine has said so (``losses.in_parts``), elsewhere the images at hand are the whole batch.
``losses.mean_over_processes`` does the same for several processes. ``detr/set_criterion.py`` uses both.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag
from typing import Any

from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import SwinTransformerBlock

#: Blocks of torchvision's, which cannot say ``recompute`` themselves.
TORCHVISION_BLOCKS = (BasicBlock, Bottleneck, SwinTransformerBlock)


class ParameterKind(Flag):
    """How a parameter learns; a deformable convolution of a backbone has parameters of two kinds."""

    REST = 0
    BACKBONE = 1
    SAMPLING = 2


def parameter_kinds(detector: nn.Module) -> dict[str, ParameterKind]:
    """The kind of every parameter, by its name.

    Raises:
        AttributeError: a module names ``sampling_parameters`` that it does not have.
    """
    body = _answer(detector, "backbone_body", _body)
    in_backbone = set() if body is None else {id(parameter) for parameter in body.parameters()}
    sampling = {id(parameter) for module in detector.modules() for parameter in _sampling_parameters(module)}
    kinds = {}
    for name, parameter in detector.named_parameters():
        kind = ParameterKind.BACKBONE if id(parameter) in in_backbone else ParameterKind.REST
        kinds[name] = kind | ParameterKind.SAMPLING if id(parameter) in sampling else kind
    return kinds


def blocks_to_recompute(detector: nn.Module) -> list[nn.Module]:
    """The blocks whose activations may be forgotten; none where the detector has none."""
    return _answer(detector, "blocks_to_recompute", _blocks)


def parts_to_compile(detector: nn.Module) -> list[nn.Module]:
    """What ``torch.compile`` is worth while for; empty where nothing is named."""
    return _answer(detector, "parts_to_compile", _backbone)


def keep_sizes_in_training(detector: nn.Module) -> None:
    """Tell the detector that training images come in the size that they shall have; detecting, it resizes as before."""
    _answer(detector, "keep_sizes_in_training", _let_torchvision_keep_sizes)


def _answer(detector: nn.Module, question: str, default: Callable[[nn.Module], Any]) -> Any:
    own = getattr(detector, question, None)
    return default(detector) if own is None else own()


def _body(detector: nn.Module) -> nn.Module | None:
    backbone = getattr(detector, "backbone", None)
    return getattr(backbone, "body", backbone)


def _backbone(detector: nn.Module) -> list[nn.Module]:
    backbone = getattr(detector, "backbone", None)
    return [] if backbone is None else [backbone]


def _blocks(detector: nn.Module) -> list[nn.Module]:
    return [m for m in detector.modules() if getattr(m, "recompute", False) or isinstance(m, TORCHVISION_BLOCKS)]


def _sampling_parameters(module: nn.Module) -> list[nn.Parameter]:
    found: list[nn.Parameter] = []
    for name in getattr(module, "sampling_parameters", ()):
        part = getattr(module, name)
        if part is not None:  # a layer that this one was built without
            found += part.parameters() if isinstance(part, nn.Module) else [part]
    return found


def _let_torchvision_keep_sizes(detector: nn.Module) -> None:
    for module in detector.modules():
        if isinstance(module, GeneralizedRCNNTransform):
            module._skip_resize = True  # private, but there is no other way; tests/training/test_engine.py watches it
