"""Backbones by name, as recipes ask for them."""

from __future__ import annotations

from typing import Any

from torch import nn

from .narrow_resnet import NarrowResNet
from .resnet import RESNETS, ResNetBody
from .swin import SWINS, SwinBody
from .timm_body import PREFIX, TimmBody

NARROW = ("narrow",)


def named_body(name: str, weights: str | None = None, finest: int = 3, **options: Any) -> nn.Module:
    """The backbone of that name, to carry a feature pyramid.

    Args:
        name: one of :data:`~.resnet.RESNETS`, :data:`~.swin.SWINS`, ``"narrow"``, the small one for the Shapes set, or
            ``"timm/NAME"`` for any backbone of the timm library.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; of timm's backbones what
            :class:`.TimmBody` says; None starts at random.
        finest: first stage that is returned; a pyramid starts at 2 or 3.
        options: those of :class:`.ResNetBody`, :class:`.SwinBody`, :class:`.TimmBody` or :class:`.NarrowResNet`.

    Raises:
        ValueError: there is no backbone of that name, or no such weights for it.
        UserError: the weights cannot be downloaded.
    """
    if name in RESNETS:
        return ResNetBody(name, weights, finest=finest, **options)
    if name in SWINS:
        return SwinBody(name, weights, finest, **options)
    if name.startswith(PREFIX):
        return TimmBody(name.removeprefix(PREFIX), weights, finest=finest, **options)
    if name in NARROW:
        if weights is not None:
            raise ValueError(f'weights: "narrow" has none of torchvision; body={{"pretrained": True}}, got {weights!r}')
        return NarrowResNet(finest=finest, **options)
    raise ValueError(f"name: expected one of {', '.join(RESNETS + SWINS + NARROW)} or {PREFIX}NAME, got {name!r}")
