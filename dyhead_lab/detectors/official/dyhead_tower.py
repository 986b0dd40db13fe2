"""The tower of Dynamic Head blocks as microsoft/DynamicHead stores it, and the way back."""

from __future__ import annotations

import re

import torch

from ...attention import DyHead
from .state_dicts import StateDict, load_strictly

_ENTRY = re.compile(r"(?:^|\.)dyhead_tower\.(\d+)\.(.+)$")

#: Part of our block -> part of an official block.
_PARTS = {
    "spatial.coarser.conv": "DyConv.0.conv",
    "spatial.coarser.norm": "DyConv.0.bn",
    "spatial.own.conv": "DyConv.1.conv",
    "spatial.own.norm": "DyConv.1.bn",
    "spatial.finer.conv": "DyConv.2.conv",
    "spatial.finer.norm": "DyConv.2.bn",
    "spatial.offset_mask": "offset",
    "scale.gate": "AttnConv.1",
    "task.fc1": "relu.fc.0",
    "task.fc2": "relu.fc.2",
}


def dyhead_tower(state_dict: StateDict) -> DyHead:
    """Build the :class:`~dyhead_lab.attention.DyHead` that an official state dict describes, and fill it.

    Args:
        state_dict: an official state dict, or any part of it that holds the tower: entries
            ``dyhead_tower.{i}.*`` under any prefix. Other entries are not looked at.

    Returns:
        the stack in the released form with ``offset_fit="flat"``, as these weights were trained; its depth
        and width follow from the entries.

    Raises:
        ValueError: no entry belongs to a tower, or a block has missing, unknown or misshapen entries.
    """
    tower = tower_entries(state_dict)
    if not tower:
        raise ValueError(f"state_dict: expected entries named dyhead_tower.{{i}}.*, found none among {len(state_dict)}")
    offset = tower.get("dyhead_tower.0.offset.weight")
    if offset is None:
        raise ValueError("state_dict: missing dyhead_tower.0.offset.weight, which tells the number of channels")
    blocks = 1 + max(int(name.split(".")[1]) for name in tower)
    head = DyHead(offset.shape[1], blocks, form="released", offset_fit="flat")
    load_strictly(head, tower, official_name)
    return head


def tower_entries(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """The entries of a tower under any prefix, renamed to ``dyhead_tower.{i}.*``."""
    found = ((_ENTRY.search(name), value) for name, value in state_dict.items())
    return {f"dyhead_tower.{match[1]}.{match[2]}": value for match, value in found if match}


def official_name(ours: str) -> str:
    """``blocks.{i}.PART.weight`` of a :class:`DyHead` -> ``dyhead_tower.{i}.PART.weight``."""
    _, block, rest = ours.split(".", 2)
    part, _, kind = rest.rpartition(".")
    return f"dyhead_tower.{block}.{_PARTS[part]}.{kind}"


def official_tower(head: DyHead) -> dict[str, torch.Tensor]:
    """The state dict of a released-form stack under its official names, ``dyhead_tower.{i}.*``.

    Raises:
        ValueError: ``head`` is in the paper form or has a switch off: the official layout knows neither.
    """
    ours = head.state_dict()
    if {name.split(".", 2)[2].rpartition(".")[0] for name in ours} != set(_PARTS):
        raise ValueError("head: the official layout holds the released form with all three attentions, nothing else")
    values = {official_name(name): value for name, value in ours.items()}
    # The gate is a 1x1 convolution there.
    return {name: v[:, :, None, None] if name.endswith("AttnConv.1.weight") else v for name, v in values.items()}
