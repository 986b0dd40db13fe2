"""DETR's family by arguments, as recipes build it: a backbone by name, and the configuration that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from ..arguments import hands_on
from ..backbones.named import named_body
from ..backbones.resnet import RESNETS, ResNetBackbone
from ..backbones.swin import SWINS
from ..inputs import check_sizes
from .deformable_detr import DeformableDETR, DeformableDETRConfig
from .detr import DETR, DETRConfig
from .set_detector import SetDetector
from .sparse_detr import SparseDETR, SparseDETRConfig

#: What a configuration is told by the backbone, and by who counts the classes.
FROM_BACKBONE = ("classes", "feature_channels")

Detector = TypeVar("Detector", bound=SetDetector)


@hands_on(DETRConfig, without=FROM_BACKBONE)
def detr(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    body: Mapping[str, Any] | None = None,
    min_size: int | None = None,
    max_size: int = 1333,
    **config: Any,
) -> DETR:
    """A DETR on the coarsest map of a backbone.

    Args:
        classes: number of classes; labels are 0..classes-1.
        backbone: see :func:`.named_body`.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        body: further arguments of the backbone: ``{"dilation": True}`` keeps the last stage at stride 16 (DC5; not
            for Swin), ``{"pretrained": True}`` starts the narrow one from the shipped quickstart detector's.
        min_size, max_size: before detecting, an image is resized so that its shorter side has ``min_size`` pixels and
            its longer one at most ``max_size`` (COCO: 800 and 1333); None takes images as they are. Training takes
            the size that the augmentation gives.
        config: other fields of :class:`~.detr.DETRConfig`.

    Raises:
        ValueError: the backbone is unknown or cannot give what is asked for.
    """
    features, channels = pyramid_features(backbone, weights, 1, body)
    model = DETR(DETRConfig(classes=classes, feature_channels=channels[0], **config), features)
    return _detecting_at(min_size, max_size, model)


@hands_on(DeformableDETRConfig, without=FROM_BACKBONE)
def deformable_detr(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    body: Mapping[str, Any] | None = None,
    min_size: int | None = None,
    max_size: int = 1333,
    **config: Any,
) -> DeformableDETR:
    """A Deformable DETR; ``levels=1`` is the single-scale detector.

    Args:
        classes, backbone, weights, body, min_size, max_size: as in :func:`detr`.
        config: other fields of :class:`~.deformable_detr.DeformableDETRConfig`.
    """
    features, channels = pyramid_features(backbone, weights, config.get("levels", 4), body)
    model = DeformableDETR(DeformableDETRConfig(classes=classes, feature_channels=channels, **config), features)
    return _detecting_at(min_size, max_size, model)


@hands_on(SparseDETRConfig, without=FROM_BACKBONE)
def sparse_detr(
    classes: int,
    backbone: str = "resnet50",
    weights: str | None = None,
    body: Mapping[str, Any] | None = None,
    min_size: int | None = None,
    max_size: int = 1333,
    **config: Any,
) -> SparseDETR:
    """A Sparse DETR; arguments as in :func:`deformable_detr`, with ``rho`` and ``selection`` among ``config``."""
    features, channels = pyramid_features(backbone, weights, config.get("levels", 4), body)
    model = SparseDETR(SparseDETRConfig(classes=classes, feature_channels=channels, **config), features)
    return _detecting_at(min_size, max_size, model)


def pyramid_features(
    name: str, weights: str | None = None, levels: int = 4, body: Mapping[str, Any] | None = None
) -> tuple[nn.Module, tuple[int, ...]]:
    """A backbone that gives the stages of strides 8, 16 and 32, or for one level the last alone; and their channels.

    As in the official code the first stage of a published backbone, and what lies before, are not trained. The narrow
    backbone is small enough to be trained whole.

    Args:
        name, weights, body: as in :func:`detr`.
        levels: of the detector; 1 asks for the coarsest map alone.
    """
    options = dict(body or {})
    if name in RESNETS:
        resnet = ResNetBackbone(name, 5 if levels == 1 else 3, weights=weights, **options)
        return resnet, resnet.channels
    features = named_body(name, weights, **options)
    if name in SWINS:
        features.get_submodule("features.0").requires_grad_(False)
        features.get_submodule("features.1").requires_grad_(False)
    channels: tuple[int, ...] = tuple(features.channels)  # type: ignore[arg-type]
    return (Coarsest(features), channels[-1:]) if levels == 1 else (features, channels)


class Coarsest(nn.Module):
    """Only the last feature map of a backbone."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        return [list(self.body(images).values())[-1]]


def _detecting_at(min_size: int | None, max_size: int, model: Detector) -> Detector:
    if min_size is not None:
        check_sizes((min_size,), max_size)
        model.detection_size = (min_size, max_size)
    return model
