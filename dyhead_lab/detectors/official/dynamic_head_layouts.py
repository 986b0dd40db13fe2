"""Names: what microsoft/DynamicHead (on Detectron2) and mmdetection call each entry of our detectors.

Each function takes one of our names and returns theirs. :data:`VALUES` lists the few entries whose numbers
differ too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .dyhead_tower import official_name as tower_name

#: Start of our name -> of theirs.
_HEADS = {
    "head.classification_head.cls_logits.": "head.cls_score.",
    "head.regression_head.bbox_reg.": "head.bbox_pred.",
    "head.classification_head.conv.": "head.cls_subnet.",
    "head.regression_head.conv.": "head.bbox_subnet.",
    "rpn.head.conv.0.0.": "proposal_generator.rpn_head.conv.",
    "rpn.head.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
    "rpn.head.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
    "roi_heads.box_head.fc6.": "roi_heads.box_head.fc1.",
    "roi_heads.box_head.fc7.": "roi_heads.box_head.fc2.",
}
_MMDET_HEADS = {
    "head.cls_logits.": "bbox_head.atss_cls.",
    "head.bbox_pred.": "bbox_head.atss_reg.",
    "head.centerness.": "bbox_head.atss_centerness.",
    "head.scales.": "bbox_head.scales.",
}
_MMDET_BLOCK = {
    "spatial.coarser": "spatial_conv_high",
    "spatial.own": "spatial_conv_mid",
    "spatial.finer": "spatial_conv_low",
    "spatial.offset_mask": "spatial_conv_offset",
    "scale.gate": "scale_attn_module.1",
    "task.fc1": "task_attn_module.conv1.conv",
    "task.fc2": "task_attn_module.conv2.conv",
}
_SWIN_PARTS = {"features.0.0.": "patch_embed.proj.", "features.0.2.": "patch_embed.norm."}


def detectron2_name(ours: str, finest: int) -> str:
    """The name of an entry in microsoft/DynamicHead's checkpoints.

    Args:
        ours: a name in one of our detectors.
        finest: the finest level of its pyramid, 2 or 3.
    """
    area, _, rest = ours.partition(".")
    if area != "backbone":
        return _head_name(ours)
    part, _, rest = rest.partition(".")
    if part == "neck":
        return "backbone." + tower_name(rest)
    if part == "fpn":
        return "backbone.backbone." + _fpn_name(rest, finest)
    return "backbone.backbone.bottom_up." + (swin_name(rest) if _is_swin(rest) else _resnet_name(rest))


def _head_name(ours: str) -> str:
    if ours.startswith("head.scales."):
        return ours + ".scale"
    for start, theirs in _HEADS.items():
        if not ours.startswith(start):
            continue
        rest = ours.removeprefix(start)
        if theirs.endswith("_subnet."):  # ours counts convolutions, theirs the ReLUs between them too
            index, _, kind = rest.split(".")
            rest = f"{2 * int(index)}.{kind}"
        return theirs + rest
    return ours


def _fpn_name(rest: str, finest: int) -> str:
    part, index, *tail = rest.split(".")
    if part == "extra_blocks":
        return f"top_block.{index}.{tail[0]}"
    kind = {"inner_blocks": "lateral", "layer_blocks": "output"}[part]
    return f"fpn_{kind}{finest + int(index)}.{tail[1]}"


def _resnet_name(rest: str) -> str:
    """``stages.0.1.bn2.bias`` -> ``res2.1.conv2.norm.bias``."""
    part, *tail = rest.split(".")
    if part == "stages":
        part = f"res{int(tail[0]) + 2}.{tail[1]}"
        tail = tail[2:]
    layer, kind = ".".join(tail[:-1]), tail[-1]
    layer = layer.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    if layer.startswith("bn"):
        layer = f"conv{layer[2:]}.norm"
    return f"{part}.{layer}.{kind}"


def _is_swin(rest: str) -> bool:
    return rest.startswith(("features.", "norms."))


def swin_name(rest: str) -> str:
    """``features.3.0.mlp.0.bias`` -> ``layers.1.blocks.0.mlp.fc1.bias``."""
    for start, theirs in _SWIN_PARTS.items():
        if rest.startswith(start):
            return theirs + rest.removeprefix(start)
    part, index, *tail = rest.split(".")
    if part == "norms":
        return f"norm{int(index[1:]) - 2}.{tail[0]}"
    layer = (int(index) - 1) // 2
    if int(index) % 2 == 0:
        return f"layers.{layer}.downsample.{'.'.join(tail)}"
    block, *inside = tail
    name = ".".join(inside).replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
    return f"layers.{layer}.blocks.{block}.{name}"


def mmdet_name(ours: str) -> str:
    """The name of an entry of ATSS with Dynamic Head in mmdetection's checkpoints."""
    for start, theirs in _MMDET_HEADS.items():
        if ours.startswith(start):
            return theirs + ours.removeprefix(start) + (".scale" if "scales" in start else "")
    _, part, *tail = ours.split(".")
    if part == "neck":
        block, inside = tail[1], ".".join(tail[2:])
        for start, theirs in _MMDET_BLOCK.items():
            if inside.startswith(start):
                return f"neck.1.dyhead_blocks.{block}.{theirs}{inside.removeprefix(start)}"
    if part == "fpn":
        kind = {"inner_blocks": "lateral_convs", "layer_blocks": "fpn_convs", "extra_blocks": "fpn_convs"}[tail[0]]
        index = {"p6": "3", "p7": "4"}.get(tail[1], tail[1])
        return f"neck.0.{kind}.{index}.conv.{tail[-1]}"
    if tail[0] == "stem":
        return "backbone." + ".".join(tail[1:])
    return f"backbone.layer{int(tail[1]) + 1}." + ".".join(tail[2:])


def _without_background(boxes: Tensor) -> Tensor:
    return boxes[4:]


def _with_background(boxes: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(boxes[:4]), boxes])


def _reverse_colours(weight: Tensor) -> Tensor:
    return weight.flip(1)


#: End of an official name -> (their numbers to ours, ours to theirs).
VALUES: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    # Their ResNet reads BGR, ours RGB.
    "bottom_up.stem.conv1.weight": (_reverse_colours, _reverse_colours),
    # Their background is the last class and has no box; torchvision's is the first and has one that nothing
    # reads.
    "box_predictor.cls_score.weight": (lambda x: x.roll(1, 0), lambda x: x.roll(-1, 0)),
    "box_predictor.cls_score.bias": (lambda x: x.roll(1, 0), lambda x: x.roll(-1, 0)),
    "box_predictor.bbox_pred.weight": (_with_background, _without_background),
    "box_predictor.bbox_pred.bias": (_with_background, _without_background),
    # A table of 49 x 49 that torchvision keeps flat.
    "relative_position_index": (lambda x: x.flatten(), lambda x: x.view(49, 49)),
}


def convert(official: str, value: Tensor, to_official: bool) -> Tensor:
    """The value of one entry on its way from their layout to ours, or back."""
    for end, ways in VALUES.items():
        if official.endswith(end):
            return ways[to_official](value)
    return value
