"""The levels that an attention reads: two small tensors of numbers, checked, and brought to where code can read them.

Kernels get the numbers with their parameters, so they are read on the CPU. Level tensors that lie there cost nothing;
on a GPU the first reading waits for it.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from . import checks


class Levels:
    """Reads level tensors. Those on a GPU that were read last are not read again: the layers of a model share them."""

    _seen: tuple[tuple[weakref.ref[Tensor], ...], tuple[int, ...], tuple[Tensor, Tensor]] | None = None

    def read(self, spatial_shapes: Tensor, level_start_index: Tensor, N: int) -> tuple[Tensor, Tensor]:
        """Both tensors on the CPU.

        Raises:
            ValueError: levels that do not add up to ``N`` tokens.
            RuntimeError: they lie on a GPU and were not read before the capture of a CUDA graph, which cannot wait.
        """
        tensors = spatial_shapes, level_start_index
        if not any(t.is_cuda for t in tensors):
            checks.levels(*tensors, N)
            return tensors
        counted = not any(t.is_inference() for t in tensors)  # these count no versions
        state = (*(t._version for t in tensors), N) if counted else ()
        seen = self._seen  # read once: another thread may write it
        if counted and seen and seen[1] == state and all(r() is t for r, t in zip(seen[0], tensors, strict=True)):
            return seen[2]
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "spatial_shapes and level_start_index lie on the GPU and are new: reading them would wait for it, "
                "which the capture of a CUDA graph forbids. Leave them on the CPU, or run the model once before"
            )
        on_cpu = spatial_shapes.cpu(), level_start_index.cpu()
        checks.levels(*on_cpu, N)
        if counted:
            self._seen = tuple(map(weakref.ref, tensors)), state, on_cpu
        return on_cpu
