"""Official checkpoints of Dynamic Head in, our detectors out, and the way back.

Four layouts of microsoft/DynamicHead (ATSS, RetinaNet and Faster R-CNN on ResNet, ATSS on Swin-T) and mmdetection's
ATSS with Dynamic Head. Weights tell the architecture, its depth and its classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNet

from ...attention import DyHead
from ..one_stage.atss import ATSS, atss
from ..one_stage.retinanet import retinanet
from ..rcnn.faster_rcnn import FasterRCNN, faster_rcnn
from . import mmdetection
from .backbone_kinds import backbone_of
from .checkpoints import Source, read_checkpoint
from .dyhead_tower import official_tower
from .dynamic_head_layouts import convert, detectron2_name
from .state_dicts import load_strictly, numbered, refuse_misshapen


class Layout(NamedTuple):
    """What tells a checkpoint of one kind, and the detector that it fills."""

    classifier: str  #: an entry that the other layouts lack; its length tells the number of classes
    build: Callable[..., nn.Module]
    anchors: int = 1  #: anchors per place, each with its own classes
    background: int = 0  #: classes of the classifier that are none of ours
    finest: int = 3  #: finest level of the pyramid
    divisible: int = 128  #: batches are padded to multiples of this


_TOWER, _BODY = "backbone.dyhead_tower.", "backbone.backbone.bottom_up."
LAYOUTS = (
    Layout("head.cls_score.bias", retinanet, anchors=9),
    Layout("roi_heads.box_predictor.cls_score.bias", faster_rcnn, background=1, finest=2, divisible=64),
    Layout("head.cls_logits.bias", atss),
)
_BACKBONES = ("resnet50", "resnet101", "swin_t")
#: Their ResNets read pixels of 0 to 255 less the mean, in BGR; the loader turns the first convolution to RGB.
_MSRA = {"image_mean": [123.675 / 255, 116.28 / 255, 103.53 / 255], "image_std": [1 / 255] * 3}


def load_dynamic_head(
    source: Source, *, style: str | None = None, offset_fit: str = "flat", **options: Any
) -> nn.Module:
    """Build the detector that a checkpoint describes, and fill it: every entry is used.

    What changes numbers comes with it: channel order and scale of the pixels, where a bottleneck strides, to which
    multiples a batch is padded, size and place of predictors and anchors, aligned regions, ``offset_fit="flat"``. What
    does not: images are resized here without the smoothing that Pillow applies.

    Args:
        source: a checkpoint file or its contents; :mod:`~dyhead_lab.detectors.official` lists the layouts.
        style: for weights of mmdetection: ``"pytorch"`` (strides in 3x3 convolutions, RGB, ImageNet's mean and
            deviation, padding to 32, anchors at the corners of cells) or ``"caffe"`` (strides in 1x1 convolutions, BGR,
            mean only, padding to 128, anchors in the middle). Weights do not tell. None: as the configuration in the
            file says, with a warning. What that says of pixels, padding and anchors is followed either way.
        offset_fit: another way to fit offsets than the one that the weights were trained with.
        options: further arguments of the detector, such as ``min_size``.

    Returns:
        the detector, in evaluation mode.

    Raises:
        UserError: the file cannot be read, or weights of mmdetection come without a style.
        ValueError: the entries are of no known layout or another backbone, or some are missing, left over or of
            another shape; ``style`` does not fit.
    """
    checkpoint = read_checkpoint(source)
    weights = checkpoint.weights
    refuse_misshapen(weights, {r"\.bias$": 1, r"(\.conv1|patch_embed\.proj|\.atss_cls)\.weight$": 4})
    if mmdetection.MARK in weights and numbered(weights, mmdetection.BLOCKS):
        return mmdetection.load_mmdetection(checkpoint, style, offset_fit, options).eval()
    layout = next((layout for layout in LAYOUTS if layout.classifier in weights), None)
    if layout is None or not numbered(weights, _TOWER):
        raise ValueError("state_dict: expected a detector with a Dynamic Head from DynamicHead or mmdetection")
    if style is not None:
        raise ValueError(f"style: weights of DynamicHead have one style only, got {style!r}")
    name = backbone_of(weights, _BODY, _BACKBONES)
    settings: dict[str, Any] = {"backbone": name, "dyhead_blocks": numbered(weights, _TOWER)}
    settings |= {"dyhead": {"offset_fit": offset_fit}, "size_divisible": layout.divisible}
    if name != "swin_t":
        settings |= {"body": {"stride_in_1x1": True}, **_MSRA}
    classes = len(weights[layout.classifier]) // layout.anchors - layout.background
    model = layout.build(classes, **settings | options)
    values = {name: convert(name, value, to_official=False) for name, value in weights.items()}
    load_strictly(model, values, lambda ours: detectron2_name(ours, layout.finest))
    return model.eval()


def save_official(model: nn.Module, path: str | Path | None = None) -> dict[str, Tensor]:
    """The state dict of a detector under the names and in the conventions of microsoft/DynamicHead.

    Args:
        model: ATSS, RetinaNet or Faster R-CNN of this library, with a released Dynamic Head.
        path: where to write it, as ``{"model": ...}``; None writes nothing.

    Raises:
        ValueError: the layout has no place for this detector.
    """
    if not isinstance(model, ATSS | RetinaNet | FasterRCNN):
        raise ValueError(f"model: expected ATSS, RetinaNet or Faster R-CNN, got {type(model).__name__}")
    backbone: Any = model.backbone
    if not isinstance(backbone.neck, DyHead):
        raise ValueError("model: the official layout needs a Dynamic Head, which this detector lacks")
    if isinstance(backbone.fpn.extra_blocks, mmdetection.PlainP6P7) or not _predicts_as_released(model):
        raise ValueError("model: the official layout has 1x1 predictors, centred anchors and a ReLU before P7")
    entries = {f"backbone.{name}": value for name, value in official_tower(backbone.neck).items()}
    for name, value in model.state_dict().items():
        if not name.startswith("backbone.neck."):
            official = detectron2_name(name, backbone.body.finest)
            entries[official] = convert(official, value, to_official=True)
    if path is not None:
        torch.save({"model": entries}, path)
    return entries


def _predicts_as_released(model: nn.Module) -> bool:
    """Whether ATSS predicts as the released code does; other detectors know one way only."""
    if not isinstance(model, ATSS):
        return True
    head: Any = model.head
    return model.anchor_offset == 0.5 and head.cls_logits.kernel_size == (1, 1)
