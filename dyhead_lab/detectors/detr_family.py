"""DETR's family by arguments, as recipes build it: a backbone by name, and the configuration that fits it."""

from __future__ import annotations

from typing import Any

from torch import nn

from .backbones import SWINS, body
from .deformable_detr import DeformableDETR, DeformableDETRConfig
from .detr import DETR, DETRConfig
from .resnet_backbone import STAGES, ResNetBackbone
from .sparse_detr import SparseDETR, SparseDETRConfig


def detr(
    classes: int, backbone: str = "resnet50", weights: str | None = None, dilation: bool = False, **config: Any
) -> DETR:
    """A DETR on a ResNet.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone: a ResNet of torchvision with bottleneck blocks.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        dilation: DC5: the last stage keeps stride 16.
        config: other fields of :class:`~.detr.DETRConfig`.
    """
    features = ResNetBackbone(backbone, ("layer4",), dilation, weights)
    return DETR(DETRConfig(classes=classes, feature_channels=features.channels[0], **config), features)


def deformable_detr(
    classes: int, backbone: str = "resnet50", weights: str | None = None, dilation: bool = False, **config: Any
) -> DeformableDETR:
    """A Deformable DETR on a ResNet or Swin Transformer; ``levels=1`` is the single-scale detector.

    Args:
        classes, backbone, weights, dilation: as in :func:`detr`; ``backbone`` may also be ``swin_t``.
        config: other fields of :class:`~.deformable_detr.DeformableDETRConfig`.

    Raises:
        ValueError: if the backbone cannot give what is asked for.
    """
    features, channels = pyramid_features(backbone, weights, dilation, config.get("levels", 4))
    return DeformableDETR(DeformableDETRConfig(classes=classes, feature_channels=channels, **config), features)


def sparse_detr(
    classes: int, backbone: str = "resnet50", weights: str | None = None, dilation: bool = False, **config: Any
) -> SparseDETR:
    """A Sparse DETR; arguments as in :func:`deformable_detr`, with ``rho`` and ``selection`` among ``config``."""
    features, channels = pyramid_features(backbone, weights, dilation, config.get("levels", 4))
    return SparseDETR(SparseDETRConfig(classes=classes, feature_channels=channels, **config), features)


def pyramid_features(
    name: str, weights: str | None = None, dilation: bool = False, levels: int = 4
) -> tuple[nn.Module, tuple[int, ...]]:
    """A backbone that gives the stages of strides 8, 16 and 32, or for one level the last alone; and their channels.

    As in the official code its first stage, and what lies before, are not trained.

    Raises:
        ValueError: if a Swin Transformer is asked for one level or for dilation.
    """
    if name not in SWINS:
        resnet = ResNetBackbone(name, STAGES[-1:] if levels == 1 else STAGES[1:], dilation, weights)
        return resnet, resnet.channels
    if dilation or levels == 1:
        raise ValueError(f"backbone {name!r} gives three levels without dilation; got levels={levels}, {dilation=}")
    swin = body(name, weights)
    swin.get_submodule("features.0").requires_grad_(False)
    swin.get_submodule("features.1").requires_grad_(False)
    return swin, tuple(swin.channels)  # type: ignore[arg-type]
