"""Checkpoints as programs save them, files or folders, down to the weights inside."""

from __future__ import annotations

import argparse
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError
from ...weight_files import read_weight_file, warn_if_not_finite, without_wrappers
from .hugging_face_files import config_beside, read_shards, weights_in
from .state_dicts import StateDict

#: Where programs keep averaged weights: DETR's successors, mmengine, timm, RT-DETR, BasicSR.
AVERAGED = ("model_ema", "ema_state_dict", "state_dict_ema", "ema", "params_ema")
#: Where they keep the weights themselves: mmengine and Lightning; Detectron2 and DETR; BasicSR; within RT-DETR's "ema".
OWN = ("state_dict", "model", "params", "module")
#: Wrappers around wrappers.
DEEPEST = 4
#: What averaged models count beside their weights.
_COUNTERS = ("n_averaged", "steps")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint tells.

    Attributes:
        weights: tensors by name, without ``module.`` of parallel training.
        args: arguments of the training under the names of DETR's official code; {} if it does not tell.
        meta: what mmengine notes beside its weights, with the configuration as text; {} elsewhere.
        name: for messages, the path or "state_dict".
    """

    weights: StateDict
    args: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = "state_dict"


#: What a loader accepts: a file or a folder, or what was read from one.
Source = str | Path | Mapping[str, Any] | Checkpoint


def read_checkpoint(source: Source) -> Checkpoint:
    """Read a checkpoint and take its weights out of what they are wrapped in.

    Args:
        source: a ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file, a folder that ``save_pretrained`` wrote (or a
            file in it), or the contents of a file: a state dict, alone or under one of the names in :data:`OWN` and
            :data:`AVERAGED`; or what this function gave. Where averaged weights are there they are taken, and a
            warning says so.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, Mapping):
        contents, args, name = source, {}, "state_dict"
    else:
        path = weights_in(Path(source))
        contents, args, name = read_shards(path) or read_weight_file(path), config_beside(path), str(source)
    if not isinstance(contents, Mapping):
        raise UserError(f"{name} holds a {type(contents).__name__}, expected weights by name")
    weights = without_wrappers(_unwrapped(contents, name))
    for counter in _COUNTERS:
        weights.pop(counter, None)
    warn_if_not_finite(weights, name)
    meta = contents.get("meta")
    return Checkpoint(weights, {**_stored_args(contents), **args}, meta if isinstance(meta, Mapping) else {}, name)


def _unwrapped(contents: Mapping[str, Any], name: str) -> StateDict:
    """The tensors by name somewhere inside ``contents``."""
    for _ in range(DEEPEST):
        if all(isinstance(value, torch.Tensor) for value in contents.values()):
            return contents
        inside = [key for key in (*AVERAGED, *OWN) if isinstance(contents.get(key), Mapping)]
        if not inside:
            break
        swapped = _is_swapped(contents)
        chosen = "state_dict" if swapped else inside[0]
        if len(inside) > 1 and (swapped or chosen in AVERAGED):
            warnings.warn(f"{name} holds averaged weights, under {chosen!r}, which are loaded", stacklevel=4)
        contents = contents[chosen]
    raise UserError(
        f"{name} holds no state dict: expected tensors by name, alone or under one of {', '.join((*OWN, *AVERAGED))}; "
        f"got {', '.join(map(str, list(contents)[:5])) or 'nothing'}"
    )


def _is_swapped(contents: Mapping[str, Any]) -> bool:
    """Whether ``state_dict`` holds the averaged weights and ``ema_state_dict`` the others.

    mmengine saves them so, to load the better ones by default. Its averaged model is known by a counter, ``steps``.
    """
    averaged = contents.get("ema_state_dict")
    return isinstance(contents.get("state_dict"), Mapping) and isinstance(averaged, Mapping) and "steps" in averaged


def _stored_args(contents: Mapping[str, Any]) -> dict[str, Any]:
    args = contents.get("args")
    if isinstance(args, argparse.Namespace | types.SimpleNamespace):
        return dict(vars(args))
    return dict(args) if isinstance(args, Mapping) else {}
