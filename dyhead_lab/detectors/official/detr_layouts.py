"""The names under which the weights of DETR's family are stored, brought to those of its official code."""

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
_BODY = "backbone.0.body."
#: The ResNet that transformers has itself, below the body; other files have timm's, whose names are torchvision's.
_STEM = {"embedder.embedder.convolution.": "conv1.", "embedder.embedder.normalization.": "bn1."}
_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d)|shortcut)\.(convolution|normalization)\.")


def to_official(state_dict: StateDict, hugging_face: Renaming) -> dict[str, torch.Tensor]:
    """Entries under the names of the official code, every head once and under its first name.

    Args:
        state_dict: in the official layout or that of Hugging Face. Batch norm's counters are dropped; Swin's tables of
            49 x 49 positions are made flat, as torchvision keeps them.
        hugging_face: how to rename the latter: :data:`DEFORMABLE` or :data:`DENSE`.

    Raises:
        ValueError: if two names of the same head carry different weights.
    """
    entries = {
        name: value.flatten() if name.endswith("relative_position_index") else value
        for name, value in state_dict.items()
        if not name.endswith("num_batches_tracked")
    }
    if any(name.startswith("model.encoder.") for name in entries):
        entries = _from_hugging_face(entries, hugging_face)
    return _with_shared_heads(_without_aliases(entries))


def _from_hugging_face(entries: StateDict, renaming: Renaming) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in entries.items():
        for pattern, official in renaming:
            name = re.sub(pattern, official, name)
        renamed[_torchvision_name(name)] = value
    for name in list(renamed):
        if match := _SPLIT_PROJECTION.search(name):
            attention, kind = name[: match.end(1)], match[2]
            parts = [f"{attention}.{letter}_proj.{kind}" for letter in "qkv"]
            if all(part in renamed for part in parts):  # else the names tell what is missing
                renamed[f"{attention}.in_proj_{kind}"] = torch.cat([renamed.pop(part) for part in parts])
    return renamed


def _torchvision_name(name: str) -> str:
    """``...encoder.stages.1.layers.0.layer.2.convolution.weight`` -> ``...layer2.0.conv3.weight``, inside a body."""
    body, inside = name[: len(_BODY)], name[len(_BODY) :]
    if body != _BODY:
        return name
    for start, ours in _STEM.items():
        if inside.startswith(start):
            return body + ours + inside.removeprefix(start)
    if (match := _BLOCK.match(inside)) is None:
        return name
    stage, block, layer, kind = match.groups()
    convolution = kind == "convolution"
    if layer is None:
        part = f"downsample.{0 if convolution else 1}"
    else:
        part = f"{'conv' if convolution else 'bn'}{int(layer) + 1}"
    return f"{body}layer{int(stage) + 1}.{block}.{part}.{inside[match.end() :]}"


def refines_by_name(names: Iterable[str]) -> bool:
    """Whether names tell of box refinement: only then box heads stand in the decoder too, in all layouts but ours."""
    return any("decoder.bbox_embed." in name for name in names)


def _without_aliases(entries: StateDict) -> dict[str, torch.Tensor]:
    """Give every head its first name, after a look whether its second name, if there are both, says the same.

    The encoder's heads come after those of the decoder and of the proposals. Files of safetensors hold a tensor once,
    under either name.
    """
    aliases = {name: match for name in entries if (match := _ALIAS.match(name))}
    start = {"decoder": 0, "encoder": _decoding_heads(entries)}
    kept = {name: value for name, value in entries.items() if name not in aliases}
    differ = []
    for alias, match in aliases.items():
        name = f"{match[2]}.{start[match[1]] + int(match[3])}.{match[4]}"
        if not torch.equal(kept.setdefault(name, entries[alias]), entries[alias]):
            differ.append(f"{alias} and {name}")
    if differ:
        raise ValueError(f"state_dict: two names of one head differ: {listing(differ)}")
    return kept


def _with_shared_heads(entries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a head that all decoder layers share, and that safetensors hold once, to each of them."""
    heads = _decoding_heads(entries)
    for kind in ("class_embed", "bbox_embed"):
        first = f"{kind}.0."
        if count(entries, kind) == 1 and any(name.startswith(first) for name in entries):
            shared = {name.removeprefix(first): value for name, value in entries.items() if name.startswith(first)}
            entries |= {f"{kind}.{i}.{name}": value for i in range(1, heads) for name, value in shared.items()}
    return entries


def _decoding_heads(entries: StateDict) -> int:
    """How many heads of a kind the decoder's layers and the proposals have."""
    return count(entries, "transformer.decoder.layers") + ("transformer.pos_trans.bias" in entries)


def count(names: Iterable[str], prefix: str) -> int:
    """How many modules ``PREFIX.0``, ``PREFIX.1``, ... the names tell of."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
