"""What the published implementations computed, and the frozen random numbers that they were given.

An oracle file holds outputs only: weights and inputs are drawn again here from their names, with seed 7.
``numpy``'s ``RandomState`` is frozen, so the draws never change. Hold outputs to 1e-4 absolute, losses and
gradients to 1e-4 relative.
"""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "oracles"


def draw(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Standard normal numbers, float32, fixed by ``name``, ``shape`` and ``seed``."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    return random.standard_normal(tuple(shape)).astype(np.float32)


def weight(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """The value of the state-dict entry ``name``, scaled so that activations keep their size."""
    x = draw(name, shape, seed)
    if name.endswith("running_var"):
        return np.abs(x) * np.float32(0.1) + 1
    if name.endswith("weight") and len(shape) == 1:
        return 1 + np.float32(0.1) * x
    if len(shape) <= 1:
        return np.float32(0.1) * x
    return x / np.float32(math.sqrt(int(np.prod(shape[1:]))))


def load(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of ``oracles/NAME.npz`` and the contents of ``oracles/NAME.json`` ({} if missing)."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    facts = FOLDER / f"{name}.json"
    return arrays, json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}
