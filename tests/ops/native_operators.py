"""The native operators where they run: under the emulator, and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dyhead_lab.ops import native

#: The backends whose library is here.
PLACES = ["emulated"] * native.built("emulated") + ["cuda"] * native.available("cuda")


class NativeOperators:
    """``torch.ops.dyhead_native`` of one backend. Tensors are taken from the CPU, and results are brought there.

    The emulator runs in its debug build, which refuses an access outside a tensor.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.device = "cuda" if backend == "cuda" else "cpu"
        if backend == "cuda":
            native.load(backend)
        self._namespace = torch.ops.dyhead_native if backend == "cuda" else native.debug_operators()

    def _there(self, argument: Any) -> Any:
        """Level tables stay on the CPU: kernels get them by value."""
        is_table = isinstance(argument, Tensor) and argument.dtype == torch.int64
        return argument.to(self.device) if isinstance(argument, Tensor) and not is_table else argument

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator = getattr(self._namespace, name)

        def run(*arguments: Any, **settings: Any) -> Any:
            found = operator(*map(self._there, arguments), **settings)
            if isinstance(found, bool):
                return found
            return found.cpu() if isinstance(found, Tensor) else tuple(tensor.cpu() for tensor in found)

        return run
