"""Which implementation computes an operator: ``cuda``, ``numba``, ``formula`` or ``emulated``."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

from .. import native

#: backend -> (the device it needs, or None for any; the module that has its four functions)
BACKENDS: dict[str, tuple[str | None, str]] = {
    "cuda": ("cuda", "by_native"),
    "numba": ("cpu", "by_numba"),
    "formula": (None, "by_formula"),
    "emulated": ("cpu", "by_native"),
}


def implementation(backend: str) -> ModuleType:
    """The module with ``deform_conv2d``, ``ms_deform_attn`` and their ``_backward``."""
    return import_module(f"{__name__}.{BACKENDS[backend][1]}")


def present() -> list[str]:
    """The backends that can run on this machine."""
    have = {
        "cuda": torch.cuda.is_available() and native.available("cuda"),
        "emulated": native.available("emulated"),
    }
    return [backend for backend in BACKENDS if have.get(backend, True)]


@torch.compiler.assume_constant_result
def choose(backend: str | None, device: torch.device) -> str:
    """The backend to run on ``device``: the one named, else the fastest one there.

    CPU tensors go to ``numba``. CUDA tensors go to ``cuda``, or, where the native code is missing, to
    ``formula`` with one warning that says why. Other devices go to ``formula``.

    Raises:
        ValueError: ``backend`` is unknown, or needs tensors on another device.
        RuntimeError: ``backend`` is named, but not built on this machine.
    """
    if backend is None:
        return _fastest(device.type)
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}, or None")
    needs = BACKENDS[backend][0]
    if needs not in (None, device.type):
        raise ValueError(f"backend {backend!r} needs tensors on {needs}; these are on {device.type}")
    if backend in ("cuda", "emulated") and not native.available(backend):
        raise RuntimeError(f"backend {backend!r} is missing: {native.why_missing(backend)}")
    return backend


def _fastest(device_type: str) -> str:
    if device_type == "cpu":
        return "numba"
    if device_type == "cuda":
        if native.available("cuda"):
            return "cuda"
        _warn_of_missing_kernels()
    return "formula"


@cache
def _warn_of_missing_kernels() -> None:
    warnings.warn(
        f"the CUDA kernels are missing ({native.why_missing('cuda')}); the slow formula runs in their place",
        stacklevel=3,
    )
