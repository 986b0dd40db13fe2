"""The kernels at the sizes of a detector: numbers, runs side by side on two streams, and more than 2^31 elements.

On a GPU. Under the emulator the same tests run on small maps, in two orders of threads, so that they are known to run.

What atomics sum may differ in its last bits from run to run; nothing else may.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch

from dyhead_lab.ops import emulator, ms_deform_attn, native
from dyhead_lab.ops.bench import measure

from .cases import BACKENDS, Attention, Conv, answers, distance
from .native_operators import NativeOperators

#: On a GPU; under the emulator.
CONVOLUTION = Conv(B=1, C=256, Co=256, size=(100, 168)), Conv(B=1, C=32, Co=8, size=(12, 11))
ATTENTION = (
    Attention(levels=((100, 167), (50, 84), (25, 42), (13, 21)), B=1, Q=22223, M=8, P=4, D=32),
    Attention(levels=((9, 7), (5, 4)), B=1, Q=83, M=2, P=4, D=32),
)
#: Relative norm. Factors have 8, 11 and 24 bits, 11 with TF32; results are rounded once.
NEAR = {"bfloat16": 4e-3, "float16": 1e-3, "float32": 2e-6, "tf32": 1e-3}
#: What atomics sum.
IN_ANY_ORDER = ("grad_input", "grad_value")


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request):
    if request.param not in BACKENDS:
        pytest.skip(f"{request.param} kernels are not here")
    return request.param


def drawn(cases, backend: str, dtype: torch.dtype):
    """The case of this backend, and its tensors."""
    case = cases[backend == "emulated"]
    return case, case.tensors(dtype, "cuda" if backend == "cuda" else "cpu")


@pytest.mark.parametrize("name", NEAR)
@pytest.mark.parametrize("cases", [CONVOLUTION, ATTENTION], ids=["conv", "attention"])
def test_fast_kernels_against_float64(backend, cases, name):
    """From the same numbers: the exact answer sees what the kernels see."""
    dtype = torch.float32 if name == "tf32" else getattr(torch, name)
    if cases is CONVOLUTION and not NativeOperators(backend).multiplies(dtype):
        pytest.skip(f"this GPU's tensor cores do not multiply {dtype}")
    case, tensors = drawn(cases, backend, dtype)
    exact = answers(case, {key: t.double() for key, t in tensors.items()}, backend)
    with measure.tf32(name == "tf32"), native.use_kernels("fast"):
        got = answers(case, tensors, backend)
    assert {key: found for key, t in got.items() if (found := distance(t, exact[key])) > NEAR[name]} == {}


def beside_others(backend: str, turn: int) -> AbstractContextManager[object]:
    """A stream of its own while another one is busy; another order of threads."""
    if backend == "emulated":
        return emulator.shuffled(turn + 1)
    noise = torch.randn(2048, 2048, device="cuda")
    torch.cuda.synchronize()
    for _ in range(4):
        noise = noise @ noise
    return torch.cuda.stream(torch.cuda.Stream())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("cases", [CONVOLUTION, ATTENTION], ids=["conv", "attention"])
def test_runs_differ_in_what_atomics_sum_alone(backend, cases, dtype):
    case, tensors = drawn(cases, backend, dtype)
    first = answers(case, tensors, backend)
    for turn in range(1 if backend == "emulated" else 20):
        with beside_others(backend, turn):
            again = answers(case, tensors, backend)
        if backend == "cuda":
            torch.cuda.synchronize()
        changed = {key for key, t in again.items() if not torch.equal(t, first[key])}
        assert changed <= set(IN_ANY_ORDER)
        assert all(distance(again[key], first[key]) < 5e-3 for key in changed)


@pytest.mark.gpu
def test_more_than_2_31_elements():
    """The last pixel of the last image alone is 1: an index that wraps reads a zero, or writes elsewhere."""
    if "cuda" not in BACKENDS:
        pytest.skip("no GPU")
    B, H, W, M, D = 5, 2048, 1024, 8, 32
    value = torch.zeros(B, H * W, M, D, device="cuda", dtype=torch.bfloat16)
    value[-1, -1] = 1
    centre = torch.tensor([1 - 0.5 / W, 1 - 0.5 / H], device="cuda")
    location = centre.expand(B, 1, M, 1, 1, 2).contiguous()
    weight = torch.ones(B, 1, M, 1, 1, device="cuda")
    out = ms_deform_attn(value, torch.tensor([[H, W]]), torch.tensor([0]), location, weight, "cuda")
    assert torch.allclose(out[-1].float(), torch.ones(1, M * D, device="cuda"), atol=0.02)  # of a place in float32
    assert not out[:-1].any()
