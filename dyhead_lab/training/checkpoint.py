"""Files of a run: checkpoints to continue from, weights to keep, the log. Written so that none is ever half there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..weight_files import read_weight_file, warn_if_not_finite, without_wrappers

CHECKPOINT = "dyhead_lab checkpoint 2"
WEIGHTS = "dyhead_lab weights 2"
#: Formats that are still read; :mod:`.former_options` says what is different in them.
FORMER_FORMATS = {CHECKPOINT: "dyhead_lab checkpoint 1", WEIGHTS: "dyhead_lab weights 1"}
#: What a file of a format cannot do without, and of what type it is.
PARTS: dict[str, dict[str, type]] = {
    CHECKPOINT: {"settings": dict, "iteration": int, "model": dict, "averaged": dict, "optimizer": dict},
    WEIGHTS: {"recipe": str, "options": dict, "categories": list, "state_dict": dict},
}
#: What early files lack.
LATER_PARTS: dict[str, type] = {"settings": dict, "detector": str}


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Save with ``torch.save`` so that ``path`` holds either the old content or the new, whatever happens.

    Raises:
        UserError: the folder cannot be written or the disk is full; what was there before is still there.
    """
    partial = path.with_name(path.name + ".partial")
    file: _Sink | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Sink(partial, "w") as file:
            torch.save(content, file)
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):  # where nothing can be written there is nothing to remove
            partial.unlink()
        reason = file.problem if file and file.problem else error
        kept = f"; {path.name} is still the previous one" if path.exists() else ""
        raise UserError(f"cannot write {path}: {getattr(reason, 'strerror', None) or reason}{kept}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that ``path``, or what it is a link to, holds either the old content or the new.

    Raises:
        UserError: the folder cannot be written or the disk is full; what was there before is still there.
    """
    target = path.resolve()
    partial = target.with_name(target.name + ".partial")
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(target)
        except OSError:
            with suppress(OSError):  # where nothing can be written there is nothing to remove
                partial.unlink()
            raise


class _Sink(FileIO):
    """A file that remembers why it could not be written: of a full disk torch only says that a position is wrong."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = rest.nbytes
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.problem = error
            raise
        return size


def read(path: Path, kind: str) -> dict[str, Any]:
    """Load a file that :func:`write_atomically` wrote. Nothing in it is executed.

    Names of weights come without the ``module.`` that parallel training puts before them. Weights that are NaN or
    infinite give a warning.

    Raises:
        UserError: the file is missing, damaged, of another kind, or lacks a part.
    """
    return checked(read_weight_file(path, f"a file of format {kind!r}"), path, kind)


def checked(content: Any, path: Path, kind: str) -> dict[str, Any]:
    """What :func:`read` gives, from what the file at ``path`` holds."""
    found = content.get("format") if isinstance(content, dict) else None
    if found not in (kind, FORMER_FORMATS.get(kind)):
        raise UserError(f"{path}: expected a file of format {kind!r}, found {found!r}")
    parts = PARTS.get(kind, {})
    missing = [part for part in parts if part not in content]
    if missing:
        raise UserError(f"{path}: damaged (no {', '.join(missing)})")
    for part, wanted in (parts | {later: kind for later, kind in LATER_PARTS.items() if later in content}).items():
        if not isinstance(content[part], wanted):
            raise UserError(
                f"{path}: damaged ({part}: expected a {wanted.__name__}, got a {type(content[part]).__name__})"
            )
    if kind == WEIGHTS:
        if not all(isinstance(name, str) for name in content["state_dict"]):
            raise UserError(f"{path}: damaged (state_dict: expected names of weights as texts)")
        content["state_dict"] = without_wrappers(content["state_dict"])
        warn_if_not_finite(content["state_dict"], path)
    return content


def save_weights(
    path: Path,
    model: nn.Module,
    recipe: str,
    options: dict[str, Any],
    categories: list[str],
    origin: dict[str, Any] | None = None,
) -> None:
    """Write the weights that are kept: half precision, with all that is needed to build the detector again.

    Args:
        path: file to write.
        model: the detector.
        recipe: the recipe's name.
        options: the arguments that the recipe's detector was built with, as plain values.
        categories: names of the classes, in the order of the labels.
        origin: what ``Recipe.origin`` gives: what a recipe that the zoo does not know is built from again.
    """
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    write_atomically(
        path,
        {
            "format": WEIGHTS,
            "recipe": recipe,
            "options": options,
            "categories": categories,
            **(origin or {}),
            "state_dict": state,
        },
    )


class RunLog:
    """``log.jsonl`` of a run: one line of numbers per entry, cut back to the checkpoint when a run continues.

    Raises:
        UserError: (here and when adding) the folder cannot be written or the disk is full; what is there is no log.
    """

    def __init__(self, path: Path, iteration: int):
        self.path = path
        kept = [entry for entry in self.entries(path) if entry["iteration"] <= iteration]
        partial = path.with_name(path.name + ".partial")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
            partial.replace(path)

    @staticmethod
    def entries(path: Path) -> list[dict[str, Any]]:
        """Every complete line of a log; a last line that was cut off by a kill is left out.

        Raises:
            UserError: the file holds bytes that are no text.
        """
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: damaged ({error})") from error
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return entries

    def add(self, iteration: int, **values: Any) -> None:
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")


@contextmanager
def fitting(run: Path, detector: str) -> Iterator[None]:
    """A block that fills a detector and its optimiser with what a checkpoint holds.

    Args:
        run: the run's folder.
        detector: the name of the class or function, for the message.

    Raises:
        UserError: they do not fit, as after a change of the class that lies in a file of the reader's own.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise UserError(
            f"{run} holds a run of another detector than {detector} is by now ({problem:.300}); "
            "choose another --out, or --fresh to start it anew"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes ``path``, or inside it.

    Raises:
        UserError: that cannot be done; the message names the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
