"""Files of weights: read without running what they contain, or refused in one line that says what they are."""

from __future__ import annotations

import argparse
import re
import struct
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import UserError

#: How texts begin that are taken for weights: the usual ends of a download that went wrong.
_TEXTS = (
    (r"version https://git-lfs", "a Git LFS pointer, not the file it stands for; get that by: git lfs pull"),
    (r"<(!doctype|html|head|body|\?xml)", "a web page"),
    (r"[{\[]", "a JSON text"),
    ("", "a text file"),
)
#: First bytes of formats that are taken for weights.
_FORMATS = (
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
#: The number that old files of torch.save begin with, as a pickle writes it.
_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
#: What torch says of a Python object that is not plain data.
_FOREIGN = re.compile(r"(?:(?:unsupported|Unsupported global:) GLOBAL |but got <class ')([\w.]+)")
#: Where torch says what else it refuses, after a general remark.
_CAUSE = re.compile(r"WeightsUnpickler error:\s*(.+)")
#: Start of such an object's name -> how to get a file without it.
_REMEDIES = {
    "mmengine.": "; mmdetection's tools/model_converters/publish_model.py keeps the weights alone",
    "ultralytics.": "; it is a whole model, not its weights",
}
#: What DistributedDataParallel, averaged models and torch.compile put into names.
_WRAPPERS = re.compile(r"^(?:module\.)+|_orig_mod\.")


def read_weight_file(path: Path, expected: str = "weights that torch.save or safetensors wrote") -> Any:
    """What a file holds that ``torch.save`` or safetensors wrote. Its bytes tell which of them, not its name.

    Nothing in it is executed. Of Python objects only plain data are read: tensors, numbers, texts, containers, and
    what training programs put beside their tensors: ``argparse.Namespace``, ``types.SimpleNamespace``, NumPy's numbers
    and arrays (but not those of objects), and paths, which become pure paths.

    Args:
        path: the file.
        expected: what it should be, for the message that refuses another one.

    Raises:
        UserError: the file is missing, cannot be read, or is something else. The message says what it is.
    """
    try:
        kind = _kind(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (expected {expected})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if kind not in ("safetensors", "torch"):
        raise UserError(f"{path} is {kind} (expected {expected})")
    try:
        if kind == "safetensors":
            return load_file(path)
        # Opened here: since 2.14 torch goes by the name where it is given one, and takes .safetensors for that format.
        with open(path, "rb") as file, torch.serialization.safe_globals(PLAIN):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler that meets foreign bytes may raise anything
        raise UserError(f"{path} {_reason(error)} (expected {expected})") from error


def _kind(path: Path) -> str:
    """ "safetensors", "torch", or in words what else the file is."""
    if path.is_dir():
        return "a folder"
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        return "empty"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:  # the length of a JSON header, and the header
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head.startswith(
        b"\x80"
    ):  # a pickle; those of torch.save, from before it wrote zip archives, begin with a number
        return "torch" if _MAGIC in head[:32] else "a Python pickle that torch.save did not write"
    for start, kind in _FORMATS:
        if head.startswith(start):
            return kind
    text = head.decode("utf-8", errors="replace")
    if any(char < " " and char not in "\t\n\f\r" for char in text) or "\ufffd" in text[:-1]:
        return "in no format known here, or damaged"
    return next(kind for start, kind in _TEXTS if re.match(start, text.strip().lower()))


def _kind_of_zip(path: Path) -> str:
    try:
        if not zipfile.is_zipfile(path):
            return "cut short: copy or download it again"
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        return f"a damaged zip archive ({error})"
    if "constants.pkl" in names:
        return "a TorchScript archive: a compiled model, not its weights alone"
    return "torch" if "data.pkl" in names else "a zip archive that torch.save did not write"


def _reason(error: Exception) -> str:
    """Why an archive could not be read, to follow its path in a message."""
    said = str(error)
    if isinstance(error, SafetensorError):
        return f"is a damaged safetensors file: {said}"
    if foreign := _FOREIGN.search(said):
        remedy = next((remedy for module, remedy in _REMEDIES.items() if foreign[1].startswith(module)), "")
        return f"cannot be read safely: it holds {foreign[1]}, a Python object that could run code{remedy}"
    if cause := _CAUSE.search(said):
        return f"cannot be read safely: {cause[1]}"
    first_line = said.strip().splitlines()[0] if said.strip() else type(error).__name__
    return f"is damaged: {first_line}"


def _plain_types() -> list[Any]:
    """What may stand in a file beside tensors, as ``torch.serialization.safe_globals`` takes it."""
    plain: list[Any] = [argparse.Namespace, types.SimpleNamespace, np.ndarray, np.dtype]
    plain += [getattr(np.dtypes, name) for name in np.dtypes.__all__ if name not in ("ObjectDType", "StringDType")]
    # How NumPy restores an array and a number; older versions kept these functions in numpy.core.
    restores: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]]
    for function in restores:
        plain += [(function, f"numpy.{core}.multiarray.{function.__name__}") for core in ("_core", "core")]
    # A path of the other system cannot be made here, and nobody reads files through those in a checkpoint.
    for pure, names in (
        (PurePosixPath, ("PosixPath", "PurePosixPath")),
        (PureWindowsPath, ("WindowsPath", "PureWindowsPath")),
    ):
        plain += [(pure, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in names]
    return plain


PLAIN = _plain_types()


def without_wrappers(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Entries without what wrappers put into names: ``module.`` (parallel training), ``_orig_mod.`` (compiling)."""
    return {_WRAPPERS.sub("", name): value for name, value in state_dict.items()}


def warn_if_not_finite(state_dict: Mapping[str, Any], source: str | Path) -> None:
    """One warning if weights hold NaN or infinity, with the first names. A detector with such weights finds nothing."""
    bad = [
        name
        for name, value in state_dict.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.isfinite().all()
    ]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        warnings.warn(
            f"{source}: weights that are NaN or infinite in {', '.join(bad[:3])}{more}; the training may have diverged",
            stacklevel=3,
        )
