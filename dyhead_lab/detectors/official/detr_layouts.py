"""The names under which Deformable DETR's weights are stored, brought to those of its official code."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

from .state_dicts import StateDict, listing

#: Head of a decoder or encoder layer that is a second name of a head at the top.
_ALIAS = re.compile(r"^transformer\.(encoder|decoder)\.(class_embed|bbox_embed)\.(\d+)\.(.+)$")

Renaming = tuple[tuple[str, str], ...]

#: Hugging Face -> official: patterns and what replaces them, applied in this order. Both the layout of stored files
#: and that of transformers 5.
_SHARED: Renaming = (
    (r"^model\.backbone\.(?:conv_encoder\.)?model\.", "backbone.0.body."),
    (r"^model\.query_position_embeddings\.", "query_embed."),
    (r"^model\.input_proj(?:ection)?\.", "input_proj."),
    (r"^model\.", "transformer."),
    (r"(layers\.\d+)\.(?:mlp\.)?fc([12])\.", r"\1.linear\2."),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"(decoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm3."),
    (r"(_attn)\.o(?:ut)?_proj\.", r"\1.out_proj."),
)
DEFORMABLE: Renaming = (
    *_SHARED,
    (r"(decoder\.layers\.\d+)\.encoder_attn_layer_norm\.", r"\1.norm1."),
    (r"(decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm2."),
    (r"\.encoder_attn\.", ".cross_attn."),
)
DENSE: Renaming = (
    *_SHARED,
    (r"(decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(decoder\.layers\.\d+)\.encoder_attn_layer_norm\.", r"\1.norm2."),
    (r"\.encoder_attn\.", ".multihead_attn."),
    (r"\.decoder\.layernorm\.", ".decoder.norm."),
    (r"^class_labels_classifier\.", "class_embed."),
    (r"^bbox_predictor\.", "bbox_embed."),
)
_SPLIT_PROJECTION = re.compile(r"(_attn)\.q_proj\.(weight|bias)$")


def to_official(state_dict: StateDict, hugging_face: Renaming) -> dict[str, torch.Tensor]:
    """Entries under the names of the official code, every tensor once.

    Args:
        state_dict: in the official layout or that of Hugging Face. ``module.`` in front of all names (a model saved
            inside DistributedDataParallel) and batch norm's counters are dropped; Swin's tables of 49 x 49 positions
            are made flat, as torchvision keeps them.
        hugging_face: how to rename the latter: :data:`DEFORMABLE` or :data:`DENSE`.

    Raises:
        ValueError: if two names of the same head carry different weights.
    """
    entries = {
        name.removeprefix("module."): value.flatten() if name.endswith("relative_position_index") else value
        for name, value in state_dict.items()
        if not name.endswith("num_batches_tracked")
    }
    if any(name.startswith("model.encoder.") for name in entries):
        entries = _from_hugging_face(entries, hugging_face)
    return _without_aliases(entries)


def _from_hugging_face(entries: StateDict, renaming: Renaming) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in entries.items():
        for pattern, official in renaming:
            name = re.sub(pattern, official, name)
        renamed[name] = value
    for name in list(renamed):
        if match := _SPLIT_PROJECTION.search(name):
            attention, kind = name[: match.end(1)], match[2]
            parts = [renamed.pop(f"{attention}.{letter}_proj.{kind}") for letter in "qkv"]
            renamed[f"{attention}.in_proj_{kind}"] = torch.cat(parts)
    return renamed


def _without_aliases(entries: StateDict) -> dict[str, torch.Tensor]:
    """Drop the second names of heads, after a look whether they agree with the first.

    The decoder's heads count from the first head; the encoder's are the last ones.
    """
    aliases = {name: match for name in entries if (match := _ALIAS.match(name))}
    heads = 1 + max((int(m[1]) for name in entries if (m := re.match(r"class_embed\.(\d+)\.", name))), default=-1)
    encoder_heads = 1 + max((int(match[3]) for match in aliases.values() if match[1] == "encoder"), default=-1)
    differ = []
    for alias, match in aliases.items():
        index = int(match[3]) + (heads - encoder_heads if match[1] == "encoder" else 0)
        name = f"{match[2]}.{index}.{match[4]}"
        if name not in entries or not torch.equal(entries[name], entries[alias]):
            differ.append(f"{alias} and {name}")
    if differ:
        raise ValueError(f"state_dict: two names of one head differ: {listing(differ)}")
    return {name: value for name, value in entries.items() if name not in aliases}


def count(names: Iterable[str], prefix: str) -> int:
    """How many modules ``PREFIX.0``, ``PREFIX.1``, ... the names tell of."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
