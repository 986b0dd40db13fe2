"""What a Dynamic Head costs and what it replaces, at any image size, without computing a number.

Everything is counted on the meta device: shapes without values. So a ResNet-50 at 800 x 1333 takes milliseconds. What
depends on the image, such as the suppression of boxes, has no multiply-adds and is left out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ..attention import DyHead, DyHeadBlock
from ..detectors.one_stage.atss import ATSSHead
from ..detectors.rcnn.faster_rcnn import BOX_SIZE
from .efficiency import macs

PUBLISHED_SIZE = (800, 1333)
STRIDES = (8, 16, 32, 64, 128)
REGIONS = 1000  # proposals that a two-stage detector classifies per image


def level_sizes(size: tuple[int, int] = PUBLISHED_SIZE, strides: Sequence[int] = STRIDES) -> list[tuple[int, int]]:
    """(H, W) of each level of a pyramid on an image of ``size`` (H, W), sizes rounded up."""
    return [(math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in strides]


def depth_macs(
    depths: Iterable[int], size: tuple[int, int] = PUBLISHED_SIZE, channels: int = 256, **options: Any
) -> dict[int, int]:
    """Multiply-adds of released Dynamic Heads of several depths: blocks -> MAC.

    Args:
        depths: numbers of blocks. All blocks of a head are alike, so one is counted.
        size: (H, W) of the image.
        channels: C of the pyramid.
        options: of :class:`~dyhead_lab.attention.DyHeadBlock`, such as ``offset_fit``.
    """
    with torch.device("meta"):
        block = DyHeadBlock(channels, **options)
        levels = [torch.zeros(1, channels, *level) for level in level_sizes(size)]
    one = _macs(block, levels)
    return {depth: depth * one for depth in depths}


def tower_macs(size: tuple[int, int] = PUBLISHED_SIZE, channels: int = 256, convs: int = 4) -> int:
    """Multiply-adds of the two towers of convolutions that a Dynamic Head replaces in ATSS."""
    counted = []
    for tower_convs in (convs, 0):
        with torch.device("meta"):
            head = ATSSHead(channels, 80, tower_convs=tower_convs)
            levels = [torch.zeros(1, channels, *level) for level in level_sizes(size)]
        counted.append(_macs(head, levels))
    return counted[0] - counted[1]


@dataclass(frozen=True)
class PartCost:
    """Parameters and multiply-adds of one part of a detector, for one image."""

    name: str
    parameters: int
    macs: int


def part_costs(build: Callable[[], nn.Module], size: tuple[int, int] = PUBLISHED_SIZE) -> tuple[PartCost, ...]:
    """What each part of a detector costs, from the backbone to the last prediction.

    Args:
        build: makes the detector, such as ``partial(atss, 80, dyhead_blocks=6)``; called on the meta device.
        size: (H, W) of the image, which is neither resized nor padded.

    Returns:
        the costs of "backbone", "FPN", "Dynamic Head" (zeros without one), and "head": everything after the pyramid.
        Two-stage detectors classify :data:`REGIONS` regions.

    Raises:
        TypeError: the detector has neither a ``head`` nor an ``rpn`` and ``roi_heads``.
    """
    with torch.device("meta"), warnings.catch_warnings():
        # Trained weights that a detector starts from have no place here; only shapes count.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        model: Any = build().eval()
        image = torch.zeros(1, 3, *size)
    body, fpn, neck = model.backbone.body, model.backbone.fpn, model.backbone.neck
    with torch.no_grad():
        stages = body(image)
        levels = list(fpn(stages).values())
        parts = (
            PartCost("backbone", _size(body), _macs(body, image)),
            PartCost("FPN", _size(fpn), _macs(fpn, stages)),
            PartCost("Dynamic Head", _size(neck), _macs(neck, levels) if isinstance(neck, DyHead) else 0),
        )
        macs_above = _macs_above(model, levels)
    return (*parts, PartCost("head", _size(model) - sum(part.parameters for part in parts), macs_above))


def _macs_above(model: Any, levels: list[torch.Tensor]) -> int:
    """Multiply-adds of everything that reads the pyramid."""
    if hasattr(model, "head"):
        return _macs(model.head, levels)
    if not hasattr(model, "roi_heads"):
        raise TypeError(f"build: {type(model).__name__} has neither a head nor roi_heads, expected a detector")
    roi_heads = model.roi_heads
    regions = torch.zeros(REGIONS, levels[0].shape[1], BOX_SIZE, BOX_SIZE, device="meta")
    if hasattr(roi_heads, "stages"):
        stages = sum(_macs(stage, regions) for stage in roi_heads.stages)
    else:
        stages = _macs(roi_heads.box_head, regions) + _macs(roi_heads.box_predictor, roi_heads.box_head(regions))
    return _macs(model.rpn.head, levels) + stages


def _macs(module: nn.Module, *inputs: Any) -> int:
    return macs(module, partial(module, *inputs))[""]


def _size(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())
