"""Folders that ``save_pretrained`` of transformers writes: which files hold the weights, and what the config tells."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError
from ...weight_files import read_weight_file

CONFIG = "config.json"
#: What the weights are called, in the order of preference; an index names the files of weights that were split.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
INDEX = ".index.json"
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.(safetensors|bin)$")

#: Name in config.json -> the official code's name for the argument.
_ARGUMENTS = {
    "encoder_attention_heads": "nheads",
    "dropout": "dropout",
    "num_queries": "num_queries",
    "with_box_refine": "with_box_refine",
    "dilation": "dilation",
}
#: What is built here, where a config says anything about it.
_BUILT = {
    "model_type": ("detr", "deformable_detr"),
    "position_embedding_type": ("sine",),
    "activation_function": ("relu",),
    "num_channels": (3,),
}
_BUILT_BACKBONE = {
    "model_type": ("resnet", "timm_backbone"),
    "hidden_act": ("relu",),
    "downsample_in_first_stage": (False,),
    "downsample_in_bottleneck": (False,),
}


def weights_in(path: Path) -> Path:
    """The file of weights, or the index of split ones, that ``path`` means.

    Args:
        path: a file, which is what it means itself, or a folder.

    Raises:
        UserError: there is nothing at ``path``, no weights in the folder, or one of several files was named.
    """
    if path.is_dir():
        found = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
        if found is None:
            raise UserError(f"{path} holds no weights: expected {', '.join(WEIGHTS)}")
        return found
    if not path.is_file():
        raise UserError(f"there is no checkpoint file {path}")
    if shard := _SHARD.search(path.name):
        raise UserError(
            f"{path} is one of {int(shard[1])} files that belong together: name their folder, {path.parent}"
        )
    return path


def read_shards(index: Path) -> dict[str, torch.Tensor] | None:
    """The entries of all files that an index names; None if ``index`` is no index.

    Raises:
        UserError: the index cannot be read, or a file that it names is missing or damaged.
    """
    if not index.name.endswith(INDEX):
        return None
    names = json_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{index}: expected a weight_map from entries to files")
    entries: dict[str, torch.Tensor] = {}
    for name in sorted(set(map(str, names.values()))):
        if Path(name).name != name:  # an index says which of its neighbours, never a place elsewhere
            raise UserError(f"{index}: expected names of files beside it, got {name!r}")
        entries |= read_weight_file(index.parent / name)
    missing = sorted(names.keys() - entries.keys())
    if missing:
        raise UserError(f"{index}: its files lack {', '.join(missing[:3])} ({len(missing)} entries)")
    return entries


def config_beside(weights: Path) -> dict[str, Any]:
    """The arguments that a ``config.json`` tells, under the names of DETR's official code; {} if there is none.

    Args:
        weights: a file under a name that ``save_pretrained`` gives. Beside others a ``config.json`` says nothing.

    Raises:
        UserError: the config cannot be read, or describes a detector that is not built here.
    """
    path = weights.parent / CONFIG
    if weights.name not in WEIGHTS or not path.is_file():
        return {}
    config = json_object(path)
    _refuse_others(config, _BUILT, f"{path}:")
    backbone = config.get("backbone_config")
    if isinstance(backbone, dict):
        _refuse_others(backbone, _BUILT_BACKBONE, f"{path}: backbone_config:")
    heads = config.get("encoder_attention_heads")
    if config.get("decoder_attention_heads", heads) != heads:
        raise UserError(f"{path}: decoder_attention_heads: expected as many as encoder_attention_heads, {heads}")
    args = {ours: config[theirs] for theirs, ours in _ARGUMENTS.items() if theirs in config}
    if config.get("two_stage"):
        args["num_queries"] = config.get("two_stage_num_proposals", 300)
    strides = [
        part.get("output_stride") for part in (backbone, config.get("backbone_kwargs")) if isinstance(part, dict)
    ]
    if 16 in strides:  # how timm calls it
        args["dilation"] = True
    return args


def _refuse_others(config: Mapping[str, Any], built: Mapping[str, tuple[Any, ...]], where: str) -> None:
    for name, values in built.items():
        if config.get(name, values[0]) not in values:
            raise UserError(f"{where} {name}: built here is {' or '.join(map(repr, values))}, got {config[name]!r}")


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found
