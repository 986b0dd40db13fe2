"""Read checkpoint files without running what they contain."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ...errors import UserError
from .state_dicts import StateDict

#: What a loader accepts: a file, or what was read from one.
Source = str | Path | Mapping[str, Any]


def read_checkpoint(source: Source) -> tuple[StateDict, dict[str, Any]]:
    """The weights of a checkpoint, and the arguments that it was trained with ({} if it does not tell).

    Args:
        source: a ``.pth``, ``.bin`` or ``.safetensors`` file, or its contents: a state dict, or a dict with the
            state dict under ``model`` and an ``argparse.Namespace`` under ``args``. Of Python objects in a file only
            tensors, plain containers and that Namespace are read; anything else is refused, never executed.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    contents = _read(Path(source)) if isinstance(source, str | Path) else source
    args = contents.get("args")
    weights = contents.get("model", contents)
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError("the checkpoint holds no state dict: expected tensors by name, alone or under 'model'")
    return weights, dict(vars(args)) if isinstance(args, argparse.Namespace) else {}


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"there is no checkpoint file {path}")
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} is not a checkpoint that can be read safely: {first_line}") from error
    if not isinstance(contents, Mapping):
        raise UserError(f"{path} holds a {type(contents).__name__}, expected a checkpoint dict")
    return contents
