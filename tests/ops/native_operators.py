"""The native operators where they run: under the emulator, and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
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

    def multiplies(self, dtype: torch.dtype) -> bool:
        """True if the tensor cores multiply this type: Turing's only float16. The emulated ones are Ampere's."""
        return self.backend == "emulated" or dtype == torch.float16 or torch.cuda.get_device_capability() >= (8, 0)

    def _there(self, argument: Any) -> Any:
        """Level tables stay on the CPU: kernels get them by value."""
        is_table = isinstance(argument, Tensor) and argument.dtype == torch.int64
        return argument.to(self.device) if isinstance(argument, Tensor) and not is_table else argument

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator = getattr(self._namespace, name)

        def run(*arguments: Any, **settings: Any) -> Any:
            """A fast convolution that this GPU has no tensor cores for is no case here."""
            is_fast = any(isinstance(argument, str) and argument == "fast" for argument in arguments)
            if is_fast and name.startswith("deform_conv2d") and not self.multiplies(arguments[0].dtype):
                pytest.skip(f"this GPU's tensor cores do not multiply {arguments[0].dtype}")
            found = operator(*map(self._there, arguments), **settings)
            if isinstance(found, bool):
                return found
            return found.cpu() if isinstance(found, Tensor) else tuple(tensor.cpu() for tensor in found)

        return run
