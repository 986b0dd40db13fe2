"""How long a Dynamic Head takes by itself, in each precision: ``dyhead-lab bench dyhead``."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch

from ..attention import DyHead
from ..ops.bench import measure
from .dyhead_cost import PUBLISHED_SIZE, level_sizes


def milliseconds(
    device: str, blocks: int = 6, batch: int = 2, size: tuple[int, int] = PUBLISHED_SIZE, rounds: int = 15
) -> dict[str, float]:
    """Median time of the forward pass of a released Dynamic Head of 256 channels: precision -> milliseconds.

    Args:
        device: "cpu" or "cuda".
        blocks: how many.
        batch: images at once.
        size: (H, W) of the images. The pyramid has five levels, of strides 8 to 128.
        rounds: turns of each precision, which take turns.
    Returns:
        "float32" and "bfloat16" (weights and features); on a GPU also "TF32", and each of them "in a graph": recorded
        once and replayed, so that Python and the launching of kernels cost nothing.
    """
    head = DyHead(256, blocks).eval().to(device)
    levels = [torch.randn(batch, 256, *level, device=device) for level in level_sizes(size)]
    runs = {"float32": _run(head, levels, torch.float32), "bfloat16": _run(head, levels, torch.bfloat16)}
    if device == "cuda":
        runs["TF32"] = _run(head, levels, torch.float32, tf32=True)
        runs |= {f"{name} in a graph": measure.in_graph(run) for name, run in runs.items()}
    return {name: seconds * 1e3 for name, seconds in measure.medians(runs, rounds, device).items()}


def _run(head: DyHead, levels: list[torch.Tensor], dtype: torch.dtype, tf32: bool = False) -> Callable[[], object]:
    """A forward pass of a copy of the head in ``dtype``."""
    head, levels = deepcopy(head).to(dtype), [level.to(dtype) for level in levels]

    def run() -> object:
        with torch.no_grad(), measure.tf32(tf32):
            return head(levels)

    return run
