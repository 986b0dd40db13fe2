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
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ...attention import DyHead
from ..one_stage.atss import ATSS, atss
from ..one_stage.retinanet import retinanet
from ..rcnn.faster_rcnn import FasterRCNN, faster_rcnn
from .checkpoints import Source, read_checkpoint
from .dyhead_tower import official_tower
from .dynamic_head_layouts import convert, detectron2_name, mmdet_name
from .state_dicts import StateDict, load_strictly


class Layout(NamedTuple):
    """What tells a checkpoint of one kind, and the detector that it fills."""

    mark: str  #: an entry that layouts further down the list lack
    build: Callable[..., nn.Module]
    classifier: str  #: its length tells the number of classes
    blocks: str  #: numbered blocks of the Dynamic Head follow this
    third_stage: str | None  #: numbered blocks of the ResNet follow this; None: Swin-T
    anchors: int = 1  #: anchors per place, each with its own classes
    background: int = 0  #: classes of the classifier that are none of ours
    finest: int = 3  #: finest level of the pyramid
    divisible: int = 128  #: batches are padded to multiples of this


_TOWER, _RES4 = "backbone.dyhead_tower.", "backbone.backbone.bottom_up.res4."
_ROI_CLASSES = "roi_heads.box_predictor.cls_score.bias"
_SWIN = "backbone.backbone.bottom_up.patch_embed.proj.weight"
MMDET = Layout("bbox_head.atss_cls.bias", atss, "bbox_head.atss_cls.bias", "neck.1.dyhead_blocks.", "backbone.layer3.")
LAYOUTS = (
    MMDET,
    Layout(_SWIN, atss, "head.cls_logits.bias", _TOWER, None),
    Layout("head.cls_score.bias", retinanet, "head.cls_score.bias", _TOWER, _RES4, anchors=9),
    Layout(_ROI_CLASSES, faster_rcnn, _ROI_CLASSES, _TOWER, _RES4, background=1, finest=2, divisible=64),
    Layout("head.cls_logits.bias", atss, "head.cls_logits.bias", _TOWER, _RES4),
)
#: Blocks of the third stage -> ResNet.
_RESNETS = {6: "resnet50", 23: "resnet101"}
#: Their ResNets read pixels of 0 to 255 less the mean, in BGR; the loader turns the first convolution to RGB.
_MSRA = {"image_mean": [123.675 / 255, 116.28 / 255, 103.53 / 255], "image_std": [1 / 255] * 3}


class PlainP6P7(LastLevelP6P7):
    """P6 and P7 as mmdetection makes them: without the ReLU between."""

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(p[-1])
        return [*p, p6, self.p7(p6)], [*names, "p6", "p7"]


def load_dynamic_head(source: Source, *, offset_fit: str = "flat", **options: Any) -> nn.Module:
    """Build the detector that a checkpoint describes, and fill it: every entry is used.

    What changes numbers comes with it: channel order and scale of the pixels, the stride in 1x1 convolutions, a batch
    padded to multiples of 128 (64 for R-CNN), exact anchors, aligned regions, ``offset_fit="flat"``. What does not:
    images are resized here without the smoothing that Pillow applies.

    Args:
        source: a checkpoint file, or its contents: a state dict, alone or under ``model``.
        offset_fit: another way to fit offsets than the one that the weights were trained with.
        options: further arguments of the detector, such as ``min_size``.

    Returns:
        the detector, in evaluation mode.

    Raises:
        UserError: the file cannot be read.
        ValueError: the entries are of no known layout, or some are missing, left over or of another shape.
    """
    weights, _ = read_checkpoint(source)
    layout = next((layout for layout in LAYOUTS if layout.mark in weights), None)
    if layout is None or not _count(weights, layout.blocks):
        raise ValueError("state_dict: expected a detector with a Dynamic Head from DynamicHead or mmdetection")
    settings: dict[str, Any] = {"dyhead": {"offset_fit": offset_fit}, "size_divisible": layout.divisible}
    settings["backbone"] = "swin_t" if layout.third_stage is None else _resnet(_count(weights, layout.third_stage))
    if layout.third_stage is not None:
        settings |= {"body": {"stride_in_1x1": True}, **_MSRA}
    classes = len(weights[layout.classifier]) // layout.anchors - layout.background
    model = layout.build(classes, dyhead_blocks=_count(weights, layout.blocks), **settings | options)
    values = {name: convert(name, value, to_official=False) for name, value in weights.items()}
    if layout is MMDET:
        _fill_mmdet(model, values)
    else:
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
    entries = {f"backbone.{name}": value for name, value in official_tower(backbone.neck).items()}
    for name, value in model.state_dict().items():
        if not name.startswith("backbone.neck."):
            official = detectron2_name(name, backbone.body.finest)
            entries[official] = convert(official, value, to_official=True)
    if path is not None:
        torch.save({"model": entries}, path)
    return entries


def _fill_mmdet(model: Any, values: dict[str, Tensor]) -> None:
    """Fill ATSS from mmdetection's entries, whose deformable convolutions have no bias."""
    model.backbone.fpn.extra_blocks = PlainP6P7(model.backbone.out_channels, model.backbone.out_channels)
    # Batch norms count their batches, which nothing reads.
    used = {name: value for name, value in values.items() if not name.endswith("num_batches_tracked")}
    for name, value in model.state_dict().items():
        if name.startswith("backbone.neck.") and name.endswith(".conv.bias"):
            used.setdefault(mmdet_name(name), torch.zeros_like(value))
    load_strictly(model, used, mmdet_name)


def _count(weights: StateDict, prefix: str) -> int:
    """How many numbered entries follow ``prefix``."""
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def _resnet(blocks: int) -> str:
    if blocks not in _RESNETS:
        raise ValueError(f"state_dict: a ResNet with {blocks} blocks in its third stage; expected 6 or 23")
    return _RESNETS[blocks]
