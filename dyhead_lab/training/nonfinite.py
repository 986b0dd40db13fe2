"""Batches whose loss or gradient is not finite: kept for a look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoint import write_atomically

NONFINITE = "dyhead_lab batch 1"


class NotFiniteError(Exception):
    """A loss or a gradient is infinite or not a number; ``values`` says which."""

    def __init__(self, values: Mapping[str, float]):
        super().__init__(", ".join(f"{name} {value}" for name, value in values.items()))
        self.values = dict(values)


def save_batch(
    folder: Path,
    iteration: int,
    process: int,
    images: Sequence[Tensor],
    targets: Sequence[Mapping[str, Any]],
    values: Mapping[str, float],
) -> Path:
    """Write a batch as the detector got it, with the losses that it gave, for ``checkpoint.read(path, NONFINITE)``.

    Args:
        folder: of the run.
        iteration, process: when and where it happened; part of the file's name.
        images, targets: the batch of this process.
        values: losses by name.

    Returns:
        the file.
    """
    path = folder / f"nonfinite_{iteration}_{process}.pt"
    content = {"iteration": iteration, "images": list(images), "targets": list(targets), "losses": dict(values)}
    write_atomically(path, {"format": NONFINITE, **content})
    return path
