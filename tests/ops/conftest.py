"""The emulated kernels of these tests run in the debug build, which checks the bounds of every access."""

import os

import pytest
import torch

os.environ.setdefault("DYHEAD_EMULATOR", "debug")


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    """Run with this many threads, whatever the machine has, and share out what is small as well."""
    monkeypatch.setattr("dyhead_lab.ops.cpu.threads.FEW", 0)
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
