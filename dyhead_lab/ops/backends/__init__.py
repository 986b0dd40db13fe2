"""Which implementation computes an operator: ``cuda``, ``numba``, ``formula`` or ``emulated``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch

from .. import native
from . import by_formula, by_native


@cache
def _by_numba() -> ModuleType:
    from . import by_numba  # here, because Numba takes a second to import, and not every program calls an operator

    return by_numba


class Backend(NamedTuple):
    """One way to compute both operators.

    Attributes:
        device: the type of the device where tensors must be, or None for any.
        functions: gives the module with ``deform_conv2d``, ``ms_deform_attn`` and their ``_backward``.
    """

    device: str | None
    functions: Callable[[], ModuleType]


BACKENDS = {
    "cuda": Backend("cuda", lambda: by_native),  # the kernels of csrc on a GPU
    "numba": Backend("cpu", _by_numba),  # the production CPU path, ops/cpu
    "formula": Backend(None, lambda: by_formula),  # the oracle
    "emulated": Backend("cpu", lambda: by_native),  # the kernels of csrc under the emulator
}


def implementation(backend: str) -> ModuleType:
    """The module with ``deform_conv2d``, ``ms_deform_attn`` and their ``_backward``."""
    return BACKENDS[backend].functions()


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

    CPU tensors go to ``numba``. CUDA tensors go to ``cuda``, or, where the native code is missing or does not run on
    that GPU, to ``formula`` with one warning that says why. Other devices go to ``formula``.

    Raises:
        ValueError: ``backend`` is unknown, or needs tensors on another device.
        RuntimeError: ``backend`` is named, but not built on this machine.
    """
    if backend is None:
        return _fastest(device)
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}, or None")
    needs = BACKENDS[backend].device
    if needs not in (None, device.type):
        raise ValueError(f"backend {backend!r} needs tensors on {needs}; these are on {device.type}")
    if backend in ("cuda", "emulated") and not native.available(backend, device.index):
        raise RuntimeError(f"backend {backend!r} is missing: {native.why_missing(backend, device.index)}")
    return backend


def _fastest(device: torch.device) -> str:
    if device.type == "cpu":
        return "numba"
    if device.type == "cuda":
        problem = native.why_missing("cuda", device.index)
        if problem is None:
            return "cuda"
        _warn_of_missing_kernels(problem)
    return "formula"


@cache
def _warn_of_missing_kernels(problem: str) -> None:
    warnings.warn(f"the CUDA kernels cannot run ({problem}); the slow formula runs in their place", stacklevel=4)
