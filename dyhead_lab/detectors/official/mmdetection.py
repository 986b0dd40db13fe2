"""ATSS with Dynamic Head as mmdetection stores it, in both styles of its ResNet.

Weights do not tell where a ResNet strides nor which pixels it reads; mmdetection keeps that in a configuration, with
which newer files come as text. Sources: mmdetection's ``configs/dyhead``, its ``ATSSHead`` and ``DetDataPreprocessor``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ...errors import UserError
from ..one_stage.atss import ATSS, atss
from .backbone_kinds import backbone_of
from .checkpoints import Checkpoint
from .dynamic_head_layouts import mmdet_name
from .mmdetection_config import Settings, settings_in
from .state_dicts import load_strictly, numbered

#: An entry that only this layout has.
MARK = "bbox_head.atss_cls.bias"
BLOCKS = "neck.1.dyhead_blocks."
_BACKBONES = ("resnet50", "resnet101")


@dataclass(frozen=True)
class Style:
    """What a configuration says and weights do not.

    Attributes:
        stride_in_1x1: a bottleneck strides in its first convolution, as Caffe's ResNet does.
        bgr: the first convolution reads blue, green, red.
        mean, std: of the pixels, 0 to 255, red, green, blue.
        size_divisible: batches are padded to multiples of this.
        anchor_offset: where in its cell an anchor has its centre, in cells.
    """

    stride_in_1x1: bool
    bgr: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_divisible: int
    anchor_offset: float


_MEAN = (123.675, 116.28, 103.53)
#: mmdetection's name of the style of a ResNet -> its published configuration of ATSS with Dynamic Head.
STYLES = {
    "caffe": Style(True, True, _MEAN, (1.0, 1.0, 1.0), 128, 0.5),  # atss_r50-caffe_fpn_dyhead_1x_coco: 42.5 AP
    "pytorch": Style(False, False, _MEAN, (58.395, 57.12, 57.375), 32, 0.0),  # atss_r50_fpn_dyhead_1x_coco: 43.3 AP
}


class PlainP6P7(LastLevelP6P7):
    """P6 and P7 as mmdetection makes them: without the ReLU between."""

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(p[-1])
        return [*p, p6, self.p7(p6)], [*names, "p6", "p7"]


def load_mmdetection(checkpoint: Checkpoint, style: str | None, offset_fit: str, options: dict[str, Any]) -> ATSS:
    """Build the ATSS that a checkpoint of mmdetection describes, and fill it.

    Args:
        checkpoint: with entries in mmdetection's layout.
        style: a name in :data:`STYLES`; None: as the configuration in the file says, with a warning.
        offset_fit, options: as in :func:`.load_dynamic_head`.

    Raises:
        UserError: no ``style`` is given and none stands in the file.
        ValueError: ``style`` is unknown, the backbone is not built here, or entries do not fit.
    """
    weights = checkpoint.weights
    name = backbone_of(weights, "backbone.", _BACKBONES)
    chosen = _chosen_style(checkpoint, style)
    predictor = weights.get("bbox_head.atss_cls.weight")
    settings: dict[str, Any] = {
        "backbone": name,
        "body": {"stride_in_1x1": chosen.stride_in_1x1},
        "dyhead_blocks": numbered(weights, BLOCKS),
        "dyhead": {"offset_fit": offset_fit},
        "image_mean": [value / 255 for value in chosen.mean],
        "image_std": [value / 255 for value in chosen.std],
        "size_divisible": chosen.size_divisible,
        "anchor_offset": chosen.anchor_offset,
        "predictor_kernel": 1 if predictor is None else predictor.shape[-1],
    }
    model = atss(len(weights[MARK]), **settings | options)
    _fill(model, dict(weights), chosen.bgr)
    return model


def _chosen_style(checkpoint: Checkpoint, style: str | None) -> Style:
    if style is not None and style not in STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    told = settings_in(checkpoint.meta)
    if style is None:
        if told.style not in STYLES:
            raise UserError(
                f"{checkpoint.name}: weights of mmdetection do not tell how to read pixels and where their ResNet "
                "strides: give load_dynamic_head style='pytorch' (atss_r50_fpn_dyhead_1x) or style='caffe' "
                "(atss_r50-caffe_fpn_dyhead_1x)"
            )
        style = told.style
        warnings.warn(
            f"{checkpoint.name}: style={style!r} is taken from the configuration in the file; give style= to be sure",
            stacklevel=4,
        )
    elif told.style not in (None, style):
        raise ValueError(f"style={style!r} does not fit: the configuration in {checkpoint.name} says {told.style!r}")
    return _as_told(STYLES[style], told)


def _as_told(published: Style, told: Settings) -> Style:
    """The published settings of a style, but what a configuration says otherwise."""
    differing = {name: value for name, value in told.pixels.items() if value is not None}
    return replace(published, **differing)


def _fill(model: Any, weights: dict[str, Tensor], bgr: bool) -> None:
    """Fill ATSS from mmdetection's entries, whose deformable convolutions have no bias."""
    channels = model.backbone.out_channels
    model.backbone.fpn.extra_blocks = PlainP6P7(channels, channels)
    # Batch norms count their batches, which nothing reads.
    used = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    first = "backbone.conv1.weight"
    if bgr and first in used:
        used[first] = used[first].flip(1)
    for name, value in model.state_dict().items():
        if name.startswith("backbone.neck.") and name.endswith(".conv.bias"):
            used.setdefault(mmdet_name(name), torch.zeros_like(value))
    load_strictly(model, used, mmdet_name)
