"""The emulated kernels of these tests run in the debug build, which checks the bounds of every access."""

import ctypes
import os
from functools import cache

import pytest
import torch

os.environ.setdefault("DYHEAD_EMULATOR", "debug")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Run with this many threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def operators(request):
    """The native operators of each library that this machine can run."""
    from .native_operators import PLACES, NativeOperators  # here: DYHEAD_EMULATOR is set before torch is imported

    if request.param not in PLACES:
        pytest.skip(f"{request.param} kernels are not here")
    return NativeOperators(request.param)


@pytest.fixture
def no_openmp(monkeypatch):
    """Call it, and PyTorch's library of OpenMP cannot be found, as on macOS and Windows."""
    from dyhead_lab.ops.cpu import threads as shared_threads

    def missing(path):
        raise OSError(f"{path}: cannot open shared object file")

    def hide():
        monkeypatch.setattr(ctypes, "CDLL", missing)
        monkeypatch.setattr(shared_threads, "_openmp", cache(shared_threads._openmp.__wrapped__))

    return hide


@pytest.fixture(params=["openmp", "numba"])
def pool(request, no_openmp):
    """Whose threads help."""
    if request.param == "numba":
        no_openmp()
    return request.param
